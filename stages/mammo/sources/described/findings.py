"""What does not fit in a described set: faults, which stop, and notes, which say what was left out or changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from mammo.core.wording import counted, shown

NAMED = 3
"""Examples that a line names; the others are counted."""


@dataclass
class Findings:
    """Lines in the order in which they were found."""

    faults: list[str] = field(default_factory=list)
    """What the set cannot be used with."""
    notes: list[str] = field(default_factory=list)
    """What a user must know, but may go on with."""

    def fault(self, line: str) -> None:
        """Add a fault, once."""
        if shown(line) not in self.faults:
            self.faults.append(shown(line))

    def note(self, line: str) -> None:
        """Add a note, once."""
        if shown(line) not in self.notes:
            self.notes.append(shown(line))

    def add(self, line: str, stops: bool) -> None:
        """Add a fault if it stops, otherwise a note."""
        (self.fault if stops else self.note)(line)


@dataclass(slots=True)
class Row:
    """A row of a table, and later of the tables joined to it."""

    file: str
    number: int
    """Row of the sheet: the header is row 1, whatever newlines are inside cells."""
    cells: dict[str, str]

    @property
    def place(self) -> str:
        """File and row, for messages."""
        return f"{self.file} row {self.number}"


def examples(names: Iterable[str], of: int | None = None) -> str:
    """Return the first names, separated by commas; of more than these, with `…`."""
    names = list(names)
    return ", ".join(names[:NAMED]) + (", …" if (of or len(names)) > NAMED else "")


def places(rows: Sequence[Row]) -> str:
    """Return the number of rows with the place of the first, e.g. `3 rows, train.csv row 7 first`."""
    return f"{counted(len(rows), 'row')}, {rows[0].place} first" if len(rows) > 1 else rows[0].place
