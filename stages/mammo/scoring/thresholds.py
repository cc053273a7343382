"""Thresholds chosen on validation, and their sensitivity and specificity on other images."""

from collections.abc import Mapping

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases, Ladder
from mammo.scoring.intervals import Interval, collect, intervals
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
