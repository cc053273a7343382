"""Calibration: agreement of predicted probabilities with observed shares of cancer, and its correction."""

from mammo.core.model_info import Recalibration, logit
from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases
from mammo.scoring.intervals import Interval, Resampled, Table, collect, exact, interval, percentile_interval, ratio
from mammo.scoring.logistic import Line, fitted

import numpy as np

STEEPEST = 100.0
"""Largest slope that is reported, in either direction; it stands for probabilities that separate the classes."""


def reliability(
    cases: Cases, bootstrap: Bootstrap, recalibrated: Cases | None = None, bins: int = 10
) -> tuple[dict[str, Interval], Table]:
    """Return Brier score, expected calibration error and the reliability curve.

    Bins contain equal numbers of images, but equal probabilities share a bin, so there may be fewer bins. Resamples use
    the bin edges of the whole split. The expected calibration error is the mean over images of the difference between
    mean probability and observed share in their bin (Naeini et al. 2015, AAAI). Chance makes it positive, and
    resampling adds to it, so its interval is biased upwards.

    Args:
        cases: the scored images.
        bootstrap: the resamples.
        recalibrated: the same images in the same order with recalibrated probabilities.
        bins: greatest number of bins.

    Returns:
        The scores `brier` and `expected_calibration_error`, and a table of the bins: mean probability, observed share
        of cancer with its interval, number of images, and mean recalibrated probability, in order of probability.

    """
    edges = np.unique(np.quantile(cases.probabilities, np.linspace(0, 1, bins + 1)[1:-1]))
    used, bin_of = np.unique(np.searchsorted(edges, cases.probabilities, side="right"), return_inverse=True)
    inside = bin_of[:, None] == np.arange(len(used))
    images = cases.sums(inside)
    ill = cases.sums(inside & cases.labels[:, None])
    predicted = cases.sums(inside * exact(cases.probabilities)[:, None])
    squares = cases.sums(exact((cases.probabilities - cases.labels) ** 2)[:, None])

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        inside_each, ill_each, predicted_each = counts @ images, counts @ ill, counts @ predicted
        total = inside_each.sum(axis=1)
        observed = ratio(ill_each, inside_each)
        return {
            "brier": (counts @ squares)[:, 0] / total,
            "expected_calibration_error": np.abs(ill_each - predicted_each).sum(axis=1) / total,
            **{str(index): observed[:, index] for index in range(len(used))},
        }

    scored = collect(cases, bootstrap, max(len(cases.cancer), 3 * len(used)), score)
    moved = recalibrated.as_given(recalibrated.probabilities)[cases.order] if recalibrated else None
    rows = []
    for index in range(len(used)):
        here = inside[:, index]
        share = interval(scored[str(index)], len(np.unique(cases.patient[here])))
        mean = float(cases.probabilities[here].mean())
        corrected = () if moved is None else (float(moved[here].mean()),)
        rows.append((mean, share.value, share.low, share.high, int(here.sum()), *corrected))
    errors = {
        name: percentile_interval(scored[name], cases.support()) for name in ("brier", "expected_calibration_error")
    }
    columns = ("probability", "observed", "low", "high", "images", *(() if moved is None else ("recalibrated",)))
    return errors, Table(columns, rows)


def calibration(cases: Cases, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return the scores of `reliability` and of `agreement`."""
    return {**reliability(cases, bootstrap)[0], **agreement(cases, bootstrap)}


def agreement(cases: Cases, bootstrap: Bootstrap) -> dict[str, Interval]:
    """Return calibration intercept and slope, and the Brier skill.

    Intercept and slope are those of Van Calster et al. 2019 (BMC Med. 17:230), by maximum likelihood on the logit of
    the probability (clipped, see `core.model_info.logit`): the intercept is the calibration-in-the-large, with the
    slope fixed at 1, so a negative one means probabilities that are too high on the whole; the slope is that of a
    regression with free intercept, so below 1 probabilities are too extreme. If the probabilities separate the classes,
    the likelihood has no maximum, and the slope is `STEEPEST`. The Brier skill is 1 - Brier score / Brier score of
    always predicting the prevalence: 1 is perfect, and 0 no better than knowing the prevalence.

    Resamples are drawn from all patients alike: whether probabilities are too high depends on how many patients have
    cancer, which in the separate draws from both kinds, as for the other scores, would never vary.

    Returns:
        `intercept` (best 0), `slope` (best 1) and `brier_skill` (best 1). With fewer than two patients of a kind, or if
        all resamples agree, the interval is the whole range: ±`STEEPEST`, or what the prevalence allows for the skill.

    """
    logits, labels = logit(cases.probabilities), cases.labels.astype(np.float64)
    squares = exact((cases.probabilities - labels) ** 2)
    level = line = (0.0, 0.0)  # intercept and slope where the fits of the resamples begin

    def score(counts: np.ndarray) -> dict[str, np.ndarray]:
        weights = counts[:, cases.patient]
        prevalence = (weights * labels).sum(axis=1) / weights.sum(axis=1)
        brier = (weights * squares).sum(axis=1) / weights.sum(axis=1)
        return {
            "intercept": _intercepts(logits, labels, weights, level),
            "slope": _slopes(logits, labels, weights, line),
            "brier_skill": 1 - ratio(brier, prevalence * (1 - prevalence)),
        }

    once = score(np.ones((1, len(cases.cancer))))
    level = (float(once["intercept"][0]), 1.0)
    if abs(once["slope"][0]) < STEEPEST:
        intercept, slope = fitted(logits, labels, np.ones((1, len(labels))))
        line = (float(intercept[0]), float(slope[0]))
    mixed = np.ones(len(cases.cancer), bool)  # one kind of patient, so that their mix varies too
    parts = [score(counts) for counts in bootstrap.counts(mixed, len(labels))]
    share = labels.mean()
    ranges = {
        "intercept": (-STEEPEST, STEEPEST),
        "slope": (-STEEPEST, STEEPEST),
        "brier_skill": (1 - 1 / float(share * (1 - share)), 1.0),
    }
    return {
        name: _unbounded(float(once[name][0]), np.concatenate([part[name] for part in parts]), cases.support(), *within)
        for name, within in ranges.items()
    }


def _unbounded(value: float, resamples: np.ndarray, support: int, lowest: float, highest: float) -> Interval:
    """Return the expanded percentile interval of a score that need not lie in [0, 1]."""
    drawn = resamples[~np.isnan(resamples)]
    if support < 2 or not len(drawn):
        return Interval(value, lowest, highest)
    found = percentile_interval(Resampled(value, drawn), support)
    if found.low == found.high:  # e.g. every resample is separated: then they say nothing of other patients
        return Interval(value, lowest, highest)
    return found


def _intercepts(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, start: Line) -> np.ndarray:
    """Return the calibration-in-the-large of each resample; NaN with one class."""
    both = _both(labels, weights)
    intercepts = np.full(len(weights), np.nan)
    intercepts[both] = fitted(logits, labels, weights[both], free_slope=False, start=start)[0]
    return intercepts


def _slopes(logits: np.ndarray, labels: np.ndarray, weights: np.ndarray, start: Line) -> np.ndarray:
    """Return the calibration slope of each resample; NaN with one class."""
    drawn, ill, both = weights > 0, labels == 1, _both(labels, weights)
    slopes = np.full(len(weights), np.nan)
    least_ill, least_healthy = (np.where(drawn & kind, logits, np.inf).min(axis=1)[both] for kind in (ill, ~ill))
    most_ill, most_healthy = (np.where(drawn & kind, logits, -np.inf).max(axis=1)[both] for kind in (ill, ~ill))
    right, wrong = least_ill >= most_healthy, most_ill <= least_healthy
    found = np.where(right & wrong, 0.0, np.where(right, STEEPEST, -STEEPEST))  # right and wrong: all logits are equal
    meet = ~right & ~wrong
    found[meet] = np.clip(fitted(logits, labels, weights[both][meet], start=start)[1], -STEEPEST, STEEPEST)
    slopes[both] = found
    return slopes


def _both(labels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return which resamples hold both classes."""
    return ((weights * labels).sum(axis=1) > 0) & ((weights * (1 - labels)).sum(axis=1) > 0)


def learned_recalibration(cases: Cases) -> Recalibration:
    """Return the logistic recalibration of probabilities, learned on the validation split.

    Platt's method on the logit (Platt 1999, Advances in Large Margin Classifiers 61): the targets are (p + 1) / (p + 2)
    for the p images with cancer and 1 / (n + 2) for the n healthy ones instead of 1 and 0, so that intercept and slope
    are finite even if the probabilities separate the classes. A negative slope, of a network that ranks the images
    wrongly, is replaced by 0: every image then has the same calibrated probability, near the prevalence.
    """
    ill, healthy = int(cases.labels.sum()), int((~cases.labels).sum())
    targets = np.where(cases.labels, (ill + 1) / (ill + 2), 1 / (healthy + 2))
    logits, once = logit(cases.probabilities), np.ones((1, len(targets)))
    intercept, slope = (float(number[0]) for number in fitted(logits, targets, once))
    if slope <= 0:
        intercept, slope = float(logit(targets.mean())), 0.0
    return Recalibration(intercept=intercept, slope=slope)
