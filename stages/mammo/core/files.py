"""Files written whole or not at all, and the one reader and writer of tables."""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mammo.core.errors import UserError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".pgm", ".tif", ".tiff")
"""Of files that are taken for images; DICOM files have suffixes of their own."""


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A place beside `path` to write a file or a folder to; renamed to `path` when the block ends without an error.

    Whatever stood at `path` is replaced; after an error it is left as it was and the half-written piece is removed.
    A piece that a killed run left behind is removed first.
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
    """Write UTF-8 text with newlines as they are."""
    with written(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON with two-space indent, keys in the order given, a newline at the end; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with a header; floats are written as Python's shortest exact form."""
    with written(path) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a table that must hold `columns` (others may follow).

    Raises:
        UserError: the file is missing, is not UTF-8, or lacks a column.

    """
    return [row for _, row in read_numbered_csv(path, columns)]


def read_numbered_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """`read_csv` with the line on which each row ends, for messages that lead the user to it."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return parse_csv(path.read_bytes(), str(path), columns)


def parse_csv(content: bytes, name: str, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """`read_numbered_csv` of a file's bytes that were read elsewhere; `name` is what an error calls them."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{name} is not a CSV file in UTF-8: {error}") from error
    missing = [column for column in columns if column not in (reader.fieldnames or [])]
    if missing:
        have = ", ".join(reader.fieldnames or []) or "none"
        raise UserError(f"{name} lacks the column {', '.join(missing)}; it has: {have}")
    return rows


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: the file is missing or not JSON.

    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist") from error
    except json.JSONDecodeError as error:
        raise UserError(f"{path} is not JSON: {error}") from error


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
