"""A score as the page and the model card show it."""

from collections.abc import Mapping
from typing import NamedTuple

from mammo.scoring import TITLES


class Score(NamedTuple):
    """A score with its 95 % interval."""

    title: str
    value: float
    low: float
    high: float


def title_of(key: str) -> str:
    """Return the title of a score, or of a property, by its key."""
    title = TITLES.get(key, key.replace("_", " "))
    return title[0].upper() + title[1:]


def score_of(key: str, entry: Mapping[str, float]) -> Score:
    """Return a score of a metrics file by its key and its value with interval."""
    return Score(title_of(key), entry["value"], entry["low"], entry["high"])
