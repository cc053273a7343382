"""Reader of PGM and PPM files (netpbm.sourceforge.net/doc), binary and plain.

Pillow reads those with another maximum than 255 or 65,535, and plain ones, pixel by pixel in Python: half a minute for
a full-field mammogram.
"""

import re

from mammo.imaging import limits
from mammo.imaging.limits import DamagedError, UnreadableError

import numpy as np

_TOKEN = rb"(?:\s|#[^\r\n]*[\r\n])+([0-9]{1,10})"
_HEADER = re.compile(rb"P([2356])" + 3 * _TOKEN + rb"\s")
_COMMENT = re.compile(rb"#[^\r\n]*")
PLAIN, COLOUR = (2, 3), (3, 6)  # formats
LONGEST_HEADER = 16_000  # bytes, comments included
LONGEST_NUMBER = 20  # bytes of plain text per sample; two or three times what is usual


def is_netpbm(data: bytes) -> bool:
    """Return whether the data begin like a PGM or PPM file."""
    return data[:1] == b"P" and data[1:2] in (b"2", b"3", b"5", b"6") and data[2:3] in b" \t\r\n#\x0b\x0c"


def header(data: bytes) -> tuple[int, int, int, int, int]:
    """Return the format (2, 3, 5 or 6), width, height, maximum and the place of the samples.

    Raises:
        UnreadableError: the header is none, or declares a size beyond `limits`.

    """
    found = _HEADER.match(data, 0, LONGEST_HEADER)
    if found is None:
        raise UnreadableError("is damaged: the PGM has no complete header")
    kind, width, height, highest = (int(number) for number in found.groups())
    limits.check_size(width, height, 3 if kind in COLOUR else 1, 1 if highest < 256 else 2)
    if not 0 < highest < 65536:
        raise UnreadableError(f"is damaged: the PGM declares {highest} grey levels")
    return kind, width, height, highest, found.end()


def read(data: bytes) -> np.ndarray:
    """Return the samples: (height, width) or (height, width, 3), uint8; uint16 for grey of more than 8 bits.

    Samples are scaled so that the maximum of the file is 255 or 65,535, and rounded to the nearest integer.

    Raises:
        UnreadableError: a header that is none, a size beyond `limits`, or too few samples.

    """
    kind, width, height, highest, start = header(data)
    components = 3 if kind in COLOUR else 1
    sample = np.dtype(np.uint8 if highest < 256 else ">u2")
    number = width * height * components
    if kind in PLAIN:
        values = _plain(data[start:], number, highest)
    else:
        have = len(data) - start
        if have < number * sample.itemsize:
            raise UnreadableError(f"is truncated: {have:,} of {number * sample.itemsize:,} bytes of pixels")
        values = np.frombuffer(data, sample, number, start)
    shape = (height, width, 3) if components == 3 else (height, width)
    return _scaled(values, highest, 255 if components == 3 or highest < 256 else 65535).reshape(shape)


def _plain(text: bytes, number: int, highest: int) -> np.ndarray:
    limits.at_most(number, limits.MAX_PLAIN, "samples in plain text")
    if len(text) > number * LONGEST_NUMBER + LONGEST_HEADER:
        raise UnreadableError(f"holds {len(text):,} bytes of plain text for {number:,} samples")
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    if text.translate(None, b"0123456789 \t\r\n\x0b\x0c"):
        raise DamagedError("is damaged: the plain PGM holds other characters than digits")
    values = np.fromstring(text, np.int64, number, sep=" ") if text.strip() else np.zeros(0, np.int64)
    if len(values) < number:
        raise UnreadableError(f"is truncated: {len(values):,} of {number:,} samples")
    if values.max() > highest or values.min() < 0:
        raise DamagedError("is damaged: the plain PGM holds more than its maximum")
    return values.astype(np.uint16)


def _scaled(values: np.ndarray, highest: int, top: int) -> np.ndarray:
    kind = np.uint8 if top == 255 else np.uint16
    if highest == top:
        return values if values.dtype.newbyteorder("=") == kind else values.astype(kind)
    levels = np.arange(256 if highest < 256 else 65536)
    return np.minimum(np.rint(levels / highest * top), top).astype(kind)[values]
