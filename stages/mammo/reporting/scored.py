"""Scores as the page and the model card show them."""

from collections.abc import Mapping
from typing import NamedTuple

from mammo.scoring import TITLES


class Score(NamedTuple):
    """A score with its 95 % interval."""

    title: str
    value: float
    low: float
    high: float


class OperatingPoint(NamedTuple):
    """A threshold locked on validation, with its test scores."""

    rule: str
    """One of `rules.ThresholdRule`."""
    in_force: bool
    """Whether the headline scores use it."""
    threshold: float
    sensitivity: Score
    specificity: Score


class AtPrevalence(NamedTuple):
    """What the operating points would mean at another prevalence."""

    prevalence: float
    warning: str
    rows: dict[str, list[Score]]
    """Predictive values, recall rate and cancers found of each rule."""


class Calibrated(NamedTuple):
    """A measure of calibration on the test images."""

    title: str
    best: int
    """Its value for perfect probabilities."""
    raw: Score
    recalibrated: Score | None
    """None if the model has no recalibration."""


def title_of(key: str) -> str:
    """Return the title of a score, or of a property, by its key."""
    title = TITLES.get(key, key.replace("_", " "))
    return title[0].upper() + title[1:]


def score_of(key: str, entry: Mapping[str, float]) -> Score:
    """Return a score of a metrics file by its key and its value with interval."""
    return Score(title_of(key), entry["value"], entry["low"], entry["high"])
