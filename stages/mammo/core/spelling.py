"""The nearest known name for one that is unknown: keys of params.yaml, columns of tables, names of images."""

from collections.abc import Iterable
from difflib import SequenceMatcher

RESEMBLES = 0.8  # of 1; `pateint` is at 0.86 of `patient`, `age` at 0.75 of `image`


def nearest(name: str, known: Iterable[str], resembling: float = RESEMBLES) -> str:
    """Return the known name that is spelled most like `name`; an empty string if none is as like as `resembling`.

    Of dotted keys the last part is compared before the whole.
    """

    def likeness(one: str) -> tuple[float, float]:
        last = SequenceMatcher(None, name.rpartition(".")[2], one.rpartition(".")[2]).ratio()
        return last, SequenceMatcher(None, name, one).ratio()

    best = max(known, key=likeness, default="")
    return best if best and likeness(best)[0] >= resembling else ""


def hint(name: str, known: Iterable[str]) -> str:
    """Return the beginning of a clause of an error message that names the nearest known name; empty if none is near."""
    near = nearest(name, known)
    return f"the nearest is {near}; " if near else ""
