"""Atomic writing of files; reading and writing of CSV and JSON."""

import csv
import hashlib
import io
import json
import re
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mammo.core.errors import UserError

ONE_PASS_SUFFIXES = (".jpg", ".jpeg", ".png")
"""Suffixes of image files whose cost of decoding is known from their header, but for progressive JPEG."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".tif", ".tiff")
"""Suffixes of image files; DICOM suffixes are in `imaging.scan_files`."""

_BEGINNINGS = "=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"
_FORMULA = re.compile(f"'*[{re.escape(_BEGINNINGS)}]")
"""What a spreadsheet takes for the beginning of a formula, wide forms included, or such text after apostrophes."""
_FIRST = frozenset(f"'{_BEGINNINGS}")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file or folder; rename it to `path` when the block ends without an error.

    An existing `path` is replaced. After an error it is left unchanged and the temporary file is removed.
    A temporary file left by a killed run is removed first.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    _remove(beside)
    try:
        yield beside
        if beside.is_dir() and path.exists():
            _remove(path)
        beside.replace(path)
    except OSError as error:
        _remove(beside)
        raise UserError(f"{path} could not be written: {error.strerror or error}") from error
    except BaseException:
        _remove(beside)
        raise


def write_text(path: Path, text: str) -> None:
    """Write text as UTF-8 without converting newlines."""
    with written(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with two-space indent, unsorted keys and a final newline; raise ValueError for NaN."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV table with a header; floats in Python's shortest exact form.

    Text that a spreadsheet would run as a formula, such as `=HYPERLINK(…)`, gets an apostrophe before it, which
    `parse_csv` takes away; numbers stay as they are. See https://owasp.org/www-community/attacks/CSV_Injection.
    """
    with written(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        quoting = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        writer.writerow(columns)
        for row in rows:
            cells = [_inert(cell) for cell in row]
            # Until Python 3.13 a writer leaves a carriage return unquoted, and a reader ends the row there.
            returns = any(isinstance(cell, str) and "\r" in cell for cell in cells)
            (quoting if returns else writer).writerow(cells)


def _inert(cell: Any) -> Any:
    if not isinstance(cell, str) or cell[:1] not in _FIRST:  # most cells, which the expression need not look at
        return cell
    return f"'{cell}" if _FORMULA.match(cell) and not _NUMBER.fullmatch(cell) else cell


def _as_given(cell: Any) -> Any:
    """Return a cell without the apostrophe of `_inert`; text that had one before had got another."""
    return cell[1:] if isinstance(cell, str) and cell.startswith("'") and _FORMULA.match(cell) else cell


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV table that has at least the columns `columns`.

    Raises:
        UserError: the file is missing, is not UTF-8, or lacks a column.

    """
    return list(rows_of_csv(path, columns))


def rows_of_csv(path: Path, columns: Sequence[str]) -> Generator[dict[str, str], None, None]:
    """Yield the rows that `read_csv` returns, so that a large table is never in memory; `close` closes the file."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    with path.open(encoding="utf-8-sig", newline="") as text:
        for _, row in _parsed(text, str(path), columns, list, ours=True):
            yield row


def parse_csv(
    content: bytes,
    name: str,
    columns: Sequence[str],
    recognised: Callable[[Sequence[str]], list[str]] = list,
    ours: bool = True,
) -> list[tuple[int, dict[str, str]]]:
    """Parse the bytes of a CSV file as `read_csv` does; error messages refer to it as `name`.

    Args:
        content: the bytes.
        name: of the file, in error messages.
        columns: that the table must have.
        recognised: takes the names of the columns and returns those to use instead.
        ours: whether `write_csv` may have written the file, so that an apostrophe before a formula is not a part of it.

    Returns:
        The number of the line at the end of each row, and the row.

    """
    with io.TextIOWrapper(io.BytesIO(content), "utf-8-sig", newline="") as text:
        return list(_parsed(text, name, columns, recognised, ours))


def _parsed(
    text: TextIO,
    name: str,
    columns: Sequence[str],
    recognised: Callable[[Sequence[str]], list[str]],
    ours: bool,
) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(text)
        header = list(reader.fieldnames or [])
        reader.fieldnames = recognised(header)
        if missing := [column for column in columns if column not in reader.fieldnames]:
            have = ", ".join(header) or "none"
            raise UserError(f"{name} lacks the column {', '.join(missing)}; it has: {have}")
        restored = _as_given if ours else lambda cell: cell
        for row in reader:
            yield reader.line_num, {key: restored(cell) for key, cell in row.items()}
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is not a CSV file in UTF-8: {error}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or not a JSON object.

    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise UserError(f"{path} is nested too deeply to be one of this project") from error
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a JSON object")
    return content


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
