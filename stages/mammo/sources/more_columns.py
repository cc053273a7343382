"""What labels.csv tells of an image beside label, patient and split: exam, breast, view and groups."""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace

from mammo.core import tables
from mammo.core.dataset import Entry

COLUMNS = ("exam", "laterality", "view")
LEVELS = 20  # a column with more values tells images or patients apart rather than groups of them
SPELLINGS = {
    "": "",
    **dict.fromkeys(("l", "left"), "L"),
    **dict.fromkeys(("r", "right"), "R"),
    **dict.fromkeys(("b", "both", "bilateral"), "B"),
}
"""How users write a laterality, without surrounding spaces and without case."""


def fault(row: Mapping[str, str]) -> str | None:
    """Return what is wrong with the laterality of a row; None if nothing is."""
    written = row.get("laterality", "")
    if written.strip().casefold() in SPELLINGS:
        return None
    return f"laterality is {written!r}; allowed are L or left, R or right, B or both, and nothing if it is unknown"


def with_values(entry: Entry, row: Mapping[str, str], groups: Iterable[str]) -> Entry:
    """Return the entry with exam, laterality, view and `groups` of a row in which `fault` finds none."""
    side = SPELLINGS[row.get("laterality", "").strip().casefold()]
    return replace(
        entry,
        exam=row.get("exam", "").strip(),
        laterality=side,
        laterality_from="table" if side else "",
        view=row.get("view", "").strip().upper(),
        groups=tuple((name, _value(row[name])) for name in groups),
    )


def groups(table: tables.Table) -> list[str]:
    """Return the columns that are groups: unknown ones whose values are few."""
    return [tables.plain(column) for column in table.ignored if not _reason(table, column)]


def unused(table: tables.Table) -> list[str]:
    """Return the columns that are not used, as written, each with the reason."""
    return [f"{column!r} ({reason})" for column in table.ignored if (reason := _reason(table, column))]


def _reason(table: tables.Table, column: str) -> str:
    """Return why a column is not a group; empty if it is one."""
    name = tables.plain(column)
    if not name:
        return "it has no name"
    if [tables.plain(other) for other in table.ignored].count(name) > 1:
        return "there is another of this name"
    values = [value for _, row in table.rows if (value := _value(row.get(name) or ""))]
    levels = len(set(values))
    if not levels:
        return "it is empty"
    if levels > LEVELS:
        return f"it has {levels:,} values; at most {LEVELS} make a group"
    if levels == len(values) > 1:
        return "each row has another value"
    return ""


def _value(text: str) -> str:
    """Return a value without surrounding spaces, in one Unicode form."""
    return unicodedata.normalize("NFC", text).strip()
