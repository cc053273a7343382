"""What reading the file of a mammogram gives."""

from typing import NamedTuple

import numpy as np


class Remark(NamedTuple):
    """Something about a readable file that the user should know."""

    kind: str
    """Also the kind of the finding of the audit."""
    text: str


class Properties(NamedTuple):
    """What the file tells beside its pixels; the columns of files.csv after the first."""

    bytes: int
    """Size of the file."""
    height: int
    width: int
    """Size of the image in pixels, before it is resized."""
    encoding: str
    """See `core.dataset.Delivered`."""


class Scanned(NamedTuple):
    """A file that was read."""

    image: np.ndarray
    """uint8, (height, width)."""
    remarks: list[Remark]
    """Reasons why it may not be a mammogram for presentation."""
    properties: Properties
