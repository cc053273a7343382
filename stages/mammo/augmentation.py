"""Zoom, shift and rotation with the names and meanings of Keras' ImageDataGenerator, as one affine warp an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from mammo import settings
from mammo.randomness import generator

Fraction = Annotated[float, Field(ge=0, lt=1)]


class Augment(settings.Settings):
    """Section `augment` of params.yaml; 0 everywhere leaves the images as they are."""

    rotation_range: Annotated[float, Field(ge=0, le=180)]
    """Degrees, drawn from [-r, r]."""
    width_shift_range: Fraction
    """Share of the width, drawn from [-w, w]."""
    height_shift_range: Fraction
    """Share of the height, drawn from [-h, h]."""
    zoom_range: Fraction
    """Both zooms are drawn independently from [1 - z, 1 + z]; below 1 enlarges."""


@dataclass(frozen=True)
class Warp:
    """One draw, in the units of `ImageDataGenerator.apply_transform`."""

    theta: float = 0.0
    """Rotation in degrees."""
    tx: float = 0.0
    """Shift along the width in pixels."""
    ty: float = 0.0
    """Shift along the height in pixels."""
    zx: float = 1.0
    """Zoom along the width."""
    zy: float = 1.0
    """Zoom along the height."""


def draw(ranges: Augment, size: tuple[int, int], seed: int, epoch: int, index: int) -> Warp:
    """The warp of image `index` in `epoch`: the same whatever was drawn before.

    `width_shift_range` moves along the width, as its name and Keras' documentation say (Keras 3.15 itself draws it for
    the height).
    """
    random = generator(seed, "augment", epoch, index).uniform(-1, 1, 5)
    return Warp(
        theta=random[0] * ranges.rotation_range,
        tx=random[1] * ranges.width_shift_range * size[1],
        ty=random[2] * ranges.height_shift_range * size[0],
        zx=1 + random[3] * ranges.zoom_range,
        zy=1 + random[4] * ranges.zoom_range,
    )


def matrix(warp: Warp, size: tuple[int, int]) -> np.ndarray:
    """From the coordinates (x, y) of a warped pixel to those in the image, about its centre; (2, 3).

    Rotation, then shift, then zoom, multiplied in ImageDataGenerator's order.
    """
    angle = np.deg2rad(warp.theta)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([warp.zx, warp.zy])
    shift = rotation @ [warp.tx, warp.ty]
    centre = np.array([size[1] / 2 - 0.5, size[0] / 2 - 0.5])
    return np.column_stack([linear, shift + centre - linear @ centre])


def apply(image: np.ndarray, warp: Warp) -> np.ndarray:
    """Warp an image, uint8 or float32 (height, width); bilinear, outside filled with the nearest pixel."""
    height, width = image.shape
    return cv2.warpAffine(
        image,
        matrix(warp, (height, width)),
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
        hint=cv2.ALGO_HINT_APPROX,  # a third less time; no pixel of a mammogram was found to differ
    )


def batch(images: np.ndarray, indices: Sequence[int], ranges: Augment, seed: int, epoch: int) -> np.ndarray:
    """The augmented images at `indices` of an array (n, height, width) as uint8 (batch, height, width, 1)."""
    size = images.shape[1:]
    out = np.empty((len(indices), *size, 1), np.uint8)
    for row, index in enumerate(indices):
        out[row, :, :, 0] = apply(images[index], draw(ranges, size, seed, epoch, int(index)))
    return out
