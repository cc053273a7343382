"""JPEG 2000 decoded at the smallest of its resolution levels that still has enough pixels."""

import io
import struct
from collections.abc import Callable

from mammo.imaging import codestreams

import cv2
import numpy as np
from PIL import Image

_START, _SIZE, _CODING, _OF_COMPONENT, _TILE = b"\xff\x4f", 0xFF51, 0xFF52, 0xFF53, 0xFF90


def decode(
    frame: bytes, enough: tuple[int, int], signed: bool
) -> tuple[np.ndarray, int, Callable[[np.ndarray], np.ndarray]] | None:
    """Decode a grey JPEG 2000 image at the smallest level with at least the height and width `enough`.

    A level is the low-pass image of the wavelet transform (ISO/IEC 15444-1, annex F), so that most of the data, those
    of the finer levels, are not decoded at all.

    Args:
        frame: a codestream or JP2 file.
        enough: height and width in pixels.
        signed: whether the values are signed by the DICOM header.

    Returns:
        The pixels, uint8 or uint16, the number of times that height and width were halved, and what turns a pixel into
        the value that was coded; None if no smaller level can serve.

    """
    frame = codestreams.out_of_boxes(frame)
    described = _described(frame)
    if described is None:
        return None
    height, width, levels, bits, coded_signed = described
    factor = min(height // enough[0], width // enough[1])
    halvings = min(factor.bit_length() - 1, levels) if factor else 0
    # Values wrapped around by another notion of their sign cannot be averaged.
    if halvings < 1 or bits > 16 or coded_signed != signed:
        return None
    picture = Image.open(io.BytesIO(frame), formats=("JPEG2000",))
    if picture.mode not in ("L", "I;16"):
        return None
    # Pillow rounds the reduced size, OpenJPEG rounds it up, and Pillow refuses the difference: a multiple has none.
    across, down = (-(-side >> halvings) << halvings for side in picture.size)
    picture._size = across, down
    picture.reduce = halvings  # type: ignore[method-assign, assignment]
    try:
        pixels = np.asarray(picture)
    except OSError:  # damaged, which decoding in full will tell
        return None
    # Pillow shifts the values to fill 8 or 16 bits, and adds half the range to signed ones.
    shift, offset = 8 * pixels.dtype.itemsize - bits, 2 ** (bits - 1) if coded_signed else 0
    return pixels, halvings, lambda index: (index.astype(np.int64) >> shift) - offset


def _described(frame: bytes) -> tuple[int, int, int, int, bool] | None:
    """Return height, width, number of halvings, bits and signedness from the main header; None if it has no such."""
    if not frame.startswith(_START + struct.pack(">H", _SIZE)):
        return None
    place, size, levels = len(_START), None, []
    try:
        while (kind := struct.unpack_from(">H", frame, place)[0]) != _TILE:
            if kind == _SIZE:
                right, bottom, left, top = struct.unpack_from(">4I", frame, place + 6)
                components, precision = struct.unpack_from(">HB", frame, place + 38)
                if (left, top) != (0, 0) or components != 1:
                    return None
                size = (bottom, right, (precision & 0x7F) + 1, precision > 0x7F)
            elif kind == _CODING:
                levels.append(frame[place + 9])
            elif kind == _OF_COMPONENT:
                levels.append(frame[place + 6])
            place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    except (struct.error, IndexError):
        return None
    return (size[0], size[1], min(levels), size[2], size[3]) if size and levels else None


def centred(image: np.ndarray, full: tuple[int, int], halvings: int) -> np.ndarray:
    """Return an image whose pixels lie where those of a reduced image of the same area would.

    The wavelet's low-pass samples lie on the even pixels: those after n halvings on every 2ⁿ-th one, (2ⁿ - 1) / 2 full
    pixels before the centre of the area that each stands for. The image is interpolated at these centres.

    Args:
        image: float32, (height, width), decoded at a reduced level.
        full: height and width of the full image.
        halvings: of its height and width.

    """
    height, width = image.shape
    down, across = full[0] / height, full[1] / width  # full pixels per pixel; below 2**halvings at an odd size
    scale = 2**halvings
    inverse = np.array([[across / scale, 0, (across - 1) / 2 / scale], [0, down / scale, (down - 1) / 2 / scale]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, inverse, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
