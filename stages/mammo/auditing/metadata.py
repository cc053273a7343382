"""Metadata that give the label away: what a file tells without its anatomy, and how well that alone predicts cancer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from mammo.auditing.findings import Finding
from mammo.auditing.shortcut import FOLDS
from mammo.core import splits
from mammo.core.dataset import GROUP, Dataset, Delivered, Entry
from mammo.imaging.appearance import Appearance
from mammo.scoring import TITLES, Bootstrap, Cases, Interval, against_chance, holm

import numpy as np
from scipy import stats

SIGNIFICANT = 0.05  # of p corrected for the number of properties, so a clean set is warned of in one run out of 20
PATIENT = ("patient_number", "images_of_patient")
"""Properties of a patient, with one case per patient; the others have one case per image."""
FITTED = ("encoding",)
"""Properties without an order, replaced by the share of cancer among the other folds' images of the same value; groups
are such properties too."""
IN_PIXELS = ("file_size", "pixel_size", "encoding", "marked", "inverted", "sharpness")
"""Properties that can show in the pixels, so that a network may use them instead of cancer."""


@dataclass(frozen=True)
class Separation:
    """How well one property alone tells cancer from healthy."""

    roc_auc: Interval
    """In the direction that `higher_with_cancer` names; the interval is two-sided, so the choice costs nothing."""
    higher_with_cancer: bool
    p: float
    """Two-sided, of the hypothesis that the ROC AUC is 0.5."""
    cases: int
    """Number of patients or images with a known value."""


def separations(
    data: Dataset,
    delivered: Sequence[Delivered],
    appearances: Sequence[Appearance],
    seed: int,
    originals: Sequence[Entry] | None = None,
) -> dict[str, Separation | None]:
    """Return how well each property tells the classes apart; None if it cannot be checked.

    Images of unknown patients have no patient number and no number of images; they are left out there. A property
    cannot be checked if all known cases are of one class.

    Args:
        data: n images.
        delivered: (n,) their files.
        appearances: (n,) their appearance.
        seed: seed of the folds and of the bootstrap.
        originals: (n,) their entries before they got pseudonyms, whose names may tell; None if they got none.

    """
    named = originals or data.entries
    files = {
        "file_order": _ranked([PurePosixPath(entry.image).name for entry in named]),
        "file_size": np.array([file.bytes for file in delivered]),
        "pixel_size": np.array([file.height * file.width for file in delivered]),
        "encoding": _cross_fitted([file.encoding for file in delivered], data, seed),
        "marked": np.array([traits.marked for traits in appearances]),
        "inverted": np.array([traits.inverted for traits in appearances]),
        "sharpness": np.array([traits.sharpness for traits in appearances]),
    }
    found = {name: _of_patients(values, named, seed) for name, values in _of_known_patients(named).items()}
    # An image without a value is of a level of its own, since its absence may tell the label too.
    groups = {
        GROUP + name: _cross_fitted(levels.tolist(), data, seed)
        for name, levels in data.groups.items()
        if len(np.unique(levels)) > 1
    }
    found |= {
        name: _separation(values, data.labels, data.patients, seed, _is_fitted(name))
        for name, values in (files | groups).items()
    }
    return {name: found[name] for name in (*PATIENT, "file_order", *IN_PIXELS, *groups)}


def _is_fitted(name: str) -> bool:
    return name in FITTED or name.startswith(GROUP)


def _can_be_in_pixels(name: str) -> bool:
    return name in IN_PIXELS or name.startswith(GROUP)


def _natural(name: str) -> list[tuple[str, int]]:
    """Return a sort key that orders `P_9` before `P_10`."""
    return [(text.casefold(), int(number or -1)) for text, number in re.findall(r"(\D*)(\d*)", name)]


def _ranked(names: Sequence[str]) -> np.ndarray:
    """Return the place of each name in natural order, (n,); equal names have the same place."""
    place = {name: rank for rank, name in enumerate(sorted(set(names), key=lambda name: (_natural(name), name)))}
    return np.array([place[name] for name in names])


def _of_known_patients(entries: Sequence[Entry]) -> dict[str, dict[str, float]]:
    """Return the value of each known patient for both properties of patients."""
    images: dict[str, int] = {}
    for entry in entries:
        if entry.patient:
            images[entry.patient] = images.get(entry.patient, 0) + 1
    names = list(images)
    return {
        "patient_number": dict(zip(names, _ranked(names).tolist(), strict=True)),
        "images_of_patient": {name: float(number) for name, number in images.items()},
    }


def _of_patients(values: Mapping[str, float], entries: Sequence[Entry], seed: int) -> Separation | None:
    cancer = {entry.patient for entry in entries if entry.label}
    labels = np.array([int(patient in cancer) for patient in values])
    return _separation(np.array(list(values.values())), labels, np.array(list(values)), seed)


def _cross_fitted(values: Sequence[str], data: Dataset, seed: int) -> np.ndarray:
    """Return for each image by how much cancer is more frequent among images of its value than among all, (n,).

    Shares are those of the other folds, so no value is fitted to its own images; 0 for a value that they lack. Without
    subtracting the share among all, images of the fold with the most cancer would have the lowest values.
    """
    fold, labels = splits.folds(data.entries, FOLDS, seed), data.labels
    kinds, kind = np.unique(np.array(values), return_inverse=True)
    fitted = np.zeros(len(labels))
    for number in np.unique(fold):
        own, others = fold == number, fold != number
        images, cancer = (np.bincount(kind[others], weights, len(kinds)) for weights in (None, labels[others]))
        more = np.divide(cancer, images, where=images > 0, out=np.zeros(len(kinds))) - labels[others].mean()
        fitted[own] = np.where(images > 0, more, 0)[kind[own]]
    return fitted


def _separation(
    values: np.ndarray, labels: np.ndarray, patients: np.ndarray, seed: int, fitted: bool = False
) -> Separation | None:
    """Return how well `values` separate the `labels`; `fitted` values have a direction already."""
    if len(np.unique(labels)) < 2:
        return None
    places = stats.rankdata(values) / (len(values) + 1)
    auc, p = against_chance(Cases(labels, places, patients, "whole"), Bootstrap(seed))
    if auc.value >= 0.5 or fitted:
        return Separation(auc, True, p if auc.value >= 0.5 else 1.0, len(values))
    return Separation(Interval(1 - auc.value, 1 - auc.high, 1 - auc.low), False, p, len(values))


def corrected(found: Mapping[str, Separation | None]) -> dict[str, float]:
    """Return p of each checked property, corrected for their number by Holm's method."""
    return holm({name: one.p for name, one in found.items() if one})


def findings(found: Mapping[str, Separation | None]) -> list[Finding]:
    """Return a warning for each property that tells the classes apart, significant after Holm's correction."""
    p_values = corrected(found)
    rows = []
    for name, one in found.items():
        if one is None or p_values[name] >= SIGNIFICANT:
            continue
        direction = "" if _is_fitted(name) else f", {'higher' if one.higher_with_cancer else 'lower'} with cancer"
        auc = f"{one.roc_auc.value:.3f} ({one.roc_auc.low:.3f} to {one.roc_auc.high:.3f}){direction}"
        detail = f"the label can be told by {_title(name)} alone: ROC AUC {auc}; {_meaning(name)}"
        rows.append(Finding("metadata", "warning", detail=detail))
    return rows


def _title(name: str) -> str:
    return f"the group {name.removeprefix(GROUP)}" if name.startswith(GROUP) else TITLES[name]


def _meaning(name: str) -> str:
    """Return what it means that a property tells the label."""
    if name.startswith(GROUP):
        return "what differs between its levels may show in the pixels, so a network may use it instead of cancer"
    if name in IN_PIXELS:
        return "the pixels can carry it, so a network may use it instead of cancer"
    if name == "images_of_patient":
        return "the pixels cannot carry it, but a score per patient is not that of patients with equally many images"
    return "the pixels cannot carry it, but the classes were collected apart, and what else differs may be a shortcut"


def as_metrics(found: Mapping[str, Separation | None]) -> dict[str, dict[str, Any]]:
    """Return the section `metadata` of metrics/audit.json; a property that cannot be checked has 0 cases."""
    p_values = corrected(found)
    content: dict[str, dict[str, Any]] = {}
    for name, one in found.items():
        content[name] = {"pixels_can_carry_it": _can_be_in_pixels(name), "cases": one.cases if one else 0}
        if one:
            ends = {"value": one.roc_auc.value, "low": one.roc_auc.low, "high": one.roc_auc.high}
            content[name] = {**ends, "p_holm": p_values[name], "higher_with_cancer": one.higher_with_cancer} | content[
                name
            ]
    return content
