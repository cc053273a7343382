"""Two classifiers on the same images: changes of scores with intervals and p."""

from dataclasses import dataclass
from typing import Any

from mammo.scoring.cases import Bootstrap, Cases
from mammo.scoring.intervals import TAIL, Interval, interval
from mammo.scoring.measures import COMPARED, DECIDED, all_scores

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Change:
    """One score of two classifiers on the same images: `change` is b - a, `p` two-sided."""

    a: Interval
    b: Interval
    change: Interval
    p: float


def tested(a: Interval, b: Interval, error: float, support: int, law: Any) -> Change:
    """Return the change b - a, its interval and two-sided p, from its standard error and the `law` of change / error.

    Without variation, `support` independent patients (or pairs) all speak for the same change, or none does: a sign
    test gives p, and the two intervals together limit the change.
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
    """Return the change of a score between two that say the same."""
    return Change(score, score, Interval(0.0, 0.0, 0.0), 1.0)


def paired_bootstrap(
    a: Cases, b: Cases, called_a: np.ndarray, called_b: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Change]:
    """Return each of COMPARED for two classifiers, from the same resamples of patients for both.

    Interval and p are Student's, from the bootstrap's standard error: p < 0.05 exactly where the interval leaves 0 out.
    With k patients who carry the score (of the rarer kind where it needs both) there are k - 1 degrees of freedom, and
    the error is multiplied by sqrt(k / (k - 1)), since k drawn patients vary less than k new ones. For sensitivity
    with one image per patient that is the paired t-test.

    Args:
        a: what the first says of the images.
        b: what the second says of them, given in the same order.
        called_a: (n,) 0 or 1, the first's calls at its own threshold, in the order given.
        called_b: (n,) of the second.
        bootstrap: the resamples.

    Returns:
        By score; `patient_roc_auc` is left out where every patient has cancer.

    """
    sides = [
        all_scores(cases, np.asarray(called)[cases.order] == 1, bootstrap)
        for cases, called in ((a, called_a), (b, called_b))
    ]
    same_order = np.array_equal(a.as_given(a.probabilities), b.as_given(b.probabilities))
    same_calls = np.array_equal(called_a, called_b)
    changes = {}
    for name in COMPARED:
        if name == "patient_roc_auc" and a.cancer.all():
            continue
        first, second = sides[0][name], sides[1][name]
        support = a.support(name)
        before = interval(first, support)
        if same_calls if name in DECIDED else same_order:
            changes[name] = unchanged(before)
            continue
        drawn = second.resamples - first.resamples
        error = float(np.std(drawn[~np.isnan(drawn)], ddof=1)) * (support / max(support - 1, 1)) ** 0.5
        changes[name] = tested(before, interval(second, support), error, support, stats.t(max(support - 1, 1)))
    return changes


def mcnemar(right_a: np.ndarray, right_b: np.ndarray) -> float:
    """Return the two-sided exact p of McNemar's test (McNemar 1947): are both right on different images equally often?

    Takes every image for independent.

    Args:
        right_a: (n,) bool, whether the first is right.
        right_b: (n,) bool, whether the second is.

    """
    only_a, only_b = int(np.sum(right_a & ~right_b)), int(np.sum(right_b & ~right_a))
    if only_a + only_b == 0:
        return 1.0
    return float(stats.binomtest(only_a, only_a + only_b).pvalue)
