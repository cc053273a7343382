"""Zoom, shift, rotation and flips as in Keras' ImageDataGenerator, one affine warp per image; intensity, erasing."""

from collections.abc import Sequence
from dataclasses import dataclass

from mammo.core.randomness import generator
from mammo.core.settings import Augment

import cv2
import numpy as np

ERASED = (0.1, 1 / 3)  # smallest and largest rectangle, as a share of each side


@dataclass(frozen=True)
class Warp:
    """A random transform, in the units of `ImageDataGenerator.apply_transform`."""

    theta: float = 0.0
    """Rotation in degrees."""
    tx: float = 0.0
    """Shift along the width in pixels."""
    ty: float = 0.0
    """Shift along the height in pixels."""
    zx: float = 1.0
    """Zoom along the width."""
    zy: float = 1.0
    """Zoom along the height; negative zooms flip."""


def draw(ranges: Augment, size: tuple[int, int], seed: int, epoch: int, index: int) -> Warp:
    """Draw the warp of image `index` in `epoch`, independent of all other draws.

    `width_shift_range` shifts along the width, as in Keras' documentation; Keras 3.15 itself applies it to the height.
    """
    random = generator(seed, "augment", epoch, index).uniform(-1, 1, 7)
    return Warp(
        theta=random[0] * ranges.rotation_range,
        tx=random[1] * ranges.width_shift_range * size[1],
        ty=random[2] * ranges.height_shift_range * size[0],
        zx=(1 + random[3] * ranges.zoom_range) * (-1 if ranges.horizontal_flip and random[5] > 0 else 1),
        zy=(1 + random[4] * ranges.zoom_range) * (-1 if ranges.vertical_flip and random[6] > 0 else 1),
    )


def matrix(warp: Warp, size: tuple[int, int]) -> np.ndarray:
    """Return the matrix, (2, 3), from pixels (x, y) of the warped image to pixels of the original, about the centre.

    Rotation, shift and zoom are multiplied in ImageDataGenerator's order.
    """
    angle = np.deg2rad(warp.theta)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([warp.zx, warp.zy])
    shift = rotation @ [warp.tx, warp.ty]
    centre = np.array([size[1] / 2 - 0.5, size[0] / 2 - 0.5])
    return np.column_stack([linear, shift + centre - linear @ centre])


def apply(image: np.ndarray, warp: Warp) -> np.ndarray:
    """Warp an image, uint8 or float32 (height, width); bilinear, filled with the nearest pixel outside."""
    height, width = image.shape
    return cv2.warpAffine(
        image,
        matrix(warp, (height, width)),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
        hint=cv2.ALGO_HINT_APPROX,  # a third faster; no pixel differed in the mammograms tested
    )


def restyled(image: np.ndarray, ranges: Augment, seed: int, epoch: int, index: int) -> np.ndarray:
    """Change gamma and brightness at random, and sometimes erase a rectangle (Zhong et al. 2020)."""
    random = generator(seed, "restyle", epoch, index)
    power, gain, chance, *place = random.uniform(-1, 1, 7)
    if ranges.intensity_range:
        curve = (np.arange(256) / 255) ** np.exp(power * ranges.intensity_range)
        curve *= 1 + gain * ranges.intensity_range / 2
        image = cv2.LUT(image, np.rint(255 * np.minimum(curve, 1)).astype(np.uint8))
    if (chance + 1) / 2 < ranges.erase:
        down, across, top, left = (np.array(place) + 1) / 2
        sides = [
            round(side * (ERASED[0] + part * (ERASED[1] - ERASED[0])))
            for side, part in zip(image.shape, (down, across), strict=True)
        ]
        first = [
            int(part * (side - erased)) for side, erased, part in zip(image.shape, sides, (top, left), strict=True)
        ]
        image = image.copy()
        image[first[0] : first[0] + sides[0], first[1] : first[1] + sides[1]] = 0
    return image


def batch(
    images: np.ndarray, indices: Sequence[int] | np.ndarray, ranges: Augment, seed: int, epoch: int
) -> np.ndarray:
    """Return the augmented images at `indices` of an array (n, height, width) as uint8 (batch, height, width, 1)."""
    size = images.shape[1:]
    styled = ranges.intensity_range > 0 or ranges.erase > 0
    out = np.empty((len(indices), *size, 1), np.uint8)
    for row, index in enumerate(indices):
        image = apply(images[index], draw(ranges, size, seed, epoch, int(index)))
        out[row, :, :, 0] = restyled(image, ranges, seed, epoch, int(index)) if styled else image
    return out
