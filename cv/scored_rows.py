"""Scores of a row of the table of cross-validation: of a variant, an ensemble or the brightness baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

from mammo import scoring
from mammo.core.predictions import Prediction
from mammo.scoring import Bootstrap, Cases, Interval, comparison, scores

import numpy as np

Rows = Sequence[Prediction]


def with_breasts(rows: Rows, sides: Mapping[str, str]) -> list[Prediction]:
    """Return the rows with the breast that each image shows, by its name, where it is known."""
    return [row._replace(breast=sides.get(row.image)) for row in rows]


def cases(rows: Rows, unit: scoring.Unit, chances: np.ndarray | None = None) -> Cases | None:
    """Return images, or breasts with the mean of their views; None where the breasts known are of one class.

    Args:
        rows: the images.
        unit: `image` or `breast`.
        chances: (n,) other probabilities than those of `rows`.

    """
    labels, own, patients, breasts = zip(
        *((row.label, row.probability, row.patient, row.breast) for row in rows), strict=True
    )
    sides = np.array([side or "" for side in breasts])
    units = scoring.in_units(unit, labels, own if chances is None else chances, patients, laterality=sides)
    return units.cases() if units.of_both_classes else None


def scores_of(rows: Rows, seed: int) -> dict[str, Interval]:
    """Return the scores that do not depend on a threshold, with intervals over patients."""
    images, breasts = cases(rows, "image"), cases(rows, "breast")
    if images is None:
        raise ValueError("images of one class cannot be scored")
    every = scores(images, 0.5, Bootstrap(seed))
    found = {name: every[name] for name in ("roc_auc", "patient_roc_auc", "average_precision") if name in every}
    if breasts:
        found["breast_roc_auc"] = scores(breasts, 0.5, Bootstrap(seed))["roc_auc"]
    return found


def change(before: Rows, after: Rows) -> dict[str, Any]:
    """Return the change in ROC AUC from one row to another, as computed by `mammo compare A.csv B.csv`."""
    a, b = (comparison.Side(name, {row.image: row for row in rows}) for name, rows in (("A", before), ("B", after)))
    judged = comparison.compare(comparison.pair(a, b)).changes[comparison.JUDGED]
    return {"roc_auc_change": judged.change, "p": judged.p}


def holm(changes: Mapping[str, dict[str, Any]], tests: int = 0) -> dict[str, dict[str, Any]]:
    """Add `p_holm`, p corrected for the number of comparisons, or for `tests` if there were more."""
    others = {f"other {number}": 1.0 for number in range(tests - len(changes))}
    corrected = scoring.holm({name: change["p"] for name, change in changes.items()} | others)
    return {name: {**change, "p_holm": corrected[name]} for name, change in changes.items()}


def over_seeds(rows: Rows, alone: np.ndarray, seed: int) -> dict[str, Interval]:
    """Return the ROC AUC per image and per breast with intervals over patients and seeds.

    Args:
        rows: the images.
        alone: (seeds, n) probabilities of each training, in the order of `rows`.
        seed: of the bootstrap.

    """
    found = {}
    for unit, name in (("image", "roc_auc"), ("breast", "breast_roc_auc")):
        if cases(rows, unit):
            found[name] = scoring.over_seeds(
                alone, lambda chances, unit=unit: cases(rows, unit, chances), Bootstrap(seed)
            )
    return found


def selection(tables: Mapping[str, Rows], reference: Rows, seed: int) -> dict[str, Any]:
    """Return the best of several rows, corrected for having been chosen, per image and per breast.

    Args:
        tables: the rows to choose from, of the same images.
        reference: the brightness baseline.
        seed: of the bootstrap.

    """
    found = {}
    for unit in ("image", "breast"):
        every, before = {name: cases(rows, unit) for name, rows in tables.items()}, cases(reference, unit)
        if before is None:
            continue
        chosen = scoring.corrected(every, before, Bootstrap(seed))
        found[unit] = {
            "best": chosen.best,
            "raw": chosen.raw,
            "corrected": chosen.corrected,
            "optimism": chosen.optimism,
            "times_chosen": chosen.times[chosen.best],
            "against_shortcut": {"roc_auc_change": chosen.change.change, "p": chosen.change.p},
        }
    return found
