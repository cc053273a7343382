"""Remarks on readable files that may not be what a mammogram should be."""

from typing import NamedTuple


class Remark(NamedTuple):
    """Something about a readable file that the user should know."""

    kind: str
    """Also the kind of the finding of the audit."""
    text: str


KINDS = (
    "not_mammography",
    "for_processing",
    "tomosynthesis",
    "implant",
    "magnification",
    "several_windows",
    "header_view",
    "header_side",
)
"""Kinds of remarks on DICOM files."""
