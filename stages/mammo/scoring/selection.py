"""The score of a model that was chosen because it scored best: what the choice adds, and what is left without it.

BBC-CV, the bootstrap bias corrected cross-validation of Tsamardinos, Greasidou & Borboudakis 2018 (Mach. Learn.
107:1895), on the out-of-fold predictions of all models that were tried, without any further training: patients are
resampled, the model with the best score on those drawn is chosen, and scored on those not drawn. The mean of these
scores is that of the way of choosing, since the patients who choose are not the ones who score.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mammo.core.randomness import generator
from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases, Ladder
from mammo.scoring.intervals import TAIL, Interval, Resampled, interval_of
from mammo.scoring.measures import area
from mammo.scoring.paired import Change, tested

import numpy as np
from scipy import stats


class _Drawn(NamedTuple):
    """ROC AUC of every model on every resample, (resamples, models), of the patients who were drawn or were not."""

    inside: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True)
class Selection:
    """The model with the highest ROC AUC, and its ROC AUC corrected for having been chosen."""

    best: str
    raw: Interval
    """Its ROC AUC, with the interval of a model that was not chosen."""
    corrected: Interval
    """BBC-CV: the mean over resamples of the ROC AUC outside, and the percentiles of these."""
    optimism: float
    """raw minus corrected."""
    times: dict[str, float]
    """Share of the resamples in which each model is chosen."""
    change: Change
    """From the reference to the best model, corrected: the mean over resamples of the difference outside between the
    model chosen inside and the reference. Its standard error is that of the paired bootstrap for the best model;
    interval and p use Student's t as in `paired.paired_bootstrap`."""


def corrected(models: Mapping[str, Cases], reference: Cases, bootstrap: Bootstrap) -> Selection:
    """Return the ROC AUC of the best of several models, corrected for their number.

    Args:
        models: the same images and patients with the out-of-fold probabilities of each model that was tried.
        reference: the same images and patients with the probabilities of a model that was fixed before.
        bootstrap: the resamples of patients, the same ones for all models.

    """
    names, cases = list(models), [*models.values(), reference]
    drawn = _drawn(cases, bootstrap)
    whole = [float(area(*Ladder(one).climbed(np.ones((1, len(one.cancer)))))[0]) for one in cases]
    best, chosen = int(np.argmax(whole[:-1])), np.argmax(drawn.inside[:, :-1], axis=1)
    of_chosen = np.take_along_axis(drawn.outside, chosen[:, None], axis=1)[:, 0]
    usable = ~np.isnan(drawn.outside).any(axis=1)  # both classes are among the patients who were not drawn
    outside, others = of_chosen[usable], drawn.outside[usable, -1]
    value, (low, high) = float(outside.mean()), np.quantile(outside, (TAIL, 1 - TAIL))
    raw, before = (
        interval_of(cases[place], "roc_auc", Resampled(whole[place], drawn.inside[:, place])) for place in (best, -1)
    )
    support = reference.support()
    error = float(np.std(drawn.inside[:, best] - drawn.inside[:, -1], ddof=1)) * (support / max(support - 1, 1)) ** 0.5
    after = Interval(before.value + float((outside - others).mean()), float(low), float(high))
    return Selection(
        best=names[best],
        raw=raw,
        corrected=Interval(value, float(low), float(high)),
        optimism=whole[best] - value,
        times={name: float(np.mean(chosen == place)) for place, name in enumerate(names)},
        change=tested(before, after, error, support, stats.t(max(support - 1, 1))),
    )


def _drawn(cases: list[Cases], bootstrap: Bootstrap) -> _Drawn:
    first = cases[0]
    for one in cases[1:]:
        if not (np.array_equal(one.labels.sum(), first.labels.sum()) and np.array_equal(one.cancer, first.cancer)):
            raise ValueError("the models were scored on different images")
    ladders = [Ladder(one) for one in cases]
    inside, outside = [], []
    for counts in bootstrap.counts(first.cancer, len(first.labels)):
        inside.append(np.stack([area(*ladder.climbed(counts)) for ladder in ladders], axis=1))
        left = (counts == 0).astype(np.float64)
        outside.append(np.stack([area(*ladder.climbed(left)) for ladder in ladders], axis=1))
    return _Drawn(np.concatenate(inside), np.concatenate(outside))


def over_seeds(alone: np.ndarray, cases: Callable[[np.ndarray], Cases], bootstrap: Bootstrap) -> Interval:
    """Return the ROC AUC of the mean over trainings with different seeds, with an interval over patients and seeds.

    Each resample draws patients and as many seeds as there are, both with replacement, and averages the probabilities
    of the seeds drawn. So few seeds vary less than new ones would: with 3 seeds the variance that they add is a third
    too small.

    Args:
        alone: (seeds, n) probabilities of each training.
        cases: makes cases of (n,) mean probabilities: images, or breasts.
        bootstrap: the resamples of patients.

    """
    number = len(alone)
    whole = cases(alone.mean(axis=0))
    drawn = np.sort(generator(bootstrap.seed, "seeds").integers(0, number, (bootstrap.resamples, number)), axis=1)
    counts = np.concatenate(list(bootstrap.counts(whole.cancer, len(whole.labels))))
    aucs = np.empty(bootstrap.resamples)
    for together in np.unique(drawn, axis=0):
        rows = (drawn == together).all(axis=1)
        aucs[rows] = area(*Ladder(cases(alone[together].mean(axis=0))).climbed(counts[rows]))
    value = float(area(*Ladder(whole).climbed(np.ones((1, len(whole.cancer)))))[0])
    return interval_of(whole, "roc_auc", Resampled(value, aucs))
