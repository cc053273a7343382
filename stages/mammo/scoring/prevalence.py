"""What an operating point would mean where cancer is as frequent as in screening."""

from collections.abc import Mapping
from typing import Any

from mammo.scoring.intervals import Interval

WARNING = (
    "Computed from sensitivity and specificity on the test images. In screening not only the share of cancer differs "
    "but the spectrum of cases (smaller cancers, other healthy women), and with it both: these are no forecast"
)


def at_prevalence(points: Mapping[str, Mapping[str, Any]], prevalence: float) -> dict[str, Any]:
    """Return predictive values, recall rate and cancers found of operating points at another prevalence.

    By Bayes' rule. The interval is that of the function over the rectangle of the intervals of sensitivity and
    specificity: it is at least as wide as one from resamples of both, and stays honest where all resamples agree.

    Args:
        points: as returned by `thresholds.operating_points`.
        prevalence: share of images that show cancer, between 0 and 1.

    Returns:
        `prevalence`, `warning`, and for each rule `ppv`, `npv`, `recall_rate` (share of images classified as cancer)
        and `cancers_found_per_1000` (images).

    """
    scores = {
        rule: {
            "ppv": _over(point, lambda sensitivity, specificity: _ppv(sensitivity, specificity, prevalence)),
            "npv": _over(point, lambda sensitivity, specificity: _ppv(specificity, sensitivity, 1 - prevalence)),
            "recall_rate": _over(
                point, lambda sensitivity, specificity: _recalled(sensitivity, specificity, prevalence), falls=True
            ),
            "cancers_found_per_1000": _over(point, lambda sensitivity, _: 1000 * prevalence * sensitivity),
        }
        for rule, point in points.items()
    }
    return {"prevalence": prevalence, "warning": WARNING, **scores}


def _over(point: Mapping[str, Any], function: Any, falls: bool = False) -> Interval:
    """Return a function that rises with sensitivity and rises, or `falls`, with specificity."""
    sensitivity, specificity = point["sensitivity"], point["specificity"]
    least, most = (specificity.high, specificity.low) if falls else (specificity.low, specificity.high)
    value = function(sensitivity.value, specificity.value)
    low, high = function(sensitivity.low, least), function(sensitivity.high, most)
    if value is None:  # nothing is classified so: 0, as for the precision of the headline scores
        return Interval(0.0, 0.0, 1.0)
    return Interval(value, 0.0 if low is None else low, 1.0 if high is None else high)


def _recalled(sensitivity: float, specificity: float, prevalence: float) -> float:
    return prevalence * sensitivity + (1 - prevalence) * (1 - specificity)


def _ppv(sensitivity: float, specificity: float, prevalence: float) -> float | None:
    recalled = _recalled(sensitivity, specificity, prevalence)
    return prevalence * sensitivity / recalled if recalled > 0 else None
