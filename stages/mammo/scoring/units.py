"""Scores per image, per breast and per exam: the unit in which screening decides is the breast, not the image.

The score of a breast is the mean over its views (Wu et al. 2020, IEEE Trans. Med. Imaging 39:1184), and the score of an
exam the maximum over its breasts, since a woman is recalled if one of them is suspicious. A unit shows cancer if one of
its images does. Intervals are over patients, who may have several breasts and exams.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mammo.core.dataset import BOTH_SIDES
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.core.wording import SPLIT_NAMES, counted
from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases
from mammo.scoring.intervals import Interval
from mammo.scoring.measures import scores

import numpy as np

Unit = Literal["image", "breast", "exam", "exam_mean"]
"""What is one case. `exam` is the maximum over the breasts, `exam_mean` their mean."""
UNITS: tuple[Unit, ...] = ("image", "breast", "exam", "exam_mean")
SHOWN = ("roc_auc", "average_precision", "sensitivity", "specificity")
"""Scores of metrics/units.json."""
DECIMALS = 12  # means are rounded: (0.1 + 0.6) / 2 and (0.3 + 0.4) / 2 are tied despite floating-point errors


@dataclass(frozen=True)
class InUnits:
    """One case per unit, in the order of their names."""

    names: np.ndarray
    """(units,) patient, exam and side."""
    labels: np.ndarray
    """(units,) 1 if an image of the unit shows cancer, else 0."""
    probabilities: np.ndarray
    """(units,) scores of the units."""
    patients: np.ndarray
    """(units,) patient of each unit."""
    without_side: int = 0
    """Images left out since their side is unknown."""
    both_sides: int = 0
    """Images left out since they show both breasts."""

    def cases(self, split: str = "test") -> Cases:
        """Return the units as cases, whose intervals are over patients.

        Raises:
            UserError: all units are of one class, or there are none.

        """
        return Cases(self.labels, self.probabilities, self.patients, split)

    @property
    def of_both_classes(self) -> bool:
        """Whether there are units with and without cancer, so that all scores can be computed."""
        return len(np.unique(self.labels)) == 2


def in_units(
    unit: Unit, labels: Any, probabilities: Any, patients: Any, exams: Any = None, laterality: Any = None
) -> InUnits:
    """Combine images into units.

    An image without a side, or with both, belongs to no breast: units other than the image leave it out, and count it.

    Args:
        unit: what is one case.
        labels: (n,) 0 (healthy) or 1 (cancer).
        probabilities: (n,) probabilities of cancer.
        patients: (n,) names.
        exams: (n,) names of exams within the patient; "" is an exam too. By default, one exam per patient.
        laterality: (n,) "L" and "R" (or other names of breasts), "B" for both in one image, or "" if unknown, which is
            the default.

    Returns:
        The units, sorted by patient, exam and side; their order does not depend on labels and probabilities, so that
        two models on the same images give the same units.

    """
    labels, probabilities = np.asarray(labels).astype(int), np.asarray(probabilities, dtype=np.float64)
    patients = np.asarray(patients).astype(str)
    if unit == "image":
        return InUnits(np.arange(len(labels)).astype(str), labels, probabilities, patients)
    blank = np.full(len(labels), "")
    exams = blank if exams is None else np.asarray(exams).astype(str)
    sides = blank if laterality is None else np.asarray(laterality).astype(str)
    known = (sides != "") & (sides != BOTH_SIDES)
    left_out = {
        "without_side": int(np.sum(~known & (sides != BOTH_SIDES))),
        "both_sides": int(np.sum(sides == BOTH_SIDES)),
    }
    keys = np.stack([patients, exams, sides], axis=1)[known]
    keys, of_breasts, scored = _combined(keys, labels[known], probabilities[known], "mean")
    if unit != "breast":
        keys, of_breasts, scored = _combined(keys[:, :2], of_breasts, scored, "mean" if unit == "exam_mean" else "max")
    names = np.array([" ".join(filter(None, key)) for key in keys.tolist()], dtype=str)
    return InUnits(names, of_breasts, scored, keys[:, 0], **left_out)


def of_predictions(rows: Sequence[Prediction], unit: Unit) -> InUnits:
    """Combine the rows of a table of predictions into units."""
    each = [(row.label, row.probability, row.patient, row.exam or "", row.breast or "") for row in rows]
    return in_units(unit, *(list(column) for column in zip(*each, strict=True)))


def _combined(
    keys: np.ndarray, labels: np.ndarray, probabilities: np.ndarray, how: Literal["mean", "max"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct keys, sorted, whether any of their labels is 1, and the mean or maximum of their scores.

    Args:
        keys: (n, k) str.
        labels: (n,) 0 or 1.
        probabilities: (n,) scores.
        how: of the scores.

    """
    if not len(keys):
        return keys, labels, probabilities
    # Sorted by the score within each key, so that sums do not depend on the order of the images.
    order = np.lexsort((probabilities, *keys.T[::-1]))
    keys, labels, probabilities = keys[order], labels[order], probabilities[order]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1)))
    if how == "max":
        scored = np.maximum.reduceat(probabilities, starts)
    else:
        sizes = np.diff(np.append(starts, len(keys)))
        scored = np.round(np.add.reduceat(probabilities, starts) / sizes, DECIMALS)
    return keys[starts], np.maximum.reduceat(labels, starts), scored


def refuse_unscorable(units: InUnits, unit: str, split: str = "test") -> None:
    """Raise an error if the units do not have both classes.

    Raises:
        UserError: no unit is left, or all are of one class; says how many images have no side.

    """
    if unit == "image" or units.of_both_classes:  # images of one class: `Cases` says so
        return
    name = SPLIT_NAMES.get(split, split)
    lacking = f"{counted(units.without_side, f'{name} image has', f'{name} images have')} no laterality"
    both = f" and {counted(units.both_sides, 'shows', 'show')} both breasts" if units.both_sides else ""
    left = f"the {counted(len(units.labels), unit)} left {'is' if len(units.labels) == 1 else 'are'} of one class"
    raise UserError(
        f"evaluate.unit is {unit}, but {lacking}{both}, and {left if len(units.labels) else f'no {unit} is left'}: "
        "name the breasts in the column laterality of labels.csv, or set evaluate.unit: image"
    )


def unit_scores(units: InUnits, threshold: float, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the headline scores of units at the threshold of the images, with intervals over patients.

    The threshold was chosen on images of the validation split. For `exam` it recalls the women of whom a breast reaches
    it. Without units of both classes there are no scores.
    """
    if not units.of_both_classes:
        return {}
    scored = scores(units.cases(), threshold, bootstrap)
    return {name: score for name, score in scored.items() if name != "patient_roc_auc"}


def numbers_by_class(
    labels: Any, patients: Any, exams: Any = None, laterality: Any = None
) -> dict[str, dict[str, float]]:
    """Return the mean number of images and of breasts per patient, of healthy patients and of those with cancer.

    Returns:
        `images` and, if every image shows one known side, `breasts`, each with `healthy` and `cancer`; nothing if all
        patients are of one class.

    """
    labels, patients = np.asarray(labels).astype(int), np.asarray(patients).astype(str)
    names, patient = np.unique(patients, return_inverse=True)
    ill = np.bincount(patient, labels, len(names)) > 0
    if ill.all() or not ill.any():
        return {}
    counts = {"images": np.bincount(patient, minlength=len(names))}
    sides = np.full(len(labels), "") if laterality is None else np.asarray(laterality).astype(str)
    if not np.isin(sides, ("", BOTH_SIDES)).any():
        pairs = np.unique(np.stack([patient.astype(str), sides], axis=1), axis=0)
        counts["breasts"] = np.bincount(pairs[:, 0].astype(int), minlength=len(names))
    return {
        name: {"healthy": float(each[~ill].mean()), "cancer": float(each[ill].mean())} for name, each in counts.items()
    }


def breakdown(
    labels: Any, probabilities: Any, known: Mapping[str, Any], threshold: float, bootstrap: Bootstrap
) -> dict[str, Any]:
    """Return the content of metrics/units.json: the scores of every unit, and how many of them there are.

    Args:
        labels: (n,) of the images.
        probabilities: (n,) of the images.
        known: `patients`, `exams` and `laterality`, as for `in_units`.
        threshold: operating point, chosen on validation.
        bootstrap: the resamples.

    """
    content: dict[str, Any] = {}
    for unit in UNITS:
        units = in_units(unit, labels, probabilities, **known)
        cancer = int(units.labels.sum())
        scored = unit_scores(units, threshold, bootstrap)
        content[unit] = {name: scored[name] for name in SHOWN if name in scored}
        content[unit]["units"] = {"healthy": len(units.labels) - cancer, "cancer": cancer}
    content["left_out"] = {"without_side": units.without_side, "both_sides": units.both_sides}
    content["per_patient"] = numbers_by_class(labels, **known)
    return content


UNEQUAL = 1.25
"""Ratio of the classes' mean numbers per patient from which a score per patient is remarked on."""


def remarks(numbers: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    """Return what different numbers of images or breasts per patient in the two classes do to scores per patient.

    Args:
        numbers: as `numbers_by_class` returns them.

    """
    unequal = {name: mean for name, mean in numbers.items() if _ratio(mean) >= UNEQUAL}
    if not unequal:
        return []
    cancer = " and ".join(f"{mean['cancer']:.1f} {name}" for name, mean in unequal.items())
    healthy = " and ".join(f"{mean['healthy']:.1f}" for mean in unequal.values())
    return [
        f"Patients with cancer have {cancer} on average, healthy ones {healthy}: a score per patient or exam depends "
        "on these numbers and does not carry over to women who have both breasts imaged. The score per breast does not "
        "depend on them."
    ]


def _ratio(mean: Mapping[str, float]) -> float:
    low, high = sorted(mean.values())
    return high / low if low else float("inf")
