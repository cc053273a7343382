"""Paired comparison of two classifiers: changes of scores with intervals and p."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases
from mammo.scoring.intervals import TAIL, Interval, interval_of
from mammo.scoring.measures import COMPARED, DECIDED, all_scores, resampled_auc

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Change:
    """A score of two classifiers on the same images; `change` is b - a, `p` is two-sided."""

    a: Interval
    b: Interval
    change: Interval
    p: float


def tested(a: Interval, b: Interval, error: float, support: int, law: Any) -> Change:
    """Return the change b - a with interval and p, given its standard error and the distribution of change / error.

    With an error of 0, either all or none of the `support` independent patients (or pairs) change. Then p is that of a
    sign test, and the interval is derived from those of a and b.
    """
    change = b.value - a.value
    if support < 2:
        return Change(a, b, Interval(change, -1.0, 1.0), 1.0)
    if error > 1e-12:
        reach = float(law.ppf(1 - TAIL)) * error
        limits = Interval(change, max(change - reach, -1.0), min(change + reach, 1.0))
        return Change(a, b, limits, float(2 * law.sf(abs(change) / error)))
    p = 1.0 if abs(change) < 1e-12 else 2.0 ** (1 - support)
    return Change(a, b, Interval(change, b.low - a.high, b.high - a.low), p)


def unchanged(score: Interval) -> Change:
    """Return the change between two classifiers with identical predictions."""
    return Change(score, score, Interval(0.0, 0.0, 0.0), 1.0)


def paired_bootstrap(
    a: Cases, b: Cases, called_a: np.ndarray | None, called_b: np.ndarray | None, bootstrap: Bootstrap
) -> dict[str, Change]:
    """Return the change of each score in COMPARED, from the same resamples of patients for both classifiers.

    Interval and p use Student's t distribution with the standard error of the bootstrap: p < 0.05 exactly if the
    interval excludes 0. With `Cases.support` = k there are k - 1 degrees of freedom, and the error is multiplied by
    sqrt(k / (k - 1)), since k resampled patients vary less than k new patients. For sensitivity with one image per
    patient this is the paired t-test.

    Args:
        a: images with the probabilities of the first classifier.
        b: the same images in the same order, with those of the second.
        called_a: (n,) 0 or 1, predictions of the first at its own threshold, in the input's order; None if unknown.
        called_b: (n,) predictions of the second.
        bootstrap: the resamples.

    Returns:
        The changes by score, without `patient_roc_auc` if every patient has cancer, and without the scores of
        predictions if these are unknown.

    """
    known = called_a is not None and called_b is not None
    if called_a is None or called_b is None:
        called_a = called_b = np.zeros(len(a.order))
    sides = [
        all_scores(cases, np.asarray(called)[cases.order] == 1, bootstrap)
        for cases, called in ((a, called_a), (b, called_b))
    ]
    same_order = np.array_equal(a.as_given(a.probabilities), b.as_given(b.probabilities))
    same_calls = np.array_equal(called_a, called_b)
    changes = {}
    for name in COMPARED:
        if (name == "patient_roc_auc" and a.cancer.all()) or (name in DECIDED and not known):
            continue
        first, second = sides[0][name], sides[1][name]
        support = a.support(name)
        before = interval_of(a, name, first)
        if same_calls if name in DECIDED else same_order:
            changes[name] = unchanged(before)
            continue
        drawn = second.resamples - first.resamples
        error = float(np.std(drawn[~np.isnan(drawn)], ddof=1)) * (support / max(support - 1, 1)) ** 0.5
        changes[name] = tested(before, interval_of(b, name, second), error, support, stats.t(max(support - 1, 1)))
    return changes


def against_chance(cases: Cases, bootstrap: Bootstrap) -> tuple[Interval, float]:
    """Return the ROC AUC with its interval, and the two-sided p of the hypothesis that it is 0.5.

    p is that of `paired_bootstrap` against a classifier whose ROC AUC is 0.5 in every resample. A ROC AUC below 0.5 is
    not reflected: whoever reflects it may reflect the interval too, since both directions are tested.
    """
    resampled = resampled_auc(cases, bootstrap)
    support = cases.support()
    error = float(np.nanstd(resampled.resamples, ddof=1)) * (support / max(support - 1, 1)) ** 0.5
    auc = interval_of(cases, "roc_auc", resampled)
    return auc, tested(Interval(0.5, 0.5, 0.5), auc, error, support, stats.t(max(support - 1, 1))).p


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Return p corrected for the number of tests (Holm 1979, Scand. J. Statist. 6:65), in the order of the input."""
    corrected, least = {}, 0.0
    for rank, (name, p) in enumerate(sorted(p_values.items(), key=lambda item: item[1])):
        least = max(least, min((len(p_values) - rank) * p, 1.0))
        corrected[name] = least
    return {name: corrected[name] for name in p_values}


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Return the two-sided exact p of McNemar's test (McNemar 1947) for a difference in accuracy.

    Images are treated as independent.

    Args:
        right_a: (n,) bool, whether the first classifier is right.
        right_b: (n,) bool, whether the second classifier is right.

    """
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
