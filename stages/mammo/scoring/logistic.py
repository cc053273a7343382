"""Logistic regression of the label on the logit of the predicted probability, for many resamples at once."""

import numpy as np
from scipy.special import expit

STEPS = 200  # at most; 5 to 10 are usual
SETTLED = 1e-7  # largest change of a linear predictor before the last step, whose error is of the order of its square
Line = tuple[float, float]
"""Intercept and slope."""


def fitted(
    logits: np.ndarray, targets: np.ndarray, weights: np.ndarray, free_slope: bool = True, start: Line = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return intercept and slope of highest likelihood in expit(intercept + slope * logit), one pair per resample.

    Newton's method, each step shortened by ln(1 + d) / d, d being the largest change of a linear predictor that the
    whole step would make: such steps reach the maximum from any start (Sun & Tran-Dinh 2019, Math. Program. 178:145).

    Args:
        logits: (n,) finite. Sums run over them in this order, so that the result does not depend on threads.
        targets: (n,) in [0, 1].
        weights: (resamples, n) how often each image is drawn. The likelihood must have a maximum: the targets differ,
            and no logit separates them.
        free_slope: if false, the slope is 1.
        start: (intercept, slope) near the result, which saves steps.

    Returns:
        (resamples,) intercepts and (resamples,) slopes; the slope of the start where all drawn logits are equal.

    """
    intercept = np.full(len(weights), start[0])
    slope = np.full(len(weights), start[1] if free_slope else 1.0)
    ends = np.array([logits.min(), logits.max()])
    moving = np.arange(len(weights))
    for _ in range(STEPS):
        weight = weights[moving]
        probability = expit(intercept[moving, None] + slope[moving, None] * logits)
        gradient, curvature = weight * (targets - probability), weight * probability * (1 - probability)
        rise, tilt = _step(logits, gradient, curvature) if free_slope else _step(None, gradient, curvature)
        reach = np.abs(rise[:, None] + tilt[:, None] * ends).max(axis=1)
        share = np.divide(np.log1p(reach), reach, out=np.ones_like(reach), where=reach > 0)
        intercept[moving] += share * rise
        slope[moving] += share * tilt
        moving = moving[reach > SETTLED]
        if not len(moving):
            break
    return intercept, slope


def _step(logits: np.ndarray | None, gradient: np.ndarray, curvature: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return Newton's step of intercept and slope; of the intercept alone without logits, or where they are equal."""
    rise, bend = gradient.sum(axis=1), curvature.sum(axis=1)
    if logits is None:
        return rise / bend, np.zeros_like(rise)
    centre = (curvature * logits).sum(axis=1) / bend
    apart = logits - centre[:, None]
    width = (curvature * apart**2).sum(axis=1)
    tilt = np.divide((gradient * apart).sum(axis=1), width, out=np.zeros_like(width), where=width > 1e-12 * bend)
    return rise / bend - tilt * centre, tilt
