"""Images of another set, on which a finished model is validated; they have labels but need no split."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mammo.core import files, set_description
from mammo.core.dataset import SPLITS, Entry
from mammo.core.errors import UserError
from mammo.core.settings import Data
from mammo.core.wording import counted
from mammo.sources import described, own

EXAMPLES = 3


class Images(NamedTuple):
    """The images of another set."""

    folder: Path
    paths: Sequence[Path]
    entries: Sequence[Entry]
    """In the order of the paths, each with the hash of its file."""
    remarks: Sequence[str]
    """What the user should know of how the set was read."""


def images(folder: Path, data: Data, name: str = "") -> Images:
    """Find the images of another set.

    Args:
        folder: as the description `name` says; without one it contains `labels.csv`, or the folders `0` and `1`, or
            these in `train`, `valid` and `test`.
        data: the section `data` of params.yaml; `data.patient` finds the patient in a file's name where no table does.
        name: of the set; it need not be described.

    Raises:
        UserError: the folder has none of these forms or holds images of one class only, or a file cannot be read.

    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder")
    if name in set_description.names():
        found, remarks, _ = described.read(name, folder, data)
    elif (folder / own.LIST).is_file():
        found, remarks = own.listed(folder, data.patient), own.remarks(folder)
    else:
        found, remarks = own.classes(folder, data.patient), []
    entries = [replace(one.entry, sha256=_hash(one.path)) for one in found]
    for label, kind in enumerate(("healthy", "cancer")):
        if not any(entry.label == label for entry in entries):
            raise UserError(f"{folder} holds no {kind} image (label {label}): nothing can be scored on one class")
    return Images(folder, [one.path for one in found], entries, remarks)


def _hash(path: Path) -> str:
    try:
        return files.sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


class Shared(NamedTuple):
    """Images of another set that are not new to a model, for one reason."""

    number: str
    """How many, why, and in which splits of the model's own set they or their patients are."""
    names: str
    """Some of them."""


def in_words(found: Sequence[Shared], named: bool = True) -> str:
    """Return in one sentence which images are not new; `named`: with their names, which git must not keep."""
    return "; ".join(f"{each.number}: {each.names}" if named else each.number for each in found)


def shared(one: str, several: str, splits: Sequence[str], names: Sequence[str]) -> Shared:
    """Return images that are not new.

    Args:
        one: what is said of one image, before the words for the model's own set.
        several: the same of several images.
        splits: for each image, the split of the own set in which it or its patient is.
        names: of the images.

    """
    where = ", ".join(f"{splits.count(name)} {name}" for name in SPLITS if name in splits)
    more = ", …" if len(names) > EXAMPLES else ""
    number = f"{counted(len(names), one, several)} the set that the model was made from ({where})"
    return Shared(number, ", ".join(names[:EXAMPLES]) + more)


def shared_with(own_set: Sequence[Entry], other: Sequence[Entry]) -> list[Shared]:
    """Return which images of another set are not new to a model; none if all are, as far as files and patients tell.

    An image is not new if its file, or another image of its patient, is in the model's own set, in whatever split.
    """
    hashes = {entry.sha256: entry.split for entry in own_set}
    patients = {entry.patient: entry.split for entry in own_set if entry.patient}
    same = [entry for entry in other if entry.sha256 in hashes]
    known = [entry for entry in other if entry.sha256 not in hashes and entry.patient in patients]
    found = []
    for entries, one, several in (
        (same, "image is also in", "images are also in"),
        (known, "image shows a patient of", "images show a patient of"),
    ):
        if entries:
            splits = [hashes.get(entry.sha256) or patients[entry.patient] for entry in entries]
            found.append(shared(one, several, splits, [entry.image for entry in entries]))
    return found


def unseen_levels(own_set: Sequence[Entry], other: Sequence[Entry]) -> list[str]:
    """Return in a sentence each which levels of a group, e.g. of the vendor, are in no image of the model's own set.

    Groups that the own set does not have are left out.
    """
    notes = []
    for name in sorted({name for entry in own_set for name, _ in entry.groups}):
        known = {dict(entry.groups).get(name, "") for entry in own_set}
        levels = Counter(dict(entry.groups).get(name, "") for entry in other)
        notes += [
            f"{name} {level!r}, of {counted(number, 'image')}, is in no image of the model's own set"
            for level, number in sorted(levels.items())
            if level and level not in known
        ]
    return notes
