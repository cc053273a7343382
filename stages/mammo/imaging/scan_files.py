"""Files of mammograms, of any format: which are some."""

import stat
from pathlib import Path

from mammo.core.files import IMAGE_SUFFIXES

DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = (*IMAGE_SUFFIXES, *DICOM_SUFFIXES)
MARK_AT, MARK = 128, b"DICM"  # PS3.10: a preamble of 128 bytes, then the prefix DICM


def is_dicom(path: Path) -> bool:
    """Return whether a file has the suffix .dcm or .dicom, or the DICM prefix."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    with path.open("rb") as file:
        return file.read(MARK_AT + len(MARK))[MARK_AT:] == MARK


def is_scan(path: Path) -> bool:
    """Return whether a file is an image or DICOM file by its name or, without a suffix, by the DICOM prefix.

    A number at the end of the name, as at the end of a UID, is no suffix. The content of files with a suffix is not
    looked at.
    """
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        unnamed = not path.suffix or path.suffix[1:].isdigit()
        return unnamed and stat.S_ISREG(path.stat().st_mode) and is_dicom(path)
    except OSError:
        return False
