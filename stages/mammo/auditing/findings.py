"""Findings of the audit and their table, plots/audit.csv."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mammo.core import files

SEVERITIES = ("leak", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """A row of plots/audit.csv."""

    kind: str
    """Kind of finding; also the name of its picture."""
    severity: str
    """`leak` (the scores are invalid), `warning` (they may be) or `note`."""
    image: str = ""
    """The image concerned, as in index.csv."""
    other: str = ""
    """The image it is compared with."""
    patient: str = ""
    """The patient concerned; empty where unknown."""
    detail: str = ""
    """Description."""


COLUMNS = tuple(field.name for field in fields(Finding))


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by severity, then by kind, image and patient."""
    return sorted(
        findings, key=lambda row: (SEVERITIES.index(row.severity), row.kind, row.image, row.other, row.patient)
    )


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """Write one row per finding."""
    files.write_csv(path, COLUMNS, map(astuple, findings))
