"""Properties of an image file as delivered that no pixel of the prepared image holds."""

import hashlib
from pathlib import Path

from mammo.core.dataset import Delivered
from mammo.imaging import dicom, images

DIGITS = 12  # of the hash of the quantisation tables


def delivered(image: str, path: Path) -> Delivered:
    """Return the properties of the readable file `path`, called `image` in the index; decodes no pixel."""
    if dicom.is_dicom(path):
        height, width, encoding_of_header = dicom.described(path)
        return Delivered(image, path.stat().st_size, height, width, encoding_of_header)
    content = images.content(path)
    with images.opened(content) as picture:
        width, height = picture.size
        encoding = [picture.format or "", picture.mode]
        if tables := getattr(picture, "quantization", None):
            encoding.append(hashlib.sha256(repr(sorted(tables.items())).encode()).hexdigest()[:DIGITS])
    return Delivered(image, len(content), height, width, " ".join(encoding))
