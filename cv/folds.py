"""Cross-validation: its settings, who is in which fold, and one fold's images as a training wants them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError

from mammo.core import settings
from mammo.core.dataset import Entry
from mammo.core.errors import UserError
from mammo.core.randomness import seed_of
from mammo.sources.own import phantom

PIPELINE = Path("../params.yaml")  # what a row does not say otherwise is as in the pipeline
SECTIONS = ("preprocess", "augment", "train")  # that a row may set otherwise
SHARE = "patients"  # what a row may say besides: the share of a fold's training patients that it learns from
PREDICTIONS = ("image", "patient", "label", "probability", "predicted")


class Folds(settings.Settings):
    """Section `folds` of cv/params.yaml."""

    number: Annotated[int, Field(ge=2, le=20)]
    """Folds; a row trains as many networks."""
    seed: int
    """Which patient is in which fold."""
    valid: Annotated[float, Field(gt=0, lt=0.5)]
    """Share of a fold's training patients that choose the epoch and lock the threshold."""


class Pretraining(settings.Settings):
    """Section `pretraining` of cv/params.yaml."""

    row: str
    """Whose network, input and recipe are trained on phantoms."""
    phantom: phantom.Phantoms
    """The set that is drawn; a fifth of its patients chooses nothing and tells how well it was learned."""
    epochs: Annotated[int, Field(ge=1)]


def read(section: str, model: type[settings.AnySettings], path: Path = settings.PARAMS) -> settings.AnySettings:
    """The checked settings of a section of cv/params.yaml.

    Raises:
        UserError: it is missing, or a value is not allowed.

    """
    try:
        return model.model_validate(_content(path).get(section))
    except ValidationError as failure:
        faults = "; ".join(
            f"{'.'.join(map(str, (section, *error['loc'])))}: {error['msg']}" for error in failure.errors()
        )
        raise UserError(f"{path}: {faults}") from None


def rows(path: Path = settings.PARAMS) -> list[str]:
    """The names of all rows."""
    return list(_content(path).get("rows") or {})


def row(name: str, path: Path = settings.PARAMS) -> Mapping[str, Any]:
    """What a row sets otherwise than the pipeline does, by section, and its share of patients, if it says one.

    Raises:
        UserError: there is no such row, it holds a section that no fold reads, or its share is none.

    """
    every = _content(path).get("rows") or {}
    if name not in every:
        raise UserError(f"{path}: rows has no {name!r}; it has {', '.join(every)}")
    found = every[name] or {}
    for section in found:
        if section not in (*SECTIONS, SHARE):
            raise UserError(f"{path}: rows.{name}.{section} is unknown; allowed are {', '.join(SECTIONS)} and {SHARE}")
    if not (isinstance(share := found.get(SHARE, 1), int | float) and 0 < share <= 1):
        raise UserError(f"{path}: rows.{name}.{SHARE} is {share!r}; it is a share, greater than 0 and at most 1")
    return found


def _content(path: Path) -> Mapping[str, Any]:
    content = settings.loaded(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold the sections folds, rows and pretraining")
    return content


def assigned(entries: Sequence[Entry], fold: int, asked: Folds, share: float = 1.0) -> list[Entry]:
    """The entries with the splits of one fold: no patient in two of them, both classes spread evenly.

    The patients of each class (any image with cancer, or none) are dealt out to the folds in the order of a hash of
    seed and patient; of the others, in the order of another hash, the first share validates.

    Args:
        entries: all images.
        fold: from 0, the one that is tested.
        asked: the settings.
        share: of the training patients of each class that are learned from; the rest, last in the same order, is in the
            split `left out`.

    Raises:
        UserError: there is no such fold, or a split lacks a class.

    """
    if not 0 <= fold < asked.number:
        raise UserError(f"fold {fold}: there are folds 0 to {asked.number - 1}")
    cancer: dict[str, bool] = {}
    for entry in entries:
        patient = entry.patient or entry.image
        cancer[patient] = cancer.get(patient, False) or entry.label == 1
    place: dict[str, str] = {}
    for label in (False, True):
        patients = [patient for patient in cancer if cancer[patient] is label]
        dealt = _shuffled(patients, asked.seed, "fold")
        tested = set(dealt[fold :: asked.number])
        rest = _shuffled(
            [patient for patient in patients if patient not in tested], asked.seed, f"valid of fold {fold}"
        )
        validating = round(asked.valid * len(rest))
        learned = validating + round(share * (len(rest) - validating))
        place |= dict.fromkeys(tested, "test") | dict.fromkeys(rest[:validating], "valid")
        place |= dict.fromkeys(rest[validating:learned], "train") | dict.fromkeys(rest[learned:], "left out")
    placed = [replace(entry, split=place[entry.patient or entry.image]) for entry in entries]
    for split in ("train", "valid", "test"):
        if {entry.label for entry in placed if entry.split == split} != {0, 1}:
            raise UserError(f"fold {fold}: its {split} split lacks a class: fewer folds or more patients are needed")
    return placed


def _shuffled(patients: Sequence[str], seed: int, purpose: str) -> list[str]:
    return sorted(patients, key=lambda patient: (seed_of(seed, purpose, patient), patient))
