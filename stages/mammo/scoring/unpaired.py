"""Comparison of one classifier on two sets of patients, e.g. an external set and the internal test split."""

from collections.abc import Callable, Sequence

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases
from mammo.scoring.intervals import NORMAL, Interval, Resampled, interval_of
from mammo.scoring.measures import all_scores
from mammo.scoring.paired import Change

import numpy as np
from scipy import stats

SHIFTED = ("roc_auc", "sensitivity", "specificity")
"""Scores that do not depend on the share of cancer, so that two sets can be compared by them."""
BISECTIONS = 60
FARTHEST = 38.0  # standard errors; p is 0 in floating point beyond


def unpaired_changes(
    internal: Cases, external: Cases, called_internal: np.ndarray, called_external: np.ndarray, bootstrap: Bootstrap
) -> dict[str, Change]:
    """Return the change of each score in SHIFTED from the internal to the external set.

    The sets share no patient, so the variances add. The interval is that of MOVER (Zou & Donner 2008, Stat. Med.
    27:1693): the squares of the distances between each value and its own limit are added, which keeps the form of the
    score intervals near 0 and 1. p is two-sided: the level at which the interval just reaches 0, so that p < 0.05
    exactly if the 95 % interval excludes 0.

    Args:
        internal: images of the internal test split.
        external: images of the external set; none of their patients is in `internal`.
        called_internal: (n,) 0 or 1, predictions for `internal` at the locked threshold, in the input's order.
        called_external: (m,) the same for `external`.
        bootstrap: the resamples.

    """
    sides = [
        (cases, all_scores(cases, np.asarray(called)[cases.order] == 1, bootstrap))
        for cases, called in ((internal, called_internal), (external, called_external))
    ]
    return {name: _change(name, [(cases, scored[name]) for cases, scored in sides]) for name in SHIFTED}


def _change(name: str, sides: Sequence[tuple[Cases, Resampled]]) -> Change:
    a, b = (interval_of(cases, name, scored) for cases, scored in sides)

    def limits(normal: float) -> Interval:
        return _difference(*(interval_of(cases, name, scored, normal) for cases, scored in sides))

    support = min(cases.support(name) for cases, _ in sides)
    return Change(a, b, limits(NORMAL), 1.0 if a.value == b.value else _p_value(limits, support))


def _difference(a: Interval, b: Interval) -> Interval:
    """Return b - a with limits by MOVER."""
    change = b.value - a.value
    low = change - float(np.hypot(b.value - b.low, a.high - a.value))
    high = change + float(np.hypot(b.high - b.value, a.value - a.low))
    return Interval(change, max(low, -1.0), min(high, 1.0))


def _p_value(limits: Callable[[float], Interval], support: int) -> float:
    """Return the two-sided level at which the interval just reaches 0, by bisection on the normal quantile.

    It is not below that of a sign test in which all of the `support` patients agree.
    """
    least, most = 0.0, FARTHEST
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        reached = limits(middle)
        if reached.low <= 0 <= reached.high:
            most = middle
        else:
            least = middle
    return max(float(2 * stats.norm.sf(most)), min(2.0 ** (1 - support), 1.0))
