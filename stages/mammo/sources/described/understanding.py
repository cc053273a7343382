"""Read a described set: its tables, joined and filtered, with their images, become entries of the index."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.set_description import Filter, Label, SetDescription
from mammo.core.wording import counted
from mammo.sources import own
from mammo.sources.described import checks, images, joins, labels, tables
from mammo.sources.described.findings import Findings, Row
from mammo.sources.described.images import Disk
from mammo.sources.described.values import Reading
from mammo.sources.own import Found


@dataclass
class Understood:
    """A set as its description reads it."""

    found: list[Found] = field(default_factory=list)
    """The images, sorted by path."""
    absent: list[Entry] = field(default_factory=list)
    """Images of the tables that are not there, unless they are left out; named by what was looked for."""
    rows: int = 0
    """Number of rows of the tables, before filters."""
    findings: Findings = field(default_factory=Findings)
    table_labels: Counter[str] = field(default_factory=Counter)
    """Labels of the rows, with or without an image: `cancer`, `healthy`, `left out`."""

    @property
    def entries(self) -> list[Entry]:
        """The entries of the images, without hashes."""
        return [one.entry for one in self.found]


def understand(folder: Path, description: SetDescription, patient: str, leave_out: bool) -> Understood:
    """Read the tables and headers of a described set.

    Args:
        folder: of the set.
        description: of the set.
        patient: pattern of the patient in file names, for `layout: tree`.
        leave_out: whether missing and unreadable images are left out; otherwise they are faults.

    Returns:
        The images that were understood, and all that does not fit.

    Raises:
        UserError: there is no such folder, or it cannot be listed.

    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: name the folder of the set (data.folder)")
    understood = Understood()
    findings = understood.findings
    if description.layout == "tree":
        try:
            understood.found = own.tree(folder, patient)
        except UserError as error:
            findings.fault(str(error))
        understood.rows = len(understood.found)
        return understood
    rows = _rows(folder, description, findings)
    understood.rows = len(rows)
    if not rows:
        return understood
    assert description.label and description.images
    labelling = labels.Labelling(description.label)
    label_of = [labelling.of(row) for row in rows]
    words = {1: "cancer", 0: "healthy", None: "left out"}
    understood.table_labels.update(words[label] for label in label_of)
    disk = images.on_disk(folder)
    found = images.find(rows, description.images, disk, leave_out, findings)
    by_image = _by_image(found, description, disk, findings)
    labelling.report(findings)
    entries = _entries(by_image, description, labelling, disk, findings)
    understood.found = [Found(folder / entry.image, entry) for entry in entries if entry.image in disk.present]
    understood.absent = [entry for entry in entries if entry.image not in disk.present]
    checks.check(entries, description, disk, findings)
    return understood


def _rows(folder: Path, description: SetDescription, findings: Findings) -> list[Row]:
    """Read, filter and join the tables; without the tables or columns that are needed there are no rows."""
    used = set(description.columns) - set(description.derive)
    used |= {column for join in description.joins for column in (*join.by.values(), *join.expand)}
    contents: list[tables.Content] = []
    for table in (*description.rows, *description.joins):
        try:
            contents.append(tables.read(folder, table, used, description.missing, findings))
        except UserError as error:
            findings.fault(str(error))
    if not findings.faults:
        _require_columns(contents, description, findings)
    if findings.faults:
        return []
    number = len(description.rows)
    rows = [row for content in contents[:number] for row in content.rows]
    early = [one for one in description.filters if not any(tables.lacks(has, one.column) for has in contents[:number])]
    rows = _filtered(rows, early, findings)  # before joins multiply rows
    for join, content in zip(description.joins, contents[number:], strict=True):
        rows = joins.joined(rows, content.rows, join, findings)
    for row in rows:
        for column in used:
            row.cells.setdefault(column, "")
    joins.derive(rows, description.derive, findings)
    rows = _filtered(rows, [one for one in description.filters if one not in early], findings)
    if not rows:
        findings.fault(f"{', '.join(table.file for table in description.rows)}: no row is left below the header")
    return rows


def _require_columns(contents: Sequence[tables.Content], description: SetDescription, findings: Findings) -> None:
    """Name every used column that a table lacks, with the table and the key of the description."""
    bases, joined = contents[: len(description.rows)], contents[len(description.rows) :]
    for join, content in zip(description.joins, joined, strict=True):
        for column in (*join.by.values(), *join.expand):
            if tables.lacks(content, column):
                findings.fault(tables.lacking(content, column, "joins.by"))
    for column, key in description.columns.items():
        if column in description.derive or any(not tables.lacks(content, column) for content in joined):
            continue
        for content in bases:
            if tables.lacks(content, column):
                findings.fault(tables.lacking(content, column, key))


def _filtered(rows: Sequence[Row], filters: Sequence[Filter], findings: Findings) -> list[Row]:
    """Return the rows that pass the filters by column; those by header wait for the images."""
    kept = list(rows)
    for one in filters:
        if one.column:
            dropped = [row for row in kept if not joins.passes(row.cells[one.column], one)]
            joins.note_filtered(dropped, one, [row.cells[one.column] for row in dropped], findings)
            gone = set(map(id, dropped))
            kept = [row for row in kept if id(row) not in gone]
    return kept


def _by_image(
    found: Iterator[tuple[Row, str]], description: SetDescription, disk: Disk, findings: Findings
) -> dict[str, list[Row]]:
    """Return the rows of each image, by path, but for those that a filter by header leaves out."""
    by_image: dict[str, list[Row]] = defaultdict(list)
    for row, path in found:
        by_image[path].append(row)
    for one in description.filters:
        if one.header:
            values = {path: disk.header(path, one.header) for path in by_image if path in disk.present}
            out = [path for path, value in values.items() if not joins.passes(value, one)]
            joins.note_filtered([by_image[path][0] for path in out], one, [values[path] for path in out], findings)
            for path in out:
                del by_image[path]
    return by_image


def _entries(
    by_image: dict[str, list[Row]],
    description: SetDescription,
    labelling: labels.Labelling,
    disk: Disk,
    findings: Findings,
) -> list[Entry]:
    """Return the labelled images, sorted by path, without hashes."""
    label: Label = labelling.label
    readings = {key: Reading(key, source) for key, source in description.sources.items()}
    values: dict[str, list[str]] = defaultdict(list)
    mixed: list[Row] = []
    entries, several = [], 0
    for path in sorted(by_image):
        rows = by_image[path]
        labelled = [(row, one) for row in rows if (one := labelling.of(row)) is not None]
        if not labelled:
            continue
        several += len(rows) > 1
        own_label = labels.of_image([row for row, _ in labelled], [one for _, one in labelled], label, mixed)
        row = labelled[0][0]
        said = {key: reading.of(row, path, disk) for key, reading in readings.items()}
        for key, value in said.items():
            values[key].append(value)
        groups = tuple((key.removeprefix("groups."), said[key]) for key in readings if key.startswith("groups."))
        known = {key: said.get(key, "") for key in ("exam", "laterality", "view")}
        split, patient = said.get("split", ""), said.get("patient", "")
        entries.append(Entry(path, own_label, split, patient, sha256="", groups=groups, bytes=-1, **known))
    for key, reading in readings.items():
        reading.report(values[key], findings)
    labels.report_mixed(mixed, several, label, findings)
    return entries


def refusal(name: str, faults: Sequence[str]) -> str:
    """Return the message for a set with faults: each in a line, the first twenty of them."""
    listing = "\n".join(f"  {line}" for line in own.first(faults))
    more = f"`mammo set check {name} FOLDER` shows all of them."
    return f"the set {name} has {counted(len(faults), 'fault')}:\n{listing}\n{more}"
