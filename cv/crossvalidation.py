"""Settings of cross-validation (cv/params.yaml), and which patients are in which split of a fold."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from mammo.core import settings, splits
from mammo.core.dataset import SPLITS, Entry
from mammo.core.errors import UserError

from pydantic import Field

PIPELINE = Path("../params.yaml")  # holds what a variant does not set
SECTIONS = ("folds", "variants", "finetuned", "ensembles", "pretraining")


class Folds(settings.Settings):
    """Section `folds` of cv/params.yaml."""

    number: Annotated[int, Field(ge=2, le=20)]
    """Folds, and networks per variant."""
    seed: int
    """Assigns patients to folds."""
    valid: settings.Share
    """Share of a fold's training patients that select the epoch and lock the threshold."""


class Changes(settings.Settings):
    """What a variant trains otherwise than ../params.yaml says, by section; the values are checked by `params`."""

    patients: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a fold's training patients that it learns from."""
    preprocess: dict[str, Any] = Field(default_factory=dict)
    augment: dict[str, Any] = Field(default_factory=dict)
    train: dict[str, Any] = Field(default_factory=dict)


class Variant(settings.Settings):
    """An entry of the sections `variants` and `finetuned`."""

    compared_with: str
    """Another row; apart from `settings`, so that another comparison trains nothing again."""
    settings: Changes


class Ensemble(settings.Settings):
    """An entry of the section `ensembles`: the mean of other rows' probabilities."""

    compared_with: str
    mean_of: Annotated[list[str], Field(min_length=2)]


class Pretraining(settings.Settings):
    """Section `pretraining`."""

    variant: str
    """Whose network, input and recipe are trained on phantoms."""
    epochs: Annotated[int, Field(ge=1)]
    phantom: settings.Phantoms
    """A fifth of these patients are tested: how well was it learned?"""


class CrossValidation(NamedTuple):
    """All of cv/params.yaml."""

    folds: Folds
    variants: Mapping[str, Variant]
    """Of both sections."""
    ensembles: Mapping[str, Ensemble]
    pretraining: Pretraining


def read(path: Path = settings.PARAMS) -> CrossValidation:
    """Read and check cv/params.yaml.

    Raises:
        UserError: it or a section is missing, a key is unknown, a value has the wrong type or is out of range.

    """
    content = settings.load_yaml(path)
    if not isinstance(content, dict) or set(content) != set(SECTIONS):
        raise UserError(f"{path} must hold the sections {', '.join(SECTIONS)}, and no other")

    def entries(section: str, model: type[settings.AnySettings]) -> dict[str, settings.AnySettings]:
        named = content[section] or {}
        return {name: settings.check(model, entry, path, (section, name)) for name, entry in named.items()}

    return CrossValidation(
        settings.check(Folds, content["folds"], path, ("folds",)),
        entries("variants", Variant) | entries("finetuned", Variant),
        entries("ensembles", Ensemble),
        settings.check(Pretraining, content["pretraining"], path, ("pretraining",)),
    )


def params(cross_validation: CrossValidation, name: str, **train: Any) -> settings.Params:
    """Return the pipeline's settings with a variant's changes, and with further ones of the section `train`.

    Raises:
        UserError: there is no such variant, or a setting is not allowed.

    """
    if name not in cross_validation.variants:
        raise UserError(f"cv/params.yaml has no variant {name!r}; it has {', '.join(cross_validation.variants)}")
    changes = cross_validation.variants[name].settings.model_dump(exclude={"patients"})
    try:
        return settings.read(PIPELINE, changes | {"train": changes["train"] | train})
    except UserError as error:
        raise UserError(f"variant {name} of cv/params.yaml: {error}") from None


def assign(entries: Sequence[Entry], fold: int, folds: Folds, share: float = 1.0) -> list[Entry]:
    """Assign every entry to a split of one fold: no patient in two of them, both classes spread evenly.

    The patients of each class (any image with cancer, or none) are dealt out to the folds in the order of a hash of
    seed and patient; of the others, in the order of another hash, the first `folds.valid` validate.

    Args:
        entries: all images.
        fold: from 0, the one that is tested.
        folds: the settings.
        share: of the training patients of each class that are learned from; the rest, last in the same order, is in the
            split `left out`.

    Raises:
        UserError: there is no such fold, or a split lacks a class.

    """
    if not 0 <= fold < folds.number:
        raise UserError(f"fold {fold}: there are folds 0 to {folds.number - 1}")
    place: dict[str, str] = {}
    for patients in splits.patients_by_class(entries):
        tested = splits.shuffled(patients, folds.seed, "fold")[fold :: folds.number]
        rest = splits.shuffled(set(patients) - set(tested), folds.seed, f"valid of fold {fold}")
        valid = round(folds.valid * len(rest))
        learned = valid + round(share * (len(rest) - valid))
        place |= dict.fromkeys(tested, "test") | dict.fromkeys(rest[:valid], "valid")
        place |= dict.fromkeys(rest[valid:learned], "train") | dict.fromkeys(rest[learned:], "left out")
    assigned = [replace(entry, split=place[entry.patient_key]) for entry in entries]
    for split in SPLITS:
        if {entry.label for entry in assigned if entry.split == split} != {0, 1}:
            raise UserError(f"fold {fold}: its {split} split lacks a class: fewer folds or more patients are needed")
    return assigned


def emptied(folder: Path) -> Path:
    """Return the folder, made anew: an interrupted run may have left half of its content."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
