"""DeLong's interval and paired test of the ROC AUC: image-level, closed form."""

from mammo.scoring.cases import Cases
from mammo.scoring.intervals import NORMAL, Interval, when_all_agree
from mammo.scoring.paired import Change, tested, unchanged

import numpy as np
from scipy import stats


def _placements(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each positive the share of negatives below it, for each negative the share of positives above it.

    By midranks (Sun & Xu 2014, IEEE Signal Process. Lett. 21:1389), in floating point: counts of pairs never overflow.
    """
    positive = np.asarray(labels) == 1
    probabilities = np.asarray(probabilities, dtype=np.float64)
    ranks = stats.rankdata(probabilities)
    above = (ranks[positive] - stats.rankdata(probabilities[positive])) / np.sum(~positive)
    below = 1 - (ranks[~positive] - stats.rankdata(probabilities[~positive])) / np.sum(positive)
    return above, below


def _variance(above: np.ndarray, below: np.ndarray) -> float:
    return float(np.var(above, ddof=1) / len(above) + np.var(below, ddof=1) / len(below))


def delong_interval(cases: Cases) -> Interval:
    """Return the ROC AUC with DeLong's interval (DeLong et al. 1988, Biometrics 44:837), normal, cut to [0, 1].

    Takes every image for independent. One image of a class: [0, 1]. No variance at an AUC of 0 or 1: the exact bound
    for as many independent pairs as the smaller class has images.
    """
    cases = cases.independent()
    above, below = _placements(cases.labels, cases.probabilities)
    auc = float(np.clip(above.mean(), 0, 1))
    smaller = min(len(above), len(below))
    if smaller < 2:
        return Interval(auc, 0.0, 1.0)
    reach = NORMAL * _variance(above, below) ** 0.5
    low, high = max(auc - reach, 0.0), min(auc + reach, 1.0)
    if reach < 1e-12 and auc > 1 - 1e-12:
        low, high = when_all_agree(smaller), 1.0
    if reach < 1e-12 and auc < 1e-12:
        low, high = 0.0, 1 - when_all_agree(smaller)
    return Interval(auc, low, high)


def delong_test(a: Cases, b: Cases) -> Change:
    """Run DeLong's paired test of two ROC AUCs on the same images, given in one order; each counts as independent."""
    of_a, of_b = delong_interval(a), delong_interval(b)
    labels, said_a, said_b = a.as_given(a.labels), a.as_given(a.probabilities), b.as_given(b.probabilities)
    (above_a, below_a), (above_b, below_b) = _placements(labels, said_a), _placements(labels, said_b)
    support = min(len(above_a), len(below_a))
    if np.array_equal(said_a, said_b):
        return unchanged(of_a)
    error = _variance(above_b - above_a, below_b - below_a) ** 0.5 if support > 1 else 0.0
    return tested(of_a, of_b, error, support, stats.norm)
