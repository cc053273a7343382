"""Calibration: agreement of predicted probabilities with observed shares of cancer."""

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases
from mammo.scoring.intervals import Interval, Table, collect, exact, interval, percentile_interval, ratio

import numpy as np


def reliability(cases: Cases, bootstrap: Bootstrap, bins: int = 10) -> tuple[dict[str, Interval], Table]:
    """Return Brier score, expected calibration error and the reliability curve.

    Bins contain equal numbers of images, but equal probabilities share a bin, so there may be fewer bins. Resamples use
    the bin edges of the whole split. The expected calibration error is the mean over images of the difference between
    mean probability and observed share in their bin (Naeini et al. 2015, AAAI). Chance makes it positive, and
    resampling adds to it, so its interval is biased upwards.

    Returns:
        The scores `brier` and `expected_calibration_error`, and a table of the bins: mean probability, observed share
        of cancer with its interval, and number of images, in order of probability.

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
    rows = []
    for index in range(len(used)):
        here = inside[:, index]
        share = interval(scored[str(index)], len(np.unique(cases.patient[here])))
        mean = float(cases.probabilities[here].mean())
        rows.append((mean, share.value, share.low, share.high, int(here.sum())))
    errors = {
        name: percentile_interval(scored[name], cases.support()) for name in ("brier", "expected_calibration_error")
    }
    return errors, Table(("probability", "observed", "low", "high", "images"), rows)
