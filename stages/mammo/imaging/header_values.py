"""What the headers of DICOM files say of a mammogram; names and dates of birth are never read."""

import re
from pathlib import Path
from typing import Any

from mammo.core.set_description import HEADER_NAMES
from mammo.imaging.limits import UnreadableError

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "age": ("PatientAge",),
    "implant": ("BreastImplantPresent",),
    "intent": ("PresentationIntentType",),
    "laterality": ("ImageLaterality", "Laterality"),
    "manufacturer": ("Manufacturer",),
    "model": ("ManufacturerModelName",),
    "patient_id": ("PatientID",),
    "pixel_spacing": ("ImagerPixelSpacing", "PixelSpacing"),
    "series": ("SeriesInstanceUID",),
    "series_description": ("SeriesDescription",),
    "sop": ("SOPInstanceUID",),
    "study": ("StudyInstanceUID",),
    "view": ("ViewPosition", "PatientOrientation"),
}
"""DICOM attributes of each name that a description may use; the first that is not empty counts."""
assert set(ATTRIBUTES) == set(HEADER_NAMES)
TAGS = [attribute for attributes in ATTRIBUTES.values() for attribute in attributes]
DIRECTIONS = re.compile(r"[APLRHF]+")
"""PatientOrientation holds directions, as in `A\\F`; scanned films have the view in it (CBIS-DDSM: `MLO`)."""


def read(path: Path) -> dict[str, str]:
    """Return what the header of a DICOM file says, by the names of `ATTRIBUTES`; empty where it says nothing.

    The pixels are not read. `patient_id` serves to find the rows of a table and is kept nowhere.

    Raises:
        UnreadableError: the file cannot be read as DICOM; the message never quotes the file.

    """
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("is empty (0 bytes)")
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        return {name: _first(dataset, attributes) for name, attributes in ATTRIBUTES.items()}
    except InvalidDicomError:
        raise UnreadableError("is not a DICOM file: the prefix DICM is missing") from None
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or 'reading fails'}") from None
    except UnreadableError:
        raise
    except Exception:  # damaged bytes can cause any exception in pydicom
        raise UnreadableError("is damaged: its DICOM header cannot be read") from None


def _first(dataset: Dataset, attributes: tuple[str, ...]) -> str:
    for attribute in attributes:
        text = _text(dataset.get(attribute))
        is_view = attribute != "PatientOrientation" or not DIRECTIONS.fullmatch(text.replace("\\", ""))
        if text and is_view:
            return text
    return ""


def _text(value: Any) -> str:
    """Return a value as one line; several parts are joined with backslashes as in DICOM."""
    if value is None:
        return ""
    several = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
    text = "\\".join(map(str, value)) if several else str(value)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())
