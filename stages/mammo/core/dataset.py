"""The index of images that every stage from download to evaluate uses, and the prepared arrays."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from mammo.core import files, settings
from mammo.core.errors import UserError
from mammo.core.wording import SPLIT_NAMES

import numpy as np
from pydantic import Field

SPLITS = tuple(SPLIT_NAMES)
CLASSES = ("healthy", "cancer")
"""Names of the labels 0 and 1."""
COLUMNS = ("image", "label", "split", "patient", "sha256")
MORE_COLUMNS = ("exam", "laterality", "view", "laterality_from")
"""Columns that follow where a source tells them; then come those of the groups, then `bytes`."""
GROUP = "group_"
"""Beginning of the column of a group, e.g. `group_density`."""
BOTH_SIDES = "B"
LATERALITIES = ("L", "R", BOTH_SIDES)
"""Left breast, right breast, both in one image."""
NAME_THE_PATIENTS = (
    "Name the patients in the column patient of labels.csv, or let the pattern data.patient find them in the file names"
)
"""What to do where images have no patient."""


@dataclass(frozen=True)
class Entry:
    """One image: a row of index.csv."""

    image: str
    """Path below data/raw, with forward slashes, e.g. `train/0/106_1160585918.jpg`."""
    label: int
    """0 healthy, 1 cancer."""
    split: str
    """`train`, `valid` or `test`; empty if the source has no split."""
    patient: str
    """Identifier of the patient; empty if unknown."""
    sha256: str
    """SHA-256 of the original file."""
    exam: str = ""
    """Identifier of the examination; empty if unknown."""
    laterality: str = ""
    """Breast that the image shows, L or R, or B for both; empty if unknown."""
    view: str = ""
    """View, e.g. CC or MLO; empty if unknown."""
    groups: tuple[tuple[str, str], ...] = ()
    """Name and value of each group that the source tells; an unknown value is empty."""
    laterality_from: str = ""
    """Where the laterality comes from: table, header or picture; empty if it is unknown."""
    bytes: int = -1
    """Size of the original file; -1 if the index does not hold it."""

    @property
    def patient_key(self) -> str:
        """The patient, or the image's path if the patient is unknown: such an image counts as its own patient."""
        return self.patient or self.image


def write_index(folder: Path, entries: Iterable[Entry]) -> None:
    """Write `folder/index.csv`; columns that no entry has a value for are left out, but for the first five."""
    entries = list(entries)
    more = [name for name in MORE_COLUMNS if any(getattr(entry, name) for entry in entries)]
    groups = sorted({name for entry in entries for name, _ in entry.groups})
    sizes = [] if all(entry.bytes < 0 for entry in entries) else ["bytes"]

    def row(entry: Entry) -> list[str | int]:
        values = dict(entry.groups)
        return [getattr(entry, name) for name in (*COLUMNS, *more)] + [
            *(values.get(name, "") for name in groups),
            *(getattr(entry, name) for name in sizes),
        ]

    columns = [*COLUMNS, *more, *(GROUP + name for name in groups), *sizes]
    files.write_csv(folder / "index.csv", columns, map(row, entries))


def read_index(folder: Path) -> list[Entry]:
    """Read `folder/index.csv`, keeping the order of its rows.

    Raises:
        UserError: the file is missing or malformed.

    """
    path = folder / "index.csv"
    entries = []
    for row in files.read_csv(path, COLUMNS):
        if row["label"] not in ("0", "1"):
            raise UserError(f"{path}: label of {row['image']} is {row['label']!r}; allowed are 0 and 1")
        more = {name: row.get(name, "") for name in MORE_COLUMNS}
        if more["laterality"] not in ("", *LATERALITIES):
            raise UserError(f"{path}: laterality of {row['image']} is {more['laterality']!r}; allowed are L, R and B")
        size = row.get("bytes", "-1")
        if not size.removeprefix("-").isdecimal():
            raise UserError(f"{path}: bytes of {row['image']} is {size!r}; it must be a whole number")
        groups = tuple((name.removeprefix(GROUP), row[name]) for name in row if (name or "").startswith(GROUP))
        known = (row["split"], row["patient"], row["sha256"])
        entries.append(Entry(row["image"], int(row["label"]), *known, groups=groups, bytes=int(size), **more))
    return entries


class Delivered(NamedTuple):
    """The file of an image as it was delivered: a row of data/prepared/files.csv."""

    image: str
    """Path below data/raw, as in index.csv."""
    bytes: int
    """Size of the file."""
    height: int
    width: int
    """Size of the image in pixels, before it is resized."""
    encoding: str
    """File format, colour mode and, of a JPEG, a hash of its quantisation tables, e.g. `JPEG L 3f2a9c01b7de`."""


def write_delivered(prepared: Path, rows: Iterable[Delivered]) -> None:
    """Write data/prepared/files.csv."""
    files.write_csv(prepared / "files.csv", Delivered._fields, rows)


def read_delivered(prepared: Path) -> list[Delivered]:
    """Read data/prepared/files.csv, in the order of index.csv.

    Raises:
        UserError: the file is missing or malformed.

    """
    path = prepared / "files.csv"
    try:
        return [
            Delivered(row["image"], int(row["bytes"]), int(row["height"]), int(row["width"]), row["encoding"])
            for row in files.read_csv(path, Delivered._fields)
        ]
    except ValueError as error:
        raise UserError(f"{path}: bytes, height and width must be whole numbers ({error})") from error


class OnImage(NamedTuple):
    """A remark on the DICOM file of an image: a row of data/prepared/remarks.csv."""

    image: str
    kind: str
    """One of `imaging.remarks.KINDS`."""
    text: str


def write_remarks_on_images(prepared: Path, rows: Iterable[tuple[str, str, str]]) -> None:
    """Write data/prepared/remarks.csv; without a remark there is no file."""
    if rows := list(rows):
        files.write_csv(prepared / "remarks.csv", OnImage._fields, rows)


def read_remarks_on_images(prepared: Path) -> list[OnImage]:
    """Read data/prepared/remarks.csv, in the order of index.csv; without the file there are none."""
    path = prepared / "remarks.csv"
    rows = files.read_csv(path, OnImage._fields) if path.is_file() else []
    return [OnImage(row["image"], row["kind"], row["text"]) for row in rows]


@dataclass(frozen=True)
class Dataset:
    """The prepared images and their entries, in the order of index.csv."""

    images: np.ndarray
    """uint8, (n, height, width), memory-mapped."""
    entries: list[Entry]

    @property
    def names(self) -> list[str]:
        """Path of each image below data/raw."""
        return [entry.image for entry in self.entries]

    @property
    def labels(self) -> np.ndarray:
        """0 or 1 for each image, int64, (n,)."""
        return np.array([entry.label for entry in self.entries], dtype=np.int64)

    @property
    def splits(self) -> np.ndarray:
        """Split of each image, (n,)."""
        return np.array([entry.split for entry in self.entries])

    @property
    def patients(self) -> np.ndarray:
        """Patient of each image, (n,); an image of an unknown patient counts as its own patient."""
        return np.array([entry.patient_key for entry in self.entries])

    @property
    def exams(self) -> np.ndarray:
        """Examination of each image, (n,); empty if unknown."""
        return np.array([entry.exam for entry in self.entries], dtype=str)

    @property
    def laterality(self) -> np.ndarray:
        """Breast that each image shows, (n,): L, R, B (both), or empty if unknown."""
        return np.array([entry.laterality for entry in self.entries], dtype=str)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """Level of each image by group, (n,); empty if unknown."""
        names = dict.fromkeys(name for entry in self.entries for name, _ in entry.groups)
        values = [dict(entry.groups) for entry in self.entries]
        return {name: np.array([each.get(name, "") for each in values], dtype=str) for name in names}

    def part(self, split: str) -> np.ndarray:
        """Return the positions of the images of one split, ascending."""
        return np.flatnonzero(self.splits == split)


def new_array(path: Path, count: int, size: tuple[int, ...]) -> np.memmap:
    """Create a memory-mapped uint8 array of zeros, shape (count, *size), in the file `path`.

    Disk space is reserved immediately; otherwise a full disk would kill the process with a signal during a later write.

    Raises:
        OSError: the disk is full.

    """
    array = np.lib.format.open_memmap(path, "w+", np.uint8, (count, *size))
    if hasattr(os, "posix_fallocate"):  # not on macOS
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


class About(settings.Settings):
    """Properties of the whole prepared data set: data/prepared/about.json."""

    source: Literal["phantom", "kaggle", "folder", "set"]
    """`data.source` of params.yaml."""
    canonical: settings.Canonical
    """Steps of canonicalisation that were applied."""
    for_processing: settings.ForProcessing = "refuse"
    """What was done with raw detector data; left out of the file where they were refused, as they always were."""
    images_without_patient: int
    remarks: list[str] = Field(default_factory=list)
    """What the user should know about how the data were delivered."""
    excluded: list[str] = Field(default_factory=list)
    """Images left out by `data.exclude`."""


def write_remarks(raw: Path, remarks: Sequence[str]) -> None:
    """Write data/raw/remarks.json."""
    files.write_json(raw / "remarks.json", {"remarks": remarks})


def read_remarks(raw: Path) -> list[str]:
    """Read data/raw/remarks.json; without the file there are none."""
    path = raw / "remarks.json"
    return files.read_json(path)["remarks"] if path.is_file() else []


def write_about(prepared: Path, about: About) -> None:
    """Write data/prepared/about.json."""
    unchanged = {"for_processing"} if about.for_processing == "refuse" else None
    files.write_json(prepared / "about.json", about.model_dump(exclude=unchanged))


def read_about(prepared: Path) -> About:
    """Read data/prepared/about.json.

    Raises:
        UserError: the file is missing or malformed.

    """
    path = prepared / "about.json"
    return settings.check(About, files.read_json(path), path)


def load(prepared: Path) -> Dataset:
    """Load the prepared data set.

    Raises:
        UserError: a file is missing, or the array and the index differ in length.

    """
    path = prepared / "images.npy"
    if not path.is_file():
        raise UserError(f"{path} does not exist: run `dvc repro`")
    images = np.load(path, mmap_mode="r")
    entries = read_index(prepared)
    if len(images) != len(entries):
        raise UserError(
            f"{path} and {prepared / 'index.csv'} differ in length: {len(images)} and {len(entries)} images"
        )
    return Dataset(images, entries)
