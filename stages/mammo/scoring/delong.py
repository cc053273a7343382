"""DeLong's interval and paired test of the ROC AUC, in closed form, for independent images."""

from mammo.scoring.cases import Cases
from mammo.scoring.intervals import NORMAL, Interval, when_all_agree
from mammo.scoring.paired import Change, tested, unchanged

import numpy as np
from scipy import stats


def _placements(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of negatives below each positive, and the share of positives above each negative.

    Computed by midranks (Sun & Xu 2014, IEEE Signal Process. Lett. 21:1389) in floating point, to avoid overflow.
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
    """Return the ROC AUC with DeLong's normal interval (DeLong et al. 1988, Biometrics 44:837), clipped to [0, 1].

    Images are treated as independent. With one image in a class, the interval is [0, 1]. With an AUC of 0 or 1 and no
    variance, it is the exact binomial interval for n independent pairs, n being the size of the smaller class.
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
    """Run DeLong's paired test of two ROC AUCs on the same independent images, given in the same order."""
    of_a, of_b = delong_interval(a), delong_interval(b)
    labels, scores_a, scores_b = a.as_given(a.labels), a.as_given(a.probabilities), b.as_given(b.probabilities)
    (above_a, below_a), (above_b, below_b) = _placements(labels, scores_a), _placements(labels, scores_b)
    support = min(len(above_a), len(below_a))
    if np.array_equal(scores_a, scores_b):
        return unchanged(of_a)
    error = _variance(above_b - above_a, below_b - below_a) ** 0.5 if support > 1 else 0.0
    return tested(of_a, of_b, error, support, stats.norm)
