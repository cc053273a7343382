"""Tables that users write: a CSV whose header may be spaced or capitalised, and whose other columns are named."""

import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from mammo.core import files
from mammo.core.errors import UserError
from mammo.core.spelling import nearest


class Table(NamedTuple):
    """A table of a user."""

    columns: list[str]
    """Known columns that it has."""
    rows: list[tuple[int, dict[str, str]]]
    """Line and values of each row; the line is that of the end of the row."""
    ignored: list[str]
    """Columns that are not known, as written."""


def plain(column: str) -> str:
    """Return the name of a column without surrounding spaces and without case."""
    return unicodedata.normalize("NFKC", column).strip().casefold()


def parse(
    content: bytes,
    name: str,
    known: Sequence[str],
    required: Sequence[str],
    refuse_resembling: bool = True,
    ours: bool = True,
) -> Table:
    """Parse the bytes of a CSV file with the columns `required`, and maybe others of `known`.

    Names of columns are compared without surrounding spaces and without case. Without `refuse_resembling` a column
    whose name resembles a known one is ignored like any other; `ours` as in `files.parse_csv`.

    Raises:
        UserError: the file is not UTF-8, lacks a column, has one twice, or has one whose name resembles a known one.

    """
    ignored: list[str] = []

    def recognised(header: Sequence[str]) -> list[str]:
        names = list(map(plain, header))
        for column, own in zip(header, names, strict=True):
            if own not in known:
                if refuse_resembling and (near := nearest(own, known)):
                    raise UserError(f"{name} has a column {column!r}, which resembles {near}: rename it or remove it")
                ignored.append(column)
            elif names.count(own) > 1:
                twice = ", ".join(repr(one) for one, other in zip(header, names, strict=True) if other == own)
                raise UserError(f"{name} has the column {own} more than once ({twice}): remove all but one")
        return names

    rows = files.parse_csv(content, name, required, recognised, ours)
    columns = [column for column in known if rows and column in rows[0][1]]
    return Table(columns, rows, ignored)
