"""Findings from the headers of DICOM files: what sets an image apart, and where header and picture disagree."""

from collections.abc import Iterable, Sequence

from mammo.auditing.findings import Finding
from mammo.core.dataset import Dataset, OnImage
from mammo.core.wording import counted

SEVERITY = {
    "not_mammography": "warning",
    "for_processing": "note",
    "tomosynthesis": "warning",
    "implant": "note",
    "magnification": "warning",
    "header_view": "warning",
    "header_side": "warning",
}
"""Of the kinds of remarks that are findings per image; `several_windows` is one finding for all images."""


def header_findings(data: Dataset, remarks: Sequence[OnImage]) -> list[Finding]:
    """Return the remarks of preprocessing on the files of these images as findings.

    Args:
        data: the images.
        remarks: on any of them.

    """
    patient = {entry.image: entry.patient for entry in data.entries}
    found = [
        Finding(remark.kind, SEVERITY[remark.kind], remark.image, patient=patient[remark.image], detail=remark.text)
        for remark in remarks
        if remark.kind in SEVERITY and remark.image in patient
    ]
    return [*found, *_several_windows(remark for remark in remarks if remark.kind == "several_windows")]


def _several_windows(remarks: Iterable[OnImage]) -> list[Finding]:
    if not (number := len(list(remarks))):
        return []
    images = counted(number, "DICOM file has", "DICOM files have")
    return [Finding("several_windows", "note", detail=f"{images} several windows; the first is used")]
