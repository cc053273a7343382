"""95 % intervals of scores, from resamples of patients.

Where data cannot tell, the interval says so and is never NaN:
- fewer than two patients of a kind that the score depends on: the whole range, [0, 1];
- an undefined score (precision when nothing is called positive): value 0 as scikit-learn has it, interval [0, 1];
- a score at 0 or 1 in every resample, e.g. an AUC of 1: the exact binomial bound for k independent patients, or k
  independent pairs of patients, that all agree: [0.025^(1/k), 1] (Clopper & Pearson 1934). One image, or pair, from
  each of k patients agrees at least as often as the whole set, so the bound errs on the wide side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from mammo.scoring.cases import Bootstrap, Cases

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
NORMAL = float(stats.norm.ppf(1 - TAIL))


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Table:
    """Rows for a CSV file."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[float, ...]]


class Resampled(NamedTuple):
    """A score on the images as they are, and on each resample."""

    value: float
    resamples: np.ndarray


def as_json(content: Any) -> Any:
    """Return `content` with every Interval, at any depth of mappings, as `{"value", "low", "high"}`."""
    if isinstance(content, Interval):
        return asdict(content)
    if isinstance(content, Mapping):
        return {key: as_json(value) for key, value in content.items()}
    return content


def collect(cases: Cases, bootstrap: Bootstrap, width: int, score: Any) -> dict[str, Resampled]:
    """Return `score`, a function of counts (resamples, patients) to named arrays, on the images and on resamples."""
    once = score(np.ones((1, len(cases.cancer))))
    parts = [score(counts) for counts in bootstrap.counts(cases.cancer, width)]
    return {name: Resampled(float(once[name][0]), np.concatenate([part[name] for part in parts])) for name in once}


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide; 0 / 0 gives NaN, and such resamples are left out of an interval."""
    out = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=out, where=denominator != 0)


def exact(values: np.ndarray) -> np.ndarray:
    """Return values in [0, 1] cut to as many bits as can be summed without rounding.

    So no resample depends on the order of additions, which in a matrix product changes with the number of threads.
    """
    scale = 2.0 ** (50 - len(values).bit_length())
    return np.round(values * scale) / scale


def quantile_levels(support: int) -> tuple[float, float]:
    """Return the quantiles of the resamples between which the 95 % interval lies.

    Beyond 2.5 % and 97.5 %, since k drawn patients vary less than k new ones, by the ratio of Student's interval to
    the normal one: the expanded percentile interval (Hesterberg 2015, Am. Stat. 69:371).
    """
    tail = float(stats.norm.sf(stats.t(support - 1).ppf(1 - TAIL) * (support / (support - 1)) ** 0.5))
    return tail, 1 - tail


def when_all_agree(patients: int) -> float:
    """Return the lower 95 % bound of a proportion that was 1 in `patients` independent trials."""
    return TAIL ** (1 / patients)


def interval(resampled: Resampled, support: int) -> Interval:
    """Return the expanded percentile interval of a score from 0 to 1 that `support` patients carry."""
    value = resampled.value
    if np.isnan(value):
        return Interval(0.0, 0.0, 1.0)
    drawn = resampled.resamples[~np.isnan(resampled.resamples)]
    if support < 2 or not len(drawn):
        return Interval(value, 0.0, 1.0)
    low, high = (float(end) for end in np.quantile(drawn, quantile_levels(support)))
    if low == high == 1:
        low = when_all_agree(support)
    if low == high == 0:
        high = 1 - when_all_agree(support)
    return Interval(value, min(low, value), max(high, value))


def intervals(cases: Cases, scored: Mapping[str, Resampled]) -> dict[str, Interval]:
    """Return the interval of every score; `patient_roc_auc` is left out where every patient has cancer."""
    return {
        name: interval(resampled, cases.support(name))
        for name, resampled in scored.items()
        if name != "patient_roc_auc" or not cases.cancer.all()
    }
