"""Thresholds chosen on validation, and their sensitivity and specificity on other images."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases, Ladder
from mammo.scoring.intervals import Interval, Resampled, collect, interval_of, intervals, ratio
from mammo.scoring.measures import cells_of, decided

import numpy as np


def _between(higher: np.ndarray, lower: np.ndarray) -> np.ndarray:
    """Return the mean of neighbouring probabilities, or the higher one if no float lies between them."""
    middle = (higher + lower) / 2
    return np.where(middle > lower, middle, higher)


def locked_thresholds(cases: Cases) -> dict[str, float]:
    """Return the threshold of each rule of `rules.ThresholdRule`, chosen on the validation split.

    Candidates are the midpoints of neighbouring distinct probabilities, 0, and a number above all probabilities.
    `balanced_accuracy` selects the candidate with the highest balanced accuracy (the lowest if tied, since a missed
    cancer is worse than a recall); `specificity_90` and `specificity_95` the lowest with at least that specificity;
    `sensitivity_90` the highest with at least that sensitivity; `half` is 0.5.
    """
    ladder = Ladder(cases)
    once = np.ones((1, len(cases.cancer)))
    true, false = (np.append(0, counts[0]).astype(np.int64) for counts in ladder.climbed(once))
    rungs = ladder.probabilities
    above = (rungs[0] + 1) / 2 if rungs[0] < np.nextafter(1, 0) else np.nextafter(1, 2)
    candidates = np.concatenate([[above], _between(rungs[:-1], rungs[1:]), [0.0]])  # in descending order
    positives, negatives = true[-1], false[-1]
    youden = true * negatives - false * positives  # integers, so that ties are exact

    def specificity(percent: int) -> float:
        return float(candidates[np.flatnonzero(100 * (negatives - false) >= percent * negatives)[-1]])

    return {
        "balanced_accuracy": float(candidates[np.flatnonzero(youden == youden.max())[-1]]),
        "half": 0.5,
        "specificity_90": specificity(90),
        "specificity_95": specificity(95),
        "sensitivity_90": float(candidates[np.flatnonzero(100 * true >= 90 * positives)[0]]),
    }


def operating_points(
    cases: Cases, thresholds: Mapping[str, float], bootstrap: Bootstrap
) -> dict[str, dict[str, float | Interval]]:
    """Return sensitivity and specificity at thresholds chosen on other images.

    Args:
        cases: the scored images.
        thresholds: threshold of each rule, as returned by `locked_thresholds`.
        bootstrap: the resamples.

    Returns:
        `threshold`, `sensitivity` and `specificity` of each rule. The target of a rule, e.g. 90 % specificity, was met
        on validation and is only approximately met here.

    """
    points: dict[str, dict[str, float | Interval]] = {}
    for rule, threshold in thresholds.items():
        cells = cells_of(cases, cases.probabilities >= threshold)
        scored = collect(cases, bootstrap, len(cases.cancer), lambda counts, cells=cells: decided(counts @ cells))
        reached = intervals(cases, {name: scored[name] for name in ("sensitivity", "specificity")})
        points[rule] = {"threshold": threshold, **reached}
    return points


class AtThreshold(NamedTuple):
    """The test cases at one threshold."""

    threshold: float
    counts: tuple[int, int, int, int]
    """True positives, false positives, false negatives, true negatives."""
    scores: dict[str, Interval]
    """`sensitivity`, `specificity` and `precision`."""


def at_thresholds(cases: Cases, thresholds: Sequence[float], bootstrap: Bootstrap) -> list[AtThreshold]:
    """Return confusion matrix, sensitivity, specificity and precision at each of many thresholds.

    Sensitivity and specificity are those of `operating_points`, with one pass over the resamples for all thresholds.

    Args:
        cases: the scored images.
        thresholds: a case is positive if its probability is not below.
        bootstrap: the resamples.

    """
    ladder = Ladder(cases)
    rungs = np.searchsorted(-ladder.probabilities, -np.asarray(thresholds), side="right")

    def cells(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return true and false positives, false and true negatives, each (resamples, thresholds)."""
        true, false = (np.pad(each, ((0, 0), (1, 0))) for each in ladder.climbed(counts))
        found, recalled = true[:, rungs], false[:, rungs]
        return found, recalled, true[:, -1:] - found, false[:, -1:] - recalled

    def scores(counts: np.ndarray) -> np.ndarray:
        found, recalled, missed, spared = cells(counts)
        ratios = ratio(found, found + missed), ratio(spared, spared + recalled), ratio(found, found + recalled)
        return np.stack(ratios).transpose(0, 2, 1)  # one row per threshold

    once = np.ones((1, len(cases.cancer)))
    numbers = np.stack(cells(once))[:, 0].T.astype(int).tolist()
    values = scores(once)[..., 0]
    drawn = np.concatenate([scores(each) for each in bootstrap.counts(cases.cancer, len(cases.labels))], axis=2)
    return [
        AtThreshold(
            float(threshold),
            (found, recalled, missed, spared),
            {
                name: interval_of(cases, name, Resampled(float(values[row, place]), drawn[row, place]))
                for row, name in enumerate(("sensitivity", "specificity", "precision"))
            },
        )
        for place, (threshold, (found, recalled, missed, spared)) in enumerate(zip(thresholds, numbers, strict=True))
    ]
