"""Properties of an image file as delivered that no pixel of the prepared image holds."""

import hashlib
from functools import lru_cache

from mammo.imaging import codestreams, images
from mammo.imaging.scanned import Properties

DIGITS = 12  # of the hash of the quantisation tables
REMEMBERED = 64  # headers of JPEG files, of which a set has few


def of_image(content: bytes, stream: codestreams.Jpeg | None = None) -> Properties:
    """Return the properties of a readable image file by its bytes; decodes no pixel.

    Args:
        content: of the file.
        stream: the header of a JPEG, if it is known already.

    """
    if content.startswith(images.JPEG):
        stream = stream or codestreams.jpeg(content)
        header = stream.plain or content[: stream.start]
        told = _of_jpeg(header) if len(header) == stream.start else _told(header)
    else:
        told = _told(content)
    return Properties(len(content), *told)


def _told(content: bytes) -> tuple[int, int, str]:
    """Return height, width and encoding."""
    with images.opened(content) as picture:
        width, height = picture.size
        encoding = [picture.format or "", picture.mode]
        if tables := getattr(picture, "quantization", None):
            encoding.append(hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:DIGITS])
    return height, width, " ".join(encoding)


_of_jpeg = lru_cache(REMEMBERED)(_told)
