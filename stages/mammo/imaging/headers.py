"""What the header of a mammogram says: its view, what sets it apart, and values for the description of a set."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo.core.wording import counted
from mammo.imaging.display import is_raw
from mammo.imaging.limits import UnreadableError
from mammo.imaging.scanned import Remark

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.uid import BreastTomosynthesisImageStorage

TAGS = (
    "SOPClassUID",
    "Modality",
    "ImageType",
    "PresentationIntentType",
    "Laterality",
    "ImageLaterality",
    "ViewPosition",
    "ViewCodeSequence",
    "PatientOrientation",
    "BreastImplantPresent",
    "EstimatedRadiographicMagnificationFactor",
    "WindowCenter",
    "VOILUTSequence",
)
"""Tags of this module; none contains a name, number, date or text about a patient."""

VIEWS = ("CC", "MLO", "ML", "LM", "LMO", "XCC", "XCCL", "XCCM", "FB", "SIO", "ISO", "AT", "CV")
"""Codes of projections (PS3.3 C.8.11.7, CID 4014)."""
MAGNIFIED = 1.3  # at least, of the geometric magnification: contact views have up to 1.1, magnification views from 1.5
_MODIFIERS = {
    "R-102D6": "magnification",
    "399163009": "magnification",
    "R-102D5": "implant_displaced",
    "399209000": "implant_displaced",
    "R-102D7": "spot_compression",
    "399055006": "spot_compression",
}
"""View modifiers by their SNOMED code (PS3.16 CID 4015), old and new."""


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
OF_ATTRIBUTES = [attribute for attributes in ATTRIBUTES.values() for attribute in attributes]
DIRECTIONS = re.compile(r"[APLRHF]+")
"""PatientOrientation holds directions, as in `A\\F`; scanned films have the view in it (CBIS-DDSM: `MLO`)."""


@dataclass(frozen=True)
class Header:
    """What the header says; a part is empty where it says nothing."""

    laterality: str
    """`R`, `L` or `B`."""
    view: str
    """One of `VIEWS`."""
    chest_wall: str
    """Side of the picture on which the chest wall should be: `left` or `right`."""
    remarks: tuple[Remark, ...]


def values(path: Path) -> dict[str, str]:
    """Return what the header of a DICOM file says, by the names of `ATTRIBUTES`; empty where it says nothing.

    The pixels are not read. `patient_id` serves to find the rows of a table and is kept nowhere; names and dates of
    birth are never read.

    Raises:
        UnreadableError: the file cannot be read as DICOM; the message never quotes the file.

    """
    try:
        if path.stat().st_size == 0:
            raise UnreadableError("is empty (0 bytes)")
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=OF_ATTRIBUTES)
        return {name: _first(dataset, name) for name in ATTRIBUTES}
    except InvalidDicomError:
        raise UnreadableError("is not a DICOM file: the prefix DICM is missing") from None
    except OSError as error:
        raise UnreadableError(f"cannot be opened: {error.strerror or 'reading fails'}") from None
    except UnreadableError:
        raise
    except Exception:  # damaged bytes can cause any exception in pydicom
        raise UnreadableError("is damaged: its DICOM header cannot be read") from None


def of(dataset: Dataset) -> Header:
    """Return what a header says; values that the standard does not know count as absent."""
    side = _first(dataset, "laterality").upper()
    laterality = side if side in ("R", "L", "B") else ""
    rows, columns = _orientation(dataset)
    # Where the header does not say how the image is stored, it is stored as it hangs: breasts back to back.
    chest_wall = {"P": "right", "A": "left"}.get(rows[:1]) or {"R": "right", "L": "left"}.get(laterality, "")
    view = _view(dataset)
    remarks = [*_of_the_kind(dataset), *_of_the_view(view, rows, columns)]
    return Header(laterality, view, chest_wall, tuple(remarks))


def side(header: Header, chest_wall: str) -> list[Remark]:
    """Return a remark if the chest wall lies on the other side of the picture than the header says.

    Args:
        header: of the file.
        chest_wall: where the picture shows it: `left` or `right`; empty where that is not clear.

    """
    if not chest_wall or not header.chest_wall or chest_wall == header.chest_wall:
        return []
    breast = {"R": "right breast, ", "L": "left breast, "}.get(header.laterality, "")
    text = f"by its header ({breast}chest wall on the {header.chest_wall}) another side than the picture shows"
    return [Remark("header_side", f"{text} (chest wall on the {chest_wall})")]


def _of_the_kind(dataset: Dataset) -> list[Remark]:
    remarks = []
    if dataset.get("Modality") != "MG":
        remarks.append(Remark("not_mammography", "not a mammogram by its header (modality is not MG)"))
    if is_raw(dataset):
        text = "raw detector data (FOR PROCESSING), not the image a radiologist reads"
        remarks.append(Remark("for_processing", text))
    made = {part.upper() for part in _texts(dataset, "ImageType")}
    if dataset.get("SOPClassUID") == BreastTomosynthesisImageStorage or made & {"TOMOSYNTHESIS", "TOMO", "VOLUME"}:
        remarks.append(Remark("tomosynthesis", "a slice of a tomosynthesis"))
    elif made & {"GENERATED_2D", "TOMO_2D", "SYNTHESIZED", "C-VIEW"}:
        remarks.append(Remark("tomosynthesis", "a view that was computed from a tomosynthesis"))
    modifiers = _modifiers(dataset)
    if _first(dataset, "implant").upper() == "YES" or "implant_displaced" in modifiers:
        displaced = ", displaced in this view" if "implant_displaced" in modifiers else ""
        remarks.append(Remark("implant", f"a breast with an implant{displaced}"))
    if _number(dataset, "EstimatedRadiographicMagnificationFactor") >= MAGNIFIED or "magnification" in modifiers:
        remarks.append(Remark("magnification", "a magnification view, not a whole breast"))
    elif "spot_compression" in modifiers:
        remarks.append(Remark("magnification", "a spot compression view, not a whole breast"))
    windows = _texts(dataset, "WindowCenter")
    if len(windows) > 1 and not dataset.get("VOILUTSequence"):
        remarks.append(Remark("several_windows", f"has {counted(len(windows), 'window')}; the first is used"))
    return remarks


def _of_the_view(view: str, rows: str, columns: str) -> list[Remark]:
    """Return a remark if projection and orientation contradict each other.

    The columns of a craniocaudal image run from one side of the body to the other, those of an oblique or lateral one
    towards the feet or the head.
    """
    if not rows or not columns or view not in ("CC", "MLO", "ML", "LM"):
        return []
    upright = columns[0] in "FH"
    if upright != (view == "CC"):
        return []
    towards = "the feet or the head" if upright else "a side of the body"
    return [Remark("header_view", f"by its header {view}, but with columns that run towards {towards}")]


def _view(dataset: Dataset) -> str:
    codes = {"R-10242": "CC", "399162004": "CC", "R-10226": "MLO", "399368009": "MLO"}
    codes |= {"R-10224": "ML", "399260004": "ML", "R-10228": "LM", "399352003": "LM"}
    coded = [codes.get(_text(item.get("CodeValue")), "") for item in dataset.get("ViewCodeSequence") or []]
    # CBIS-DDSM has the view where the orientation belongs.
    written = [_text(dataset.get("ViewPosition")), *coded, *_texts(dataset, "PatientOrientation")]
    return next((view for view in map(str.upper, written) if view in VIEWS), "")


def _orientation(dataset: Dataset) -> tuple[str, str]:
    """Return the directions in which rows and columns run, e.g. `P`, `F`; empty where the header has none."""
    parts = [part.upper() for part in _texts(dataset, "PatientOrientation")]
    if len(parts) != 2 or any(not part or set(part) - set("APRLHF") for part in parts):
        return "", ""
    return parts[0], parts[1]


def _modifiers(dataset: Dataset) -> set[str]:
    return {
        _MODIFIERS.get(_text(item.get("CodeValue")), "")
        for view in dataset.get("ViewCodeSequence") or []
        for item in view.get("ViewModifierCodeSequence") or []
    }


def _first(dataset: Dataset, name: str) -> str:
    """Return the first of the attributes of a name that is not empty; a direction is no view."""
    for attribute in ATTRIBUTES[name]:
        text = _text(dataset.get(attribute))
        is_direction = attribute == "PatientOrientation" and DIRECTIONS.fullmatch(text.replace("\\", ""))
        if text and not is_direction:
            return text
    return ""


def _text(value: Any) -> str:
    """Return a value as one line; several parts are joined with backslashes as in DICOM."""
    if value is None:
        return ""
    several = not isinstance(value, str | bytes) and hasattr(value, "__iter__")
    text = "\\".join(map(str, value)) if several else str(value)
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def _texts(dataset: Dataset, name: str) -> list[str]:
    value = dataset.get(name)
    if value is None or value == "":
        return []
    return [str(part).strip() for part in value] if isinstance(value, MultiValue | list) else [str(value).strip()]


def _number(dataset: Dataset, name: str) -> float:
    try:
        return float(dataset.get(name) or 0)
    except (TypeError, ValueError):
        return 0.0
