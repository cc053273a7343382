"""ROC, precision-recall and decision curves with pointwise 95 % bands."""

from typing import Any

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases, Ladder
from mammo.scoring.intervals import Table, quantile_levels, when_all_agree

import numpy as np

CURVE_GRID = np.linspace(0, 1, 201)
LEVELS = np.arange(1, 100) / 100  # threshold probabilities of the decision curve


def _corners(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the positions of the points of a polyline, without those on a straight line between their neighbours."""
    turn = np.diff(x)[:-1] * np.diff(y)[1:] != np.diff(y)[:-1] * np.diff(x)[1:]
    return np.flatnonzero(np.concatenate([[True], turn, [True]]))


def _sensitivity_at(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Return the sensitivity of one resample at the false positive rates CURVE_GRID."""
    if not true[-1] or not false[-1]:
        return np.full(len(CURVE_GRID), np.nan)
    return np.interp(CURVE_GRID, np.append(0, false) / false[-1], np.append(0, true) / true[-1])


def _precision_at(true: np.ndarray, false: np.ndarray) -> np.ndarray:
    """Return the precision of one resample at the highest threshold that reaches each recall of CURVE_GRID."""
    if not true[-1]:
        return np.full(len(CURVE_GRID), np.nan)
    least = np.maximum(np.ceil(CURVE_GRID * true[-1] - 1e-9), 1)
    reached = np.searchsorted(true, least)
    return true[reached] / (true[reached] + false[reached])


def _band(cases: Cases, ladder: Ladder, bootstrap: Bootstrap, read: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return the pointwise 95 % limits of a curve over CURVE_GRID; `read` maps the counts of a resample to it."""
    support = cases.support()
    if support < 2:
        return np.zeros(len(CURVE_GRID)), np.ones(len(CURVE_GRID))
    curves = np.array(
        [
            read(*climbed)
            for counts in bootstrap.counts(cases.cancer, len(cases.labels))
            for climbed in zip(*ladder.climbed(counts), strict=True)
        ]
    )
    curves = curves[~np.isnan(curves).any(axis=1)]
    low, high = np.quantile(curves, quantile_levels(support), axis=0)
    return np.where(low == 1, when_all_agree(support), low), high


def _rows(x: np.ndarray, y: np.ndarray, levels: np.ndarray, low: np.ndarray, high: np.ndarray) -> list[tuple]:
    """Return rows x, y, threshold, low, high; the limits are interpolated at x and widened to include y."""
    below, above = np.interp(x, CURVE_GRID, low), np.interp(x, CURVE_GRID, high)
    columns = (x, y, levels, np.minimum(below, y), np.maximum(above, y))
    return [tuple(float(number) for number in row) for row in zip(*columns, strict=True)]


def roc_curve(cases: Cases, bootstrap: Bootstrap) -> Table:
    """Return the ROC curve with the pointwise 95 % band of its sensitivity.

    Points on a straight line between their neighbours are left out. The threshold of the first point, (0, 0), is the
    smallest number above every probability, not infinity.

    Returns:
        Rows `fpr`, `tpr`, `threshold`, `low`, `high` by descending threshold.

    """
    ladder = Ladder(cases)
    low, high = _band(cases, ladder, bootstrap, _sensitivity_at)
    true, false = (np.append(0, counts[0]) for counts in ladder.climbed(np.ones((1, len(cases.cancer)))))
    levels = np.append(np.nextafter(ladder.probabilities[0], 2), ladder.probabilities)
    keep = _corners(false, true)
    x, y = false[keep] / false[-1], true[keep] / true[-1]
    low = np.maximum.accumulate(low)  # sensitivity never falls with the false positive rate
    low[-1] = 1.0  # there, every image is positive, in any sample
    return Table(("fpr", "tpr", "threshold", "low", "high"), _rows(x, y, levels[keep], low, high))


def pr_curve(cases: Cases, bootstrap: Bootstrap) -> Table:
    """Return the precision-recall curve with the pointwise 95 % band of its precision.

    One row per distinct probability, without the point (0, 1) that scikit-learn adds, which no threshold reaches; of
    thresholds with equal recall only the first and the last are kept.

    Returns:
        Rows `recall`, `precision`, `threshold`, `low`, `high` by descending threshold.

    """
    ladder = Ladder(cases)
    low, high = _band(cases, ladder, bootstrap, _precision_at)
    true, false = (counts[0] for counts in ladder.climbed(np.ones((1, len(cases.cancer)))))
    moves = np.append(np.diff(true) > 0, True)
    keep = np.flatnonzero(moves | np.append(True, moves[:-1]))
    recall, precision = true[keep] / true[-1], true[keep] / (true[keep] + false[keep])
    return Table(
        ("recall", "precision", "threshold", "low", "high"),
        _rows(recall, precision, ladder.probabilities[keep], low, high),
    )


def net_benefit(cases: Cases, bootstrap: Bootstrap, recalibrated: Cases | None = None) -> Table:
    """Return the decision curve (Vickers & Elkin 2006, Med. Decis. Making 26:565) at the prevalence of the split.

    Net benefit at threshold probability t is (true positives - false positives * t / (1 - t)) / images: the gain from
    recalling all images at or above t, if a false positive costs t / (1 - t) of the benefit of a true positive.

    Args:
        cases: the scored images.
        bootstrap: the resamples.
        recalibrated: the same images with recalibrated probabilities.

    Returns:
        Rows at t = 0.01, 0.02 … 0.99: net benefit of the model with its interval, of recalling all and of none, and of
        the recalibrated model with its interval.

    """
    odds = LEVELS / (1 - LEVELS)
    share = cases.labels.mean()
    zeros = np.zeros(len(LEVELS))
    columns = [LEVELS, *_benefit(cases, bootstrap), share - (1 - share) * odds, zeros]
    names: tuple[str, ...] = ("threshold", "model", "low", "high", "treat_all", "treat_none")
    if recalibrated:
        columns += _benefit(recalibrated, bootstrap)
        names += ("recalibrated", "recalibrated_low", "recalibrated_high")
    return Table(names, [tuple(float(number) for number in row) for row in zip(*columns, strict=True)])


def _benefit(cases: Cases, bootstrap: Bootstrap) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the net benefit at LEVELS, and the limits of its interval."""
    odds = LEVELS / (1 - LEVELS)
    called = cases.probabilities[:, None] >= LEVELS
    true = cases.sums(called & cases.labels[:, None])
    false = cases.sums(called & ~cases.labels[:, None])
    images = cases.sums(np.ones((len(cases.labels), 1)))
    share = cases.labels.mean()

    def benefit(counts: np.ndarray) -> np.ndarray:
        return (counts @ true - (counts @ false) * odds) / (counts @ images)

    value = benefit(np.ones((1, len(cases.cancer))))[0]
    support = cases.support()
    if support < 2:
        low, high = -odds * (1 - share), np.full(len(LEVELS), share)
    else:
        chunks = bootstrap.counts(cases.cancer, max(len(cases.cancer), len(LEVELS)))
        low, high = np.quantile(
            np.concatenate([benefit(counts) for counts in chunks]), quantile_levels(support), axis=0
        )
    return value, np.minimum(low, value), np.maximum(high, value)
