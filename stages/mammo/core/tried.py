"""The table of cross-validation's tries, cv/tried.csv: kept by git, written by cv/summarise.py, read by `mammo ledger`.

It is no output of DVC: an output depends on its inputs alone, this table also on what was tried before, and DVC would
remove or restore it as a whole. Rows are only added, and sorted, so that the order of runs does not matter.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mammo.core import files, tables
from mammo.core.errors import UserError

TRIED = Path("cv/tried.csv")


class Try(NamedTuple):
    """A variant that was scored by cross-validation: a row of the table."""

    images: str
    """`predictions.images_digest` of the images."""
    variant: str
    """Its name in cv/params.yaml."""
    settings: str
    """Digest of the settings that it was trained with."""
    predictions: str
    """`predictions.probabilities_digest` of the predictions."""
    roc_auc: float
    """Per image."""
    note: str = ""
    """Free text, written by hand."""


COLUMNS = Try._fields


def read(path: Path) -> list[Try]:
    """Read the table, which may be missing; rows with the same images and predictions are one try.

    Raises:
        UserError: a column is missing, or a ROC AUC is not a number from 0 to 1.

    """
    if not path.is_file():
        return []
    tries: dict[tuple[str, str], Try] = {}
    for line, row in tables.parse(path.read_bytes(), str(path), COLUMNS, COLUMNS).rows:
        try:
            auc = float(row["roc_auc"] or "")
        except ValueError:
            auc = -1
        if not 0 <= auc <= 1:
            raise UserError(f"{path}, line {line}: roc_auc is {row['roc_auc']!r}; allowed is a number from 0 to 1")
        texts = {column: row[column] or "" for column in COLUMNS}
        one = Try(**texts | {"roc_auc": auc})  # type: ignore[arg-type]
        tries.setdefault((one.images, one.predictions), one)
    return list(tries.values())


def read_of(path: Path, images: str) -> list[Try]:
    """Return the tries on the images with that digest; raises as `read`."""
    return [one for one in read(path) if one.images == images]


def add(path: Path, tries: Iterable[Try]) -> None:
    """Add the tries that the table does not hold; it stays as it is if it holds all of them.

    Raises:
        UserError: the table is malformed (see `read`) or cannot be written.

    """
    held = read(path)
    known = {(one.images, one.predictions) for one in held}
    new = [one for one in tries if (one.images, one.predictions) not in known]
    if new:
        files.write_csv(path, COLUMNS, sorted([*held, *new]))
