"""A set of mammograms put into data/raw as delivered, with an index: synthetic, from Kaggle, or the user's own."""

import re
from pathlib import Path
from typing import Annotated, Literal

from mammo import files, kaggle, phantom, settings, sources, stage
from mammo.dataset import write_index
from mammo.errors import UserError
from pydantic import AfterValidator, Field


def pinned(handle: str) -> str:
    """Refuse a Kaggle handle without a version: what it names would change whenever its owner uploads."""
    if not kaggle.HANDLE.fullmatch(handle):
        raise ValueError(
            "owner/name/versions/N with N from 1 (without a version the same handle would be other images tomorrow)"
        )
    return handle


def pattern_of_patient(pattern: str) -> str:
    """Refuse a pattern that does not say which part of a file name is the patient."""
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"a regular expression ({error})") from error
    if groups != 1:
        raise ValueError(f"a regular expression with one group, the patient (it has {groups})")
    return pattern


class Data(settings.Settings):
    """Section `data` of params.yaml."""

    source: Literal["phantom", "kaggle", "folder"]
    kaggle: Annotated[str, AfterValidator(pinned)]
    folder: Annotated[str, Field(min_length=1)]
    patient: Annotated[str, AfterValidator(pattern_of_patient)]
    phantom: phantom.Phantoms


def main(folder: Path, raw: Path) -> None:
    """Put the images of `data.source` into RAW with index.csv; FOLDER holds the user's own images."""
    data = settings.read("data", Data)
    if data.source == "kaggle":
        found = from_kaggle(data.kaggle, data.patient)
    elif data.source == "folder":
        keep_apart(folder, raw)
        found = sources.own(folder, data.patient)
    with files.written(raw) as target:
        target.mkdir()
        if data.source == "phantom":
            entries = phantom.generate(data.phantom, target, stage.cores())
        else:
            entries = sources.copy(found, target)
        write_index(target, sorted(entries, key=lambda entry: entry.image))


def from_kaggle(handle: str, patient: str) -> list[sources.Found]:
    """The images of a Kaggle set in kagglehub's cache, fetched first if they are not there.

    Raises:
        UserError: the set cannot be had, or is not laid out as `{train,valid,test}/{0,1}/`.

    """
    folder = kaggle.fetch(handle)
    try:
        return sources.tree(folder, patient)
    except UserError as error:
        way_on = f"if its copy here was damaged, delete {folder} and run again"
        raise UserError(f"the Kaggle set {handle} cannot be used: {error}; {way_on}") from error


def keep_apart(folder: Path, raw: Path) -> None:
    """Refuse a folder of own images that lies in RAW or around it: RAW is replaced as a whole.

    Raises:
        UserError: it does.

    """
    own, target = folder.resolve(), raw.resolve()
    if own.is_relative_to(target) or target.is_relative_to(own):
        raise UserError(f"{folder} (data.folder) and {raw}, which this stage replaces, must not contain each other")


if __name__ == "__main__":
    stage.run(main)
