"""Patients that are written in several ways: they count as several people and are probably one."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence

from mammo.auditing.findings import Finding
from mammo.core.dataset import Dataset, Entry

NAMED = 3  # groups of names in a finding
LONGEST = 12  # characters of a name, since it may identify a person


def patients_written_in_several_ways(data: Dataset, originals: Sequence[Entry] | None = None) -> list[Finding]:
    """Return one finding for all patients whose names differ only in Unicode form, case, spaces or leading zeros.

    Args:
        data: n images.
        originals: (n,) their entries before they got pseudonyms, which the finding compares; None if they got none.

    """
    splits: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for entry, original in zip(data.entries, originals or data.entries, strict=True):
        if entry.patient:
            splits[_plain(original.patient)][entry.patient].add(entry.split)
    groups = [spellings for spellings in splits.values() if len(spellings) > 1]
    if not groups:
        return []
    apart = sum(len(set.union(*spellings.values())) > 1 for spellings in groups)
    named = ", ".join(" = ".join(map(_shown, sorted(spellings))) for spellings in groups[:NAMED])
    more = f" and {len(groups) - NAMED} more" if len(groups) > NAMED else ""
    detail = (
        f"{sum(map(len, groups))} patients are probably {len(groups)}, since their names differ only in Unicode form, "
        f"case, spaces or leading zeros: {named}{more}; {apart} of the {len(groups)} would be in more than one split"
    )
    return [Finding("patients_written_in_several_ways", "warning", detail=detail)]


def _plain(patient: str) -> str:
    """Return a name without what may differ between two ways to write it."""
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", patient).casefold())
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"\s", "", name))


def _shown(patient: str) -> str:
    """Return the beginning of a name in quotes; characters that print alike are written as their codes."""
    short = patient if len(patient) <= LONGEST else f"{patient[: LONGEST - 1]}…"
    return ascii(short) if unicodedata.normalize("NFC", short) != short or not short.isprintable() else f"'{short}'"
