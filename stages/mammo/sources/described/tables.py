"""Reader of the tables of a described set: CSV, TSV, `;`, blanks and xlsx, with the columns that are used."""

import csv
import io
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core.errors import UserError
from mammo.core.set_description import Table
from mammo.core.spelling import nearest
from mammo.core.tables import plain
from mammo.core.wording import counted
from mammo.sources.described.findings import Findings, Row

import openpyxl  # type: ignore[import-untyped]

XLSX = ".xlsx"
LARGEST_SHEET = 2**30  # bytes, unpacked: an xlsx is a zip, of which a megabyte may hold gigabytes
LONGEST_CELL = 2**20  # characters; Python's own limit, 131,072, is below lists of outlines in real tables
SEPARATORS = {"tab": "\t", "": ","}


class Content(NamedTuple):
    """A table as it was read."""

    table: Table
    columns: frozenset[str]
    """Names of its columns as the description may use them."""
    rows: list[Row]


def read(folder: Path, table: Table, used: Collection[str], missing: Collection[str], findings: Findings) -> Content:
    """Read the rows of a table with the columns `used` that it has.

    Names of columns are compared without case and surrounding spaces. Cells lose surrounding blanks and newlines,
    which is noted; those in `missing` become empty. Rows without any text are skipped.

    Raises:
        UserError: the table is missing or cannot be read.

    """
    path = folder / table.file
    if not path.is_file():
        raise UserError(f"{table.file} is not in {folder}: {_instead(folder, table.file)}")
    lines = _xlsx(path, table) if path.suffix.lower() == XLSX else _text(path, table)
    numbered = ((number, line) for number, line in lines if any(cell.strip() for cell in line))
    header = table.columns or next(numbered, (1, []))[1]
    new = {plain(old): name for old, name in table.rename.items()}
    header = [new.get(plain(column), column.strip()) for column in header]
    columns = _columns(header, table, used, findings)
    padded: Counter[str] = Counter()
    first: dict[str, int] = {}
    rows = []
    for number, line in numbered:
        if (len(line) > len(header) and any(line[len(header) :])) or (
            len(line) < len(header) and not _may_be_short(table)
        ):
            findings.fault(
                f"{table.file} row {number} has {counted(len(line), 'field')}, the header {len(header)}: a separator "
                "inside a cell needs quotes around the cell"
            )
            continue
        cells = dict(table.add)
        for name, place in columns.items():
            cell = line[place] if place < len(line) else ""
            stripped = cell.strip()
            if stripped != cell:
                padded[name] += 1
                first.setdefault(name, number)
            cells[name] = "" if stripped in missing else stripped
        rows.append(Row(table.file, number, cells))
    for name, count in padded.items():
        findings.note(
            f"{table.file} column {name!r}: {counted(count, 'cell')} with blanks or newlines around the value, row "
            f"{first[name]} first; they were stripped"
        )
    return Content(table, frozenset(filter(None, [*header, *table.add])), rows)


def lacks(content: Content, name: str) -> bool:
    """Return whether a table has no column of this name."""
    return plain(name) not in map(plain, content.columns)


def lacking(content: Content, name: str, key: str) -> str:
    """Return the line for a column that a table lacks; `key` is that of the description that uses it."""
    table, has, _ = content
    near = nearest(name, has, resembling=0.6)
    hint = f"; the nearest is {near!r}" if near else ""
    return (
        f"{table.file} lacks the column {name!r} ({key}){hint}; it has: {', '.join(sorted(has)) or 'none'}. "
        "Correct the description, or add the column to the table's `rename`"
    )


def _columns(header: Sequence[str], table: Table, used: Collection[str], findings: Findings) -> dict[str, int]:
    """Return the place of each used column that the header has."""
    wanted = {plain(name): name for name in used}
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        own = wanted.get(plain(name))
        if own in places:
            findings.fault(
                f"{table.file} has the column {own!r} twice, as columns {places[own] + 1} and {place + 1}: remove one"
            )
        elif own:
            places[own] = place
    return places


def _may_be_short(table: Table) -> bool:
    """Whether rows may end early: in sheets, and where blanks separate."""
    return table.separator == "blanks" or table.file.lower().endswith(XLSX)


def _instead(folder: Path, file: str) -> str:
    """Return what to do about a missing table: the name that it may have, or what the folder holds."""
    held = sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []
    below = sorted(folder.glob(f"*/{file}")) if folder.is_dir() else []
    if below:
        return f"it is in {below[0].relative_to(folder).parts[0]}/; pass that folder"
    near = nearest(Path(file).name, held, resembling=0.6)
    listing = ", ".join(held[:8]) + (", …" if len(held) > 8 else "")
    return (
        f"the nearest is {near!r}" if near else f"download it, or pass another folder; this one holds: {listing or '-'}"
    )


def _text(path: Path, table: Table) -> Iterator[tuple[int, list[str]]]:
    separator = table.separator or ("tab" if path.suffix.lower() == ".tsv" else "")
    csv.field_size_limit(LONGEST_CELL)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        if separator == "blanks":
            yield from ((number, line.split()) for number, line in enumerate(text.splitlines(), 1))
            return
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=SEPARATORS.get(separator, separator), strict=True)
        yield from enumerate(reader, 1)
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{table.file} is not text in UTF-8 (line {line}): save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise UserError(f"{table.file} is not a table with the separator {separator or ','!r}: {error}") from None
    except OSError as error:
        raise UserError(f"{table.file} cannot be read: {error.strerror}") from None


def _xlsx(path: Path, table: Table) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(one.file_size for one in archive.infolist()) > LARGEST_SHEET:
                raise UserError(f"{table.file} holds more than {LARGEST_SHEET:,} bytes unpacked: save it as CSV")
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    except UserError:
        raise
    except Exception as error:  # openpyxl passes on whatever a damaged sheet causes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{table.file} is not an xlsx file: {reason}") from None
    try:
        if table.sheet and table.sheet not in book.sheetnames:
            raise UserError(f"{table.file} has no sheet {table.sheet!r}; it has: {', '.join(book.sheetnames)}")
        sheet = book[table.sheet] if table.sheet else book.worksheets[0]
        sheet.reset_dimensions()  # a sheet may declare 16,384 columns, to which every row would be padded
        for number, line in enumerate(sheet.iter_rows(values_only=True), 1):
            yield number, [_cell(value) for value in line]
    finally:
        book.close()


def _cell(value: Any) -> str:
    """Return a cell of a sheet as text: whole numbers without a decimal point, dates as in ISO 8601."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)
