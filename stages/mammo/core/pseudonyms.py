"""Pseudonyms: names of images and patients that tell nobody who they are, and the table that leads back.

The names of one's own images often hold a patient's name or number. With `data.pseudonyms` every table, picture and
page after preprocessing has pseudonyms instead; the table with both stays beside the data, which git does not hold.
Whoever has that table can tell who they are: Article 4(5) of the General Data Protection Regulation.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mammo.core import files
from mammo.core.dataset import Entry, OnImage

NAME = "pseudonyms.csv"
DIGITS = 12  # of the SHA-256; should two files share them, they are told apart like copies
FORM = re.compile(rf"[0-9a-f]{{{DIGITS}}}(-[0-9]+)?")


class Pseudonym(NamedTuple):
    """A row of pseudonyms.csv."""

    image: str
    """The first digits of the SHA-256 of its file; a further copy of the same file has `-2`, `-3` … after them."""
    patient: str
    """The pseudonym of her first image; empty if the patient is unknown."""
    original_image: str
    original_patient: str


def assign(entries: Iterable[Entry]) -> list[Pseudonym]:
    """Return the pseudonyms of all images of a data set, in their order."""
    copies: Counter[str] = Counter()
    first: dict[str, str] = {}
    rows = []
    for entry in entries:
        digits = entry.sha256[:DIGITS]
        copies[digits] += 1
        image = digits if copies[digits] == 1 else f"{digits}-{copies[digits]}"
        patient = first.setdefault(entry.patient, image) if entry.patient else ""
        rows.append(Pseudonym(image, patient, entry.image, entry.patient))
    return rows


def write(folder: Path, rows: Iterable[Pseudonym]) -> None:
    """Write `folder/pseudonyms.csv`."""
    files.write_csv(folder / NAME, Pseudonym._fields, rows)


def read(folder: Path) -> dict[str, Pseudonym]:
    """Read `folder/pseudonyms.csv`, by the original name of the image; without the file there are none.

    Raises:
        UserError: the file is malformed.

    """
    path = folder / NAME
    if not path.is_file():
        return {}
    rows = [Pseudonym(*(row[name] for name in Pseudonym._fields)) for row in files.read_csv(path, Pseudonym._fields)]
    return {row.original_image: row for row in rows}


def hidden(entries: Iterable[Entry], known: Mapping[str, Pseudonym]) -> list[Entry]:
    """Return the entries under their pseudonyms; unchanged if `known` is empty.

    An exam, whose number may lead to a person too, gets the pseudonym of its first image.
    """
    if not known:
        return list(entries)
    exams: dict[tuple[str, str], str] = {}
    shown = []
    for entry in entries:
        row = known[entry.image]
        exam = exams.setdefault((entry.patient, entry.exam), row.image) if entry.exam else ""
        shown.append(replace(entry, image=row.image, patient=row.patient, exam=exam))
    return shown


def on_images(remarks: Iterable[OnImage], known: Mapping[str, Pseudonym]) -> list[OnImage]:
    """Return remarks on images under their pseudonyms; unchanged if `known` is empty."""
    return [remark._replace(image=known[remark.image].image) if known else remark for remark in remarks]


def originals(entries: Sequence[Entry], known: Mapping[str, Pseudonym]) -> list[Entry]:
    """Return entries under pseudonyms with their original names; unchanged if `known` is empty."""
    if not known:
        return list(entries)
    rows = {row.image: row for row in known.values()}
    return [
        replace(entry, image=rows[entry.image].original_image, patient=rows[entry.image].original_patient)
        for entry in entries
    ]


def are_used(names: Iterable[str]) -> bool:
    """Return whether all names of images have the form of a pseudonym."""
    return all(FORM.fullmatch(name) for name in names)
