"""Settings of cross-validation (cv/params.yaml), and the assignment of patients to the splits of a fold."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from mammo.core import files, recipes, settings, splits, yaml_files
from mammo.core.checked import AnySettings
from mammo.core.dataset import SPLITS, Entry
from mammo.core.errors import UserError
from mammo.core.predictions import digest

from pydantic import Field, field_validator

PIPELINE = Path("../params.yaml")  # settings that no recipe changes
RULE = "balanced_accuracy"  # rule of the thresholds, locked on each fold's validation images
SECTIONS = ("folds", "variants", "finetuned", "ensembles", "pretraining")


HELD_OUT = "held out"  # split of the patients that are set aside
RECIPES = Path("../recipes")


class Holdout(settings.Settings):
    """Patients that are set aside before the first try, and scored once (`holdout.py`)."""

    share: settings.Share
    """Share of the patients of each class."""
    seed: int
    """Seed of who they are."""


class Folds(settings.Settings):
    """Section `folds` of cv/params.yaml."""

    number: Annotated[int, Field(ge=2, le=20)]
    """Number of folds, and of networks per variant."""
    seed: int
    """Seed of the assignment of patients to folds."""
    valid: settings.Share
    """Share of a fold's training patients held out for validation."""
    by: Annotated[str, Field(min_length=1)] = "none"
    """Group whose levels are the folds, e.g. `vendor`: each network is tested on a level it never saw; `none`: folds of
    patients at random."""
    holdout: Holdout | None = None
    """Patients that are in no fold, neither to learn from nor to be tested; None: there are none."""


class Variant(settings.Settings):
    """An entry of the sections `variants` and `finetuned`."""

    compared_with: str
    """Name of another row; no part of `Trained`, so that changing it does not train again."""
    seeds: Annotated[list[settings.Count], Field(min_length=1)]
    """Seeds of the trainings of each fold (`train.seed`); their probabilities are averaged."""
    recipe: str = ""
    """Recipe in ../recipes; by default that of the variant's name."""
    patients: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of a fold's training patients that are used."""

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("every seed once: the same seed gives the same network again")
        return seeds


class Trained(settings.Settings):
    """All that a variant is trained with: data/settings/VARIANT.json."""

    seeds: list[int]
    patients: float
    preprocess: settings.Preprocess
    augment: settings.Augment
    train: settings.Train

    def with_train(self, **changes: Any) -> settings.Train:
        """Return the section `train` with changes, e.g. another seed."""
        return self.train.model_copy(update=changes)


class Ensemble(settings.Settings):
    """An entry of the section `ensembles`: the mean of other rows' probabilities."""

    compared_with: str
    mean_of: Annotated[list[str], Field(min_length=2)]


class Pretraining(settings.Settings):
    """Section `pretraining`."""

    variant: str
    """Variant whose network, input and training settings are used on phantoms."""
    epochs: Annotated[int, Field(ge=1)]
    phantom: settings.Phantoms
    """A fifth of these patients are the test split."""


class CrossValidation(NamedTuple):
    """All of cv/params.yaml."""

    folds: Folds
    variants: Mapping[str, Variant]
    """Entries of the sections `variants` and `finetuned`."""
    ensembles: Mapping[str, Ensemble]
    pretraining: Pretraining


def read(path: Path = settings.PARAMS) -> CrossValidation:
    """Read and check cv/params.yaml.

    Raises:
        UserError: the file or a section is missing, a key is unknown, a value has the wrong type or is out of range.

    """
    content = yaml_files.read(path)
    if not isinstance(content, dict) or set(content) != set(SECTIONS):
        raise UserError(f"{path} must hold the sections {', '.join(SECTIONS)}, and no other")

    def entries(section: str, model: type[AnySettings]) -> dict[str, AnySettings]:
        named = content[section] or {}
        return {name: settings.check(model, entry, path, (section, name)) for name, entry in named.items()}

    return CrossValidation(
        settings.check(Folds, content["folds"], path, ("folds",)),
        entries("variants", Variant) | entries("finetuned", Variant),
        entries("ensembles", Ensemble),
        settings.check(Pretraining, content["pretraining"], path, ("pretraining",)),
    )


def resolve(cross_validation: CrossValidation, name: str, folder: Path) -> Trained:
    """Return all that a variant is trained with: the settings of the pipeline with those of its recipe in their place.

    Args:
        cross_validation: the content of cv/params.yaml.
        name: of the variant.
        folder: with the recipes.

    Raises:
        UserError: there is no such variant or recipe, a setting is not allowed, or the recipe trains other seeds. On
            a share of the patients, where a row is no score of the recipe, it may have fewer.

    """
    variant = cross_validation.variants[name]
    try:
        params = recipes.params(variant.recipe or name, PIPELINE, folder)
    except UserError as error:
        raise UserError(f"variant {name} of cv/params.yaml: {error}") from None
    if params.train.seeds and params.train.seeds != variant.seeds and variant.patients == 1:
        raise UserError(
            f"variant {name} of cv/params.yaml: its recipe is the mean over the seeds {params.train.seeds}, so its row "
            f"must be as well: write seeds: {params.train.seeds}, not {variant.seeds}"
        )
    used = params.model_dump(include=set(recipes.SECTIONS))
    return Trained.model_validate({"seeds": variant.seeds, "patients": variant.patients, **used})


def trained(path: Path) -> Trained:
    """Read data/settings/VARIANT.json.

    Raises:
        UserError: the file is missing or malformed.

    """
    return settings.check(Trained, files.read_json(path), path)


def settings_digest(cross_validation: CrossValidation, name: str, folder: Path) -> str:
    """Return an identifier of all that a row is made with: settings of its networks, or of an ensemble's members.

    A setting that a later version adds, and that is at its default, does not change it.

    Args:
        cross_validation: the content of cv/params.yaml.
        name: of the row.
        folder: data/settings.

    """
    if ensemble := cross_validation.ensembles.get(name):
        members = [member for member in ensemble.mean_of if member in cross_validation.variants]
        return digest([settings_digest(cross_validation, member, folder) for member in members] + ensemble.mean_of)
    used = trained(folder / f"{name}.json").model_dump(exclude_defaults=True, exclude={"seeds"})
    return digest({**used, "folds": cross_validation.folds.model_dump(exclude_defaults=True)})


def assign(entries: Sequence[Entry], fold: int, folds: Folds, share: float = 1.0) -> list[Entry]:
    """Assign every entry to a split of one fold: each patient to one split, both classes evenly.

    The patients of each class (any image with cancer, or none) are dealt out to the folds in the order of a hash of
    seed and patient. Of the remaining patients, in the order of another hash, the first `folds.valid` are validation.

    Args:
        entries: all images.
        fold: index, from 0, of the fold to test.
        folds: the settings.
        share: share of the training patients of each class that are used; the rest, last in the same order, is in the
            split `left out`.

    Patients that are set aside (`folds.holdout`) are in the split `held out`, whatever the fold.

    Raises:
        UserError: there is no such fold, or a split lacks a class.

    """
    if not 0 <= fold < folds.number:
        raise UserError(f"fold {fold}: there are folds 0 to {folds.number - 1}")
    aside = held_out(entries, folds)
    place = dict.fromkeys(aside, HELD_OUT)
    of_level = set() if folds.by == "none" else _patients_of_level(entries, fold, folds)
    for every in splits.patients_by_class(entries):
        patients = [patient for patient in every if patient not in aside]
        tested = splits.shuffled(patients, folds.seed, "fold")[fold :: folds.number]
        if folds.by != "none":
            tested = [patient for patient in patients if patient in of_level]
        rest = splits.shuffled(set(patients) - set(tested), folds.seed, f"valid of fold {fold}")
        valid = round(folds.valid * len(rest))
        learned = valid + round(share * (len(rest) - valid))
        place |= dict.fromkeys(tested, "test") | dict.fromkeys(rest[:valid], "valid")
        place |= dict.fromkeys(rest[valid:learned], "train") | dict.fromkeys(rest[learned:], "left out")
    assigned = [replace(entry, split=place[entry.patient_key]) for entry in entries]
    if folds.by != "none":  # no image of the level is learned from, and no other is tested
        level = levels(entries, folds)[fold]
        assigned = [
            entry
            if entry.split == HELD_OUT or (_level_of(entry, folds.by) == level) == (entry.split == "test")
            else replace(entry, split="left out")
            for entry in assigned
        ]
    _refuse_one_class(assigned, f"fold {fold}: its", "fewer folds or more patients are needed")
    return assigned


def held_out(entries: Sequence[Entry], folds: Folds) -> set[str]:
    """Return the patients that are set aside: of each class the first in the order of a hash of seed and patient."""
    if folds.holdout is None:
        return set()
    aside = set()
    for patients in splits.patients_by_class(entries):
        order = splits.shuffled(patients, folds.holdout.seed, "holdout")
        aside |= set(order[: round(folds.holdout.share * len(order))])
    return aside


def assign_held_out(entries: Sequence[Entry], folds: Folds) -> list[Entry]:
    """Assign every entry to a split of the last training: those set aside are its test split, all others learn.

    Raises:
        UserError: nobody is set aside, or a split lacks a class.

    """
    aside = held_out(entries, folds)
    if not aside:
        raise UserError("no patients are set aside: give folds.holdout in cv/params.yaml a share and a seed")
    place = dict.fromkeys(aside, "test")
    for patients in splits.patients_by_class(entries):
        rest = splits.shuffled(set(patients) - aside, folds.seed, "valid of the last training")
        valid = round(folds.valid * len(rest))
        place |= dict.fromkeys(rest[:valid], "valid") | dict.fromkeys(rest[valid:], "train")
    assigned = [replace(entry, split=place[entry.patient_key]) for entry in entries]
    _refuse_one_class(assigned, "the last training: its", "more patients are needed")
    return assigned


def _refuse_one_class(assigned: Sequence[Entry], where: str, needed: str) -> None:
    for split in SPLITS:
        if {entry.label for entry in assigned if entry.split == split} != {0, 1}:
            raise UserError(f"{where} {split} split lacks a class: {needed}")


def _level_of(entry: Entry, group: str) -> str:
    return dict(entry.groups).get(group, "")


def levels(entries: Sequence[Entry], folds: Folds) -> list[str]:
    """Return the levels of the group `folds.by`, one per fold, sorted.

    Raises:
        UserError: no image has the group, images lack a value, or there are more or fewer levels than folds.

    """
    known = sorted({name for entry in entries for name, _ in entry.groups})
    if folds.by not in known:
        have = ", ".join(known) or "none"
        raise UserError(f"folds.by is {folds.by!r}, which is no group of data/raw/index.csv; it has {have}")
    lacking = sum(not _level_of(entry, folds.by) for entry in entries)
    if lacking:
        raise UserError(
            f"folds.by: {lacking} of {len(entries)} images have no {folds.by}, so it cannot be left out: "
            "complete the column or leave these images out"
        )
    found = sorted({_level_of(entry, folds.by) for entry in entries})
    if len(found) != folds.number:
        raise UserError(
            f"folds.by: {folds.by} has {len(found)} levels ({', '.join(found)}) and folds.number is {folds.number}: "
            f"set folds.number to {len(found)}, and the folds in cv/dvc.yaml to {list(range(len(found)))}"
        )
    return found


def _patients_of_level(entries: Sequence[Entry], fold: int, folds: Folds) -> set[str]:
    """Return the patients most of whose images are of the fold's level; of equally frequent levels, the first."""
    level = levels(entries, folds)[fold]
    seen: dict[str, Counter[str]] = {}
    for entry in entries:
        seen.setdefault(entry.patient_key, Counter())[_level_of(entry, folds.by)] += 1
    return {patient for patient, counts in seen.items() if min(counts, key=lambda one: (-counts[one], one)) == level}


def emptied(folder: Path) -> Path:
    """Delete the folder, which an interrupted run may have left incomplete; create it and return it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
