"""Mammograms made alike: white on black, nothing but the breast, filling the image, its chest wall to the left."""

from dataclasses import dataclass

from mammo.core.settings import Canonical
from mammo.imaging.appearance import is_inverted, marks_and_body

import cv2
import numpy as np

LOOK = 224  # pixels, height and width at which the breast is looked for: what `appearance` was tuned at
BRIDGE = 5  # of these pixels: what is narrower does not join the breast to a scanner's border or a line
SKIN = 2  # of these pixels kept around the breast: skin is darker than the threshold that finds it
EDGE = 0.1  # of the breast's width: the columns that are compared to find the chest wall


@dataclass(frozen=True)
class View:
    """What is done to one image, so that it can be done to its lesion mask as well."""

    steps: Canonical
    inverted: bool
    """Whether the image is inverted."""
    breast: np.ndarray | None
    """Where the breast is, uint8 of 0 and 1 at `LOOK` × `LOOK`; None where none was found: then nothing is done but to
    negate an inverted image."""
    mirrored: bool
    """Whether the chest wall was on the right."""


def view(image: np.ndarray, steps: Canonical) -> View:
    """Look at an image, uint8 (height, width), and decide what the steps do to it."""
    small = cv2.resize(image, (LOOK, LOOK), interpolation=cv2.INTER_AREA)
    inverted = is_inverted(small)
    breast = _breast(255 - small if inverted else small)
    return View(steps, inverted, breast, breast is not None and _chest_wall_right(breast))


def _breast(small: np.ndarray) -> np.ndarray | None:
    """The largest body part, its bridges to borders cut and its holes filled."""
    body = marks_and_body(small)[1].astype(np.uint8)
    body = cv2.morphologyEx(body, cv2.MORPH_OPEN, np.ones((BRIDGE, BRIDGE), np.uint8))
    count, parts, statistics, _ = cv2.connectedComponentsWithStats(body, connectivity=4)
    if count < 2:
        return None
    largest = (parts == 1 + int(np.argmax(statistics[1:, cv2.CC_STAT_AREA]))).astype(np.uint8)
    breast = cv2.dilate(largest, np.ones((2 * SKIN + 1, 2 * SKIN + 1), np.uint8))
    contours, _ = cv2.findContours(breast, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(breast, contours, -1, 1, cv2.FILLED)


def _chest_wall_right(breast: np.ndarray) -> bool:
    """More of the breast's rightmost than of its leftmost columns is breast: it is widest where it leaves the body."""
    across = np.flatnonzero(breast.any(axis=0))
    edge = max(round(EDGE * (across[-1] + 1 - across[0])), 1)
    left, right = across[0] + edge, across[-1] + 1 - edge
    return int(breast[:, right:].sum()) > int(breast[:, :left].sum())


def applied(image: np.ndarray, how: View, size: tuple[int, int], of_mask: bool = False) -> np.ndarray:
    """Take the steps of `how`.

    Args:
        image: uint8 (height, width), the image that was looked at or, with `of_mask`, a mask of the same geometry,
            which is neither negated nor blackened.
        how: of `view`.
        size: height and width of the result in pixels.
        of_mask: see above.

    Returns:
        uint8, `size`. A cropped breast keeps its aspect, lies at the left edge and in the middle of the height.

    """
    steps = how.steps
    if steps.right_inverted and how.inverted and not of_mask:
        image = 255 - image
    if how.breast is not None:
        breast = cv2.resize(how.breast, image.shape[::-1], interpolation=cv2.INTER_NEAREST)
        if steps.blacken_outside and not of_mask:
            image = image * breast
        if steps.crop:
            down, across = np.flatnonzero(breast.any(axis=1)), np.flatnonzero(breast.any(axis=0))
            image = image[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
        if steps.chest_wall_left and how.mirrored:
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
