"""Canonicalisation of mammograms: white on black, only the breast, cropped to it, chest wall on the left."""

from dataclasses import dataclass, fields
from typing import Protocol

from mammo.imaging import appearance, connected

import cv2
import numpy as np

LOOK = 224  # height and width in pixels at which the breast is segmented; `appearance` was tuned at it
BRIDGE = 5  # of these pixels: narrower bridges from the breast to a scanner's border or a line are cut
SKIN = 2  # of these pixels added around the breast: skin is darker than the threshold of the segmentation
CLEAR = 1.2  # times as much breast along one side as along the other: the side of the chest wall is beyond doubt
EDGE = 0.1  # share of the breast's width: columns that are compared to find the chest wall


class Steps(Protocol):
    """The steps to apply: the section `preprocess.canonical` of params.yaml, or `Chosen` where it is not loaded."""

    @property
    def right_inverted(self) -> bool:
        """Negate inverted images."""

    @property
    def blacken_outside(self) -> bool:
        """Blacken everything outside the breast."""

    @property
    def crop(self) -> bool:
        """Crop to the breast."""

    @property
    def chest_wall_left(self) -> bool:
        """Mirror images whose chest wall is on the right."""

    @property
    def any(self) -> bool:
        """Whether any step is enabled."""


@dataclass(frozen=True)
class Chosen:
    """Steps that no settings have to be loaded for; none by default."""

    right_inverted: bool = False
    blacken_outside: bool = False
    crop: bool = False
    chest_wall_left: bool = False

    @property
    def any(self) -> bool:
        """Whether any step is enabled."""
        return self.right_inverted or self.blacken_outside or self.crop or self.chest_wall_left


PLAIN = Chosen()
STEPS = tuple(field.name for field in fields(Chosen))


@dataclass(frozen=True)
class View:
    """Result of the segmentation of one image, to transform the image and its lesion mask in the same way."""

    steps: Steps
    inverted: bool
    """Whether the image is inverted."""
    breast: np.ndarray | None
    """Mask of the breast, uint8, 0 or 1, `LOOK` × `LOOK`; None if no breast was found, in which case negation is the
    only step."""
    mirrored: bool
    """Whether the chest wall is on the right."""


def view(image: np.ndarray, steps: Steps) -> View:
    """Segment an image, uint8, (height, width), in preparation for the steps."""
    small = cv2.resize(image, (LOOK, LOOK), interpolation=cv2.INTER_AREA)
    inverted = appearance.is_inverted(small)
    breast = _breast(255 - small if inverted else small)
    return View(steps, inverted, breast, breast is not None and _chest_wall_right(breast))


def _breast(small: np.ndarray) -> np.ndarray | None:
    """Return the largest body part, without bridges to borders and with its holes filled; None if there is none."""
    bridge = np.ones((BRIDGE, BRIDGE), np.uint8)
    body = cv2.morphologyEx(connected.UNVISITED * appearance.body(small), cv2.MORPH_OPEN, bridge)
    found = connected.parts(body, connectivity=4)
    if len(found.statistics) < 2:
        return None
    largest = 1 + int(np.argmax(found.statistics[1:, cv2.CC_STAT_AREA]))
    breast = found.where(np.arange(len(found.statistics)) == largest)
    breast = cv2.dilate(breast, np.ones((2 * SKIN + 1, 2 * SKIN + 1), np.uint8))
    contours, _ = cv2.findContours(breast, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(breast, contours, -1, 1, cv2.FILLED)


def _chest_wall_right(breast: np.ndarray) -> bool:
    """Return whether the chest wall is on the right: the breast is higher at the chest wall than at the nipple."""
    left, right = _at_sides(breast)
    return right > left


def chest_wall(image: np.ndarray) -> str:
    """Return the side of an image, uint8, (height, width), on which the chest wall is, as `clear_side` does."""
    return clear_side(view(image, PLAIN).breast)


def clear_side(breast: np.ndarray | None) -> str:
    """Return `left` or `right`, where the chest wall is by the mask of the breast; empty where that is not clear."""
    left, right = _at_sides(breast) if breast is not None else (0, 0)
    if left > CLEAR * right:
        return "left"
    return "right" if right > CLEAR * left else ""


def _at_sides(breast: np.ndarray) -> tuple[int, int]:
    """Return the number of pixels of the breast in its outermost columns on the left and on the right."""
    across = np.flatnonzero(breast.any(axis=0))
    edge = max(round(EDGE * (across[-1] + 1 - across[0])), 1)
    left, right = across[0] + edge, across[-1] + 1 - edge
    return int(breast[:, across[0] : left].sum()), int(breast[:, right:].sum())


def applied(image: np.ndarray, geometry: View, size: tuple[int, int], of_mask: bool = False) -> np.ndarray:
    """Apply the steps to an image or mask.

    Args:
        image: uint8, (height, width), the image passed to `view` or, with `of_mask`, a mask of the same geometry.
        geometry: the result of `view`.
        size: height and width of the result in pixels.
        of_mask: whether `image` is a mask, which is neither negated nor blackened.

    Returns:
        uint8, `size`. A cropped breast keeps its aspect ratio, is placed at the left edge and centred vertically.

    """
    steps = geometry.steps
    if steps.right_inverted and geometry.inverted and not of_mask:
        image = 255 - image
    if geometry.breast is not None:
        breast = cv2.resize(geometry.breast, image.shape[::-1], interpolation=cv2.INTER_NEAREST)
        if steps.blacken_outside and not of_mask:
            image = image * breast
        if steps.crop:
            down, across = np.flatnonzero(breast.any(axis=1)), np.flatnonzero(breast.any(axis=0))
            image = image[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
        if steps.chest_wall_left and geometry.mirrored:
            image = np.ascontiguousarray(image[:, ::-1])
        if steps.crop:
            return _fitted(image, size)
    return cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)


def _fitted(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    height, width = (max(round(side * scale), 1) for side in image.shape)
    top = (size[0] - height) // 2
    out = np.zeros(size, np.uint8)
    out[top : top + height, :width] = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return out
