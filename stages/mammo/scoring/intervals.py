"""95 % intervals of scores, computed from resamples of patients.

Intervals are never NaN. Special cases:
- fewer than two patients with (or without) cancer, if the score depends on them: the whole range, [0, 1];
- an undefined score (precision without positive predictions): value 0 as in scikit-learn, interval [0, 1];
- a score of 0 or 1 in every resample, e.g. an AUC of 1: the exact binomial interval for k successes in k independent
  patients, or pairs of patients: [0.025^(1/k), 1] (Clopper & Pearson 1934). It is conservative, because one image (or
  pair) from each of k patients is correct at least as often as all images are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
NORMAL = float(stats.norm.ppf(1 - TAIL))


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
    """Return the lower 95 % bound of a proportion that was 1 in `patients` independent trials."""
    return TAIL ** (1 / patients)


def interval(resampled: Resampled, support: int) -> Interval:
    """Return the expanded percentile interval of a score in [0, 1] that depends on `support` patients."""
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
    """Return the interval of every score, without `patient_roc_auc` if every patient has cancer."""
    return {
        name: interval(resampled, cases.support(name))
        for name, resampled in scored.items()
        if name != "patient_roc_auc" or not cases.cancer.all()
    }
