"""Assignment of patients to splits, stratified by class; no patient is in two splits."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from mammo.core.dataset import SPLITS, Entry
from mammo.core.errors import UserError
from mammo.core.randomness import seed_of
from mammo.core.settings import Split
from mammo.core.wording import SPLIT_NAMES

import numpy as np


def patients_by_class(entries: Iterable[Entry]) -> tuple[list[str], list[str]]:
    """Return the patients without cancer and those with at least one image of cancer."""
    cancer: dict[str, bool] = {}
    for entry in entries:
        cancer[entry.patient_key] = cancer.get(entry.patient_key, False) or entry.label == 1
    return [patient for patient in cancer if not cancer[patient]], [patient for patient in cancer if cancer[patient]]


def shuffled(patients: Iterable[str], seed: int, purpose: str) -> list[str]:
    """Return the patients sorted by a hash of seed, purpose and patient; their original order has no effect."""
    return sorted(patients, key=lambda patient: (seed_of(seed, purpose, patient), patient))


def assign(entries: Sequence[Entry], split: Split) -> list[Entry]:
    """Assign every entry to a split.

    With `split.by: folder`, entries keep the split of the source. With `patient`, the patients of each class (any image
    with cancer, or none) are sorted by a hash of seed and patient and divided by the shares in `split`. Splits are
    stratified by class, and adding a patient moves only patients at the boundaries between splits.

    Raises:
        UserError: an entry has no split and `split.by` is `folder`, or a split would lack a class.

    """
    if not entries:
        raise UserError("no readable image is left")
    if split.by == "folder":
        lacking = [entry.image for entry in entries if entry.split not in SPLITS]
        if lacking:
            raise UserError(f"{lacking[0]} was delivered without a split: set split.by: patient")
        assigned = list(entries)
    else:
        place = _split_of_patients(entries, split)
        assigned = [replace(entry, split=place[entry.patient_key]) for entry in entries]
    for name in SPLITS:
        for label, word in enumerate(("healthy", "cancerous")):
            if not any(entry.split == name and entry.label == label for entry in assigned):
                raise UserError(
                    f"the {SPLIT_NAMES[name]} split has no {word} image: more images or other split settings are needed"
                )
    return assigned


def folds(entries: Sequence[Entry], number: int, seed: int) -> np.ndarray:
    """Return the fold of every entry, (n,), from 0: each patient in one fold, both classes dealt out evenly.

    The patients of each class are dealt out in the order of a hash of seed and patient. An image of an unknown patient
    counts as a patient of its own, so folds cannot keep the images of unknown patients together.
    """
    place = {}
    for members in patients_by_class(entries):
        for rank, patient in enumerate(shuffled(members, seed, "fold")):
            place[patient] = rank % number
    return np.array([place[entry.patient_key] for entry in entries])


def _split_of_patients(entries: Sequence[Entry], split: Split) -> dict[str, str]:
    place = {}
    for members in patients_by_class(entries):
        patients = shuffled(members, split.seed, "split")
        test, valid = round(len(patients) * split.test), round(len(patients) * (split.test + split.valid))
        for rank, patient in enumerate(patients):
            place[patient] = "test" if rank < test else "valid" if rank < valid else "train"
    return place
