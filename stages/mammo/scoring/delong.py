"""Intervals and a paired test of the ROC AUC in closed form: DeLong's for independent images, and one over patients."""

from mammo.scoring.cases import Cases
from mammo.scoring.intervals import NORMAL, TAIL, Interval, when_all_agree
from mammo.scoring.paired import Change, tested, unchanged

import numpy as np
from scipy import stats


def placements(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
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
    above, below = placements(cases.labels, cases.probabilities)
    error = _variance(above, below) ** 0.5 if min(len(above), len(below)) > 1 else 0.0
    return _limits(above, NORMAL * error, min(len(above), len(below)))


def clustered_interval(cases: Cases) -> Interval:
    """Return the ROC AUC with an interval over patients in closed form (Obuchowski 1997, Biometrics 53:567).

    For one image per patient the standard error is DeLong's. The interval is Student's with `Cases.support` - 1 degrees
    of freedom, clipped to [0, 1]; with fewer than two patients of a kind it is [0, 1]. It takes no resamples, so that a
    training can compute it after every epoch.
    """
    above, below = placements(cases.labels, cases.probabilities)
    support, patients = cases.support(), len(cases.cancer)
    if support < 2:
        return _limits(above, 0.0, support)
    auc, ill = above.mean(), cases.labels
    of_ill = np.bincount(cases.patient[ill], above - auc, patients)
    of_healthy = np.bincount(cases.patient[~ill], below - auc, patients)

    def corrected(sums: np.ndarray, number: int) -> float:
        return float(number / (number - 1) * sums.sum())

    with_ill, with_healthy = len(np.unique(cases.patient[ill])), len(np.unique(cases.patient[~ill]))
    variance = (
        corrected(of_ill**2, with_ill) / len(above) ** 2
        + corrected(of_healthy**2, with_healthy) / len(below) ** 2
        + 2 * corrected(of_ill * of_healthy, patients) / (len(above) * len(below))
    )
    return _limits(above, float(stats.t.ppf(1 - TAIL, support - 1)) * max(variance, 0.0) ** 0.5, support)


def _limits(above: np.ndarray, reach: float, smaller: int) -> Interval:
    """Return the AUC, the mean of `above`, ± `reach`; `smaller` is the number of independent units of a class."""
    auc = float(np.clip(above.mean(), 0, 1))
    if smaller < 2:
        return Interval(auc, 0.0, 1.0)
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
    (above_a, below_a), (above_b, below_b) = placements(labels, scores_a), placements(labels, scores_b)
    support = min(len(above_a), len(below_a))
    if np.array_equal(scores_a, scores_b):
        return unchanged(of_a)
    error = _variance(above_b - above_a, below_b - below_a) ** 0.5 if support > 1 else 0.0
    return tested(of_a, of_b, error, support, stats.norm)
