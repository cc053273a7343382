"""Joining of the tables of a described set, and the columns that are derived from others."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from mammo.core.set_description import Derived, Filter, Join
from mammo.core.wording import counted
from mammo.sources.described.findings import Findings, Row, examples, places

WHOLE = re.compile(r"(-?\d+)\.0+")


def as_whole(text: str) -> str:
    """Return a number without a fraction of zeros: tables written from data frames have `1.0` for 1."""
    match = WHOLE.fullmatch(text)
    return match[1] if match else text


def joined(rows: Sequence[Row], partners: Sequence[Row], join: Join, findings: Findings) -> list[Row]:
    """Return the rows with the cells of their partners, the rows of another table with equal values in `join.by`.

    A column that both have keeps the value of the first.
    """
    by_key: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for partner in _expanded(partners, join):
        by_key[tuple(as_whole(partner.cells[column]) for column in join.by.values())].append(partner)
    found, unmatched, multiplied = [], [], []
    for row in rows:
        several = by_key.get(tuple(as_whole(row.cells[column]) for column in join.by), [])
        if not several:
            unmatched.append(row)
        if len(several) > 1:
            multiplied.append(row)
        for partner in several or [Row("", 0, {})]:
            found.append(Row(row.file, row.number, partner.cells | row.cells))
    keys = " and ".join(join.by.values())
    if multiplied:
        more = len(found) - len(rows)
        line = f"{join.file} joined by {keys} multiplies {places(multiplied)}: {counted(more, 'row')} more"
        remedy = "add a column to `by`, remove the doubled rows, or set `several: keep` to make a row of each"
        findings.add(line if join.several == "keep" else f"{line}; {remedy}", join.several == "refuse")
    if unmatched:
        line = f"{join.file} has no row of the same {keys} for {places(unmatched)}: its columns are empty there"
        remedy = "check the columns of `by`, or set `unmatched: keep`"
        findings.add(line if join.unmatched == "keep" else f"{line}; {remedy}", join.unmatched == "refuse")
    return found


def _expanded(partners: Sequence[Row], join: Join) -> list[Row]:
    """Return the rows of the joined table, with one for each value that a value of `join.expand` stands for."""
    for column, meanings in join.expand.items():
        partners = [
            Row(row.file, row.number, row.cells | {column: value})
            for row in partners
            for value in meanings.get(row.cells[column], [row.cells[column]])
        ]
    return list(partners)


def derive(rows: Sequence[Row], derived: Mapping[str, Derived], findings: Findings) -> None:
    """Add the derived columns to the rows; where a pattern does not fit a text, the cell is empty and named."""
    for name, one in derived.items():
        pattern, unfit = re.compile(one.pattern), []
        for row in rows:
            text = row.cells[one.column]
            match = pattern.search(text)
            row.cells[name] = (match[1] or "") if match else ""
            if text and not row.cells[name]:
                unfit.append(row)
        if unfit:
            values = examples(sorted({repr(row.cells[one.column]) for row in unfit}))
            findings.fault(
                f"column {one.column!r}: the pattern of derive.{name} does not fit {values} ({places(unfit)}): "
                "correct the pattern or the cells"
            )


def passes(text: str, one: Filter) -> bool:
    """Return whether a filter keeps a row with this value."""
    value = as_whole(text)
    if one.matches:
        return bool(re.search(one.matches, text))
    return value in map(as_whole, one.keep) if one.keep else value not in map(as_whole, one.drop)


def note_filtered(dropped: Sequence[Row], one: Filter, values: Sequence[str], findings: Findings) -> None:
    """Note the rows that a filter dropped."""
    if dropped:
        rule = f"keep {', '.join(one.keep)}" if one.keep else f"drop {', '.join(one.drop)}" if one.drop else one.matches
        what = f"column {one.column!r}" if one.column else f"header {one.header}"
        seen = examples(sorted({repr(value) for value in values}))
        findings.note(f"{what}: the filter ({rule}) left out {places(dropped)}; values {seen}")
