"""The report's explorer: all that it shows at any threshold and prevalence, computed before the page is opened."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mammo import scoring
from mammo.core import files
from mammo.core.errors import UserError
from mammo.core.wording import in_words
from mammo.reporting.parts import NOUNS
from mammo.reporting.run import CASES, Run
from mammo.reporting.scored import Score
from mammo.scoring import AtThreshold, Bootstrap, Interval, rounded

import numpy as np

STOPS = 400  # thresholds at most, besides those locked on validation; fewer cases have one for each probability
PREVALENCES = (
    *(0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5),
)
SCREENING = 0.006
"""Share of images with cancer in screening."""
SHOWN = ("sensitivity", "specificity", "precision")
"""Scores of the test cases, in the order of the page's data."""
BY_PREVALENCE = ("ppv", "recall_rate")
DECIMALS = 4  # of a threshold


class Locked(NamedTuple):
    """A threshold locked on validation."""

    rule: str
    stop: int
    """Its place among the thresholds."""
    threshold: str


class Curve(NamedTuple):
    """A curve for an SVG of 100 by 100 units, whose y axis points down."""

    line: str
    band: str


@dataclass(frozen=True)
class Explorer:
    """What the template of the explorer needs."""

    stops: Sequence[AtThreshold]
    """By ascending threshold."""
    active: int
    """The stop of the threshold in force."""
    locked: Sequence[Locked]
    prevalences: Sequence[float]
    prevalence: int
    """The one that is selected first."""
    at_prevalence: Sequence[Sequence[dict[str, Interval]]]
    """Predictive value and recall rate by prevalence and stop."""
    unit: str
    """What is counted, e.g. `images`."""
    roc: Curve
    pr: Curve
    groups: dict[str, list[str]]
    """Levels of each subgroup column."""
    findings: dict[str, str]
    """Kinds of audit findings on test images, each in words."""
    cases: Sequence[dict[str, Any]]

    @property
    def pictured(self) -> int:
        """Number of test cases with a picture."""
        return sum("picture" in case for case in self.cases)

    @property
    def first(self) -> dict[str, Score]:
        """What is shown before a script runs, by key: at the threshold in force and the first prevalence."""
        found = self.stops[self.active].scores | self.at_prevalence[self.prevalence][self.active]
        return {key: Score(TITLES[key], *vars(found[key]).values()) for key in (*SHOWN, *BY_PREVALENCE)}

    @property
    def data(self) -> dict[str, Any]:
        """What the page's script reads; scores are whole thousandths, so that it rounds nothing."""
        return {
            "thresholds": [rounded(stop.threshold, DECIMALS) for stop in self.stops],
            "counts": [stop.counts for stop in self.stops],
            "scores": [_thousandths(stop.scores, SHOWN) for stop in self.stops],
            "atPrevalence": [[_thousandths(at, BY_PREVALENCE) for at in row] for row in self.at_prevalence],
            "unit": self.unit,
            "locked": {entry.rule: entry.stop for entry in self.locked},
            "groups": list(self.groups),
            "findings": self.findings,
            "cases": self.cases,
        }


TITLES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "precision": "Precision, these cases",
    "ppv": "Positive predictive value",
    "recall_rate": "Recall rate",
}


def explorer(run: Run) -> Explorer:
    """Return the explorer of a run.

    Raises:
        UserError: a file is missing or malformed, or lists other images.
        KeyError: the threshold in force is not among those of the run.

    """
    in_force = run.settings.evaluate
    rows = run.predictions
    columns = [[getattr(row, name) or "" for row in rows] for name in ("exam", "breast")]
    patients = [row.patient for row in rows]
    probabilities = np.array([row.probability for row in rows])
    units = scoring.in_units(run.unit, [row.label for row in rows], probabilities, patients, *columns)  # type: ignore[arg-type]
    thresholds = {point.rule: point.threshold for point in run.operating_points}
    grid = stops_of(units.probabilities, list(thresholds.values()))
    at = scoring.at_thresholds(units.cases(), grid, Bootstrap(in_force.seed, in_force.resamples))
    locked = [Locked(rule, grid.index(one), rounded(one, DECIMALS)) for rule, one in thresholds.items()]
    first = SCREENING if in_force.prevalence == "none" else float(in_force.prevalence)
    prevalences = sorted({*PREVALENCES, first})
    groups, cases = _cases(run, np.searchsorted(grid, probabilities, side="right") - 1)
    return Explorer(
        stops=at,
        active=grid.index(thresholds[in_force.threshold]),
        locked=locked,
        prevalences=prevalences,
        prevalence=prevalences.index(first),
        at_prevalence=[_at(prevalence, at) for prevalence in prevalences],
        unit=NOUNS[run.unit],
        roc=_curve(run.plots / "roc.csv", "fpr", "tpr"),
        pr=_curve(run.plots / "pr.csv", "recall", "precision"),
        groups=groups,
        findings={kind: in_words(kind) for case in cases for kind in case["findings"]},
        cases=cases,
    )


def stops_of(probabilities: np.ndarray, locked: Sequence[float], most: int = STOPS) -> list[float]:
    """Return the thresholds to stop at, ascending: distinct probabilities, one above all of them, the locked ones.

    Of more than `most` probabilities, those at evenly spaced ranks are taken, with the lowest and the highest.
    """
    every = np.unique(probabilities)
    chosen = every[np.unique(np.linspace(0, len(every) - 1, min(len(every), most)).round().astype(int))]
    return sorted({*chosen.tolist(), float(np.nextafter(every[-1], 2)), *locked})


def _at(prevalence: float, stops: Sequence[AtThreshold]) -> list[dict[str, Interval]]:
    points = {str(place): stop.scores for place, stop in enumerate(stops)}
    found = scoring.at_prevalence(points, prevalence)
    return [{key: found[place][key] for key in BY_PREVALENCE} for place in points]


def _thousandths(scores: dict[str, Interval], keys: Sequence[str]) -> list[int]:
    """Return value, low and high of each score in thousandths."""
    return [int(rounded(number).replace(".", "")) for key in keys for number in vars(scores[key]).values()]


def _curve(path: Path, across: str, up: str) -> Curve:
    rows = files.read_csv(path, (across, up, "low", "high"))
    x, y, low, high = (np.array([float(row[name]) for row in rows]) for name in (across, up, "low", "high"))
    return Curve(_points(x, y), f"{_points(x, low)} {_points(x[::-1], high[::-1])}")


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{100 * across:.2f},{100 - 100 * up:.2f}" for across, up in zip(x, y, strict=True))


def _cases(run: Run, reach: np.ndarray) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """Return the subgroup columns with their levels, and the test cases; each is called up to the stop `reach`."""
    folder = run.plots / "cases"
    table = files.read_csv(folder / CASES, ("image",))
    if [row["image"] for row in table] != [case.image for case in run.predictions]:
        raise UserError(f"{folder / CASES} and plots/predictions.csv list other images: run `dvc repro`")
    columns = [name for name in table[0] if name != "image"]
    groups = {name: sorted({row[name] for row in table} - {""}) for name in columns}
    kinds: dict[str, list[str]] = {}
    for finding in run.findings:
        kinds.setdefault(finding["image"], []).append(finding["kind"])
    cases = []
    for number, (row, case) in enumerate(zip(table, run.predictions, strict=True), 1):
        entry = {
            "name": case.image,
            "label": case.label,
            "probability": rounded(case.probability, DECIMALS),
            "reach": int(reach[number - 1]),
            "levels": [row[name] for name in columns],
            "findings": sorted(set(kinds.get(case.image, []))),
        }
        cases.append(entry | _pictures(folder, f"{number:04d}"))
    return groups, cases


def _pictures(folder: Path, number: str) -> dict[str, str]:
    """Return `picture` and `heat` of a case as data URIs; nothing if it has none."""
    if not (folder / f"{number}.jpg").is_file():
        return {}
    parts = (("picture", "jpg", "jpeg"), ("heat", "png", "png"))
    return {
        key: f"data:image/{kind};base64,{base64.b64encode((folder / f'{number}.{suffix}').read_bytes()).decode()}"
        for key, suffix, kind in parts
    }
