"""Properties of an image file as delivered that no pixel of the prepared image holds."""

import hashlib
from functools import lru_cache
from pathlib import Path

from mammo.core.dataset import Delivered
from mammo.imaging import codestreams, images, scan_files

DIGITS = 12  # of the hash of the quantisation tables
REMEMBERED = 64  # headers of JPEG files, of which a set has few


def delivered(image: str, path: Path) -> Delivered:
    """Return the properties of the readable file `path`, called `image` in the index; decodes no pixel."""
    if scan_files.is_dicom(path):
        from mammo.imaging import dicom  # loads pydicom

        height, width, encoding_of_header = dicom.described(path)
        return Delivered(image, path.stat().st_size, height, width, encoding_of_header)
    content = images.content(path)
    if content.startswith(images.JPEG):
        stream = codestreams.jpeg(content)
        header = stream.plain or content[: stream.start]
        properties = _of_jpeg(header) if len(header) == stream.start else _properties(header)
    else:
        properties = _properties(content)
    return Delivered(image, len(content), *properties)


def _properties(content: bytes) -> tuple[int, int, str]:
    """Return height, width and encoding."""
    with images.opened(content) as picture:
        width, height = picture.size
        encoding = [picture.format or "", picture.mode]
        if tables := getattr(picture, "quantization", None):
            encoding.append(hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:DIGITS])
    return height, width, " ".join(encoding)


_of_jpeg = lru_cache(REMEMBERED)(_properties)
