"""95 % intervals of scores, computed from resamples of patients.

`interval` is a score interval: it holds every true value t from which the observed one is at most NORMAL standard
errors away, and the standard error is the one at t (Wilson 1927, J. Am. Stat. Assoc. 22:209). Its variance is that of
the resamples. Where few images are wrong, these say little: with one misranked pair they hardly vary, and a percentile
interval would be ten times narrower than with none. So the variance is shrunk towards that of one image per patient,
which is binomial for a proportion and Newcombe's method 5 for an ROC AUC (Newcombe 2006, Stat. Med. 25:559). With no
error at all, the interval is theirs: conservative, because all images of k patients tell at least as much as one each.

Intervals are never NaN. Special cases:
- fewer than two patients with (or without) cancer, if the score depends on them: the whole range, [0, 1];
- an undefined score (precision without positive predictions): value 0 as in scikit-learn, interval [0, 1];
- a score between 0 and 1 that is the same in every resample, e.g. the AUC of a constant output: the value alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
NORMAL = float(stats.norm.ppf(1 - TAIL))
# Wrong patients at which the resamples' variance weighs as much as that of one image per patient. Of the values tried
# (1/10, 1/4, 1/3, 1/2, 1), the smallest whose intervals covered 95 % at ROC AUCs of 0.95 to 0.995 (docs/evidence.md).
PRIOR = 1 / 3
AREAS = ("roc_auc", "patient_roc_auc")


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """Columns and rows of a CSV file."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[float, ...]]


class Resampled(NamedTuple):
    """A score on the original images and on each resample."""

    value: float
    resamples: np.ndarray


def as_json(content: Any) -> Any:
    """Convert every Interval in nested mappings to a mapping with `value`, `low` and `high`."""
    if isinstance(content, Interval):
        return asdict(content)
    if isinstance(content, Mapping):
        return {key: as_json(value) for key, value in content.items()}
    return content


def collect(cases: Cases, bootstrap: Bootstrap, width: int, score: Any) -> dict[str, Resampled]:
    """Compute scores on the images and on all resamples; `score` maps counts (resamples, patients) to named arrays."""
    once = score(np.ones((1, len(cases.cancer))))
    parts = [score(counts) for counts in bootstrap.counts(cases.cancer, width)]
    return {name: Resampled(float(once[name][0]), np.concatenate([part[name] for part in parts])) for name in once}


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, with NaN for a denominator of 0; intervals leave out such resamples."""
    out = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def exact(values: np.ndarray) -> np.ndarray:
    """Round values in [0, 1] to so few bits that their sum is exact.

    The result then does not depend on the order of additions, which varies with the number of threads.
    """
    scale = 2.0 ** (50 - len(values).bit_length())
    return np.round(values * scale) / scale


def quantile_levels(support: int) -> tuple[float, float]:
    """Return the two quantile levels of the resamples that are the limits of the 95 % interval.

    The expanded percentile interval (Hesterberg 2015, Am. Stat. 69:371): wider than 2.5 % to 97.5 % by the ratio of
    Student's interval to the normal one, since k resampled patients vary less than k new patients.
    """
    tail = float(stats.norm.sf(stats.t(support - 1).ppf(1 - TAIL) * (support / (support - 1)) ** 0.5))
    return tail, 1 - tail


def when_all_agree(patients: int) -> float:
    """Return the lower 95 % bound of a proportion after `patients` independent trials that all succeeded."""
    return TAIL ** (1 / patients)


def of_proportion(value: float, patients: int) -> float:
    """Return the binomial variance of a proportion `value` among `patients`."""
    return value * (1 - value) / patients


def of_area(value: float, ill: int, healthy: int) -> float:
    """Return the variance of an ROC AUC of `value` with one image of each patient, by Newcombe's method 5."""
    pairs = (ill + healthy) / 2 - 1
    return value * (1 - value) * (1 + pairs * ((1 - value) / (2 - value) + value / (1 + value))) / (ill * healthy)


def _lower_limit(value: float, variance: Callable[[float], float], normal: float) -> float:
    """Return the smallest t with |value - t| <= normal * sqrt(variance(t)), by bisection."""
    outside, inside = 0.0, value
    while outside < (middle := (outside + inside) / 2) < inside:
        if (value - middle) ** 2 > normal**2 * variance(middle):
            outside = middle
        else:
            inside = middle
    return inside


def interval(
    resampled: Resampled, support: int, variance: Callable[[float], float] | None = None, normal: float = NORMAL
) -> Interval:
    """Return the score interval of a score in [0, 1].

    Args:
        resampled: the score and its resamples.
        support: number of patients that determine its precision.
        variance: variance of a score of a given value with one image per patient; it must be the same for t and 1 - t.
            By default, that of a proportion among `support` patients.
        normal: quantile of the normal distribution; by default that of a 95 % interval.

    """
    value = resampled.value
    if np.isnan(value):
        return Interval(0.0, 0.0, 1.0)
    drawn = resampled.resamples[~np.isnan(resampled.resamples)]
    if support < 2 or not len(drawn):
        return Interval(value, 0.0, 1.0)
    one_image = variance or (lambda at: of_proportion(at, support))
    if 0 < value < 1 and np.ptp(drawn) == 0:
        return Interval(value, value, value)
    factor = design_effect(value, drawn, support, one_image)
    low = _lower_limit(value, lambda at: factor * one_image(at), normal)
    high = 1 - _lower_limit(1 - value, lambda at: factor * one_image(at), normal)
    return Interval(value, low, max(high, value))


def design_effect(value: float, drawn: np.ndarray, support: int, variance: Callable[[float], float]) -> float:
    """Return the factor by which a score varies more than with one image per patient, shrunk towards 1.

    Args:
        value: the score; if it is 0 or 1, the factor is 1.
        drawn: its resamples, without NaN.
        support: number of patients that determine its precision, at least 2.
        variance: variance of a score of a given value with one image per patient.

    """
    if not 0 < value < 1:
        return 1.0
    ratio_of_variances = float(np.var(drawn)) * support / (support - 1) / variance(value)
    wrong = min(value, 1 - value) * support
    return (wrong * ratio_of_variances + PRIOR) / (wrong + PRIOR)


def percentile_interval(resampled: Resampled, support: int) -> Interval:
    """Return the expanded percentile interval of a score that is no proportion, e.g. the Brier score."""
    if support < 2:
        return Interval(resampled.value, 0.0, 1.0)
    low, high = (float(end) for end in np.quantile(resampled.resamples, quantile_levels(support)))
    return Interval(resampled.value, min(low, resampled.value), max(high, resampled.value))


def interval_of(cases: Cases, name: str, resampled: Resampled, normal: float = NORMAL) -> Interval:
    """Return the score interval of the score `name` of the cases, by default of 95 %."""
    if name not in AREAS:
        return interval(resampled, cases.support(name), normal=normal)
    each = cases.per_patient() if name == "patient_roc_auc" else cases
    ill, healthy = each.support("sensitivity"), each.support("specificity")
    return interval(resampled, min(ill, healthy), lambda at: of_area(at, ill, healthy), normal)


def intervals(cases: Cases, scored: Mapping[str, Resampled]) -> dict[str, Interval]:
    """Return the interval of every score, without `patient_roc_auc` if every patient has cancer."""
    return {
        name: interval_of(cases, name, resampled)
        for name, resampled in scored.items()
        if name != "patient_roc_auc" or not cases.cancer.all()
    }
