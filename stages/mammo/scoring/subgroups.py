"""Scores of subgroups, e.g. by vendor or density, and a test of whether the scores differ between them.

A subgroup column gives each image a level, e.g. the vendor of its scanner. The cases of a level are its images, or the
breasts or exams that its images make up. Per level the scores have the usual intervals over patients. Whether a score
differs between the levels of a column is tested with Welch's test of means with unequal variances (Welch 1951,
Biometrika 38:330); its degrees of freedom are the patients that determine a score. The variance of a level is the one
that it has if all levels share their pooled score: that of independent patients times the design effect, from the
bootstrap over patients (Rao & Scott 1992, Biometrics 48:577). So a level without any error has a variance too. Levels
that share patients are correlated; the correlation is that of the patients' influence on the scores (Obuchowski 1997,
Biometrics 53:567, for the ROC AUC). The p of all columns and scores are corrected together (Holm 1979, Scand. J.
Statist. 6:65).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.delong import placements
from mammo.scoring.intervals import Interval, Resampled, design_effect, interval_of, of_area, of_proportion
from mammo.scoring.measures import TITLES, area_and_decisions, share
from mammo.scoring.paired import holm
from mammo.scoring.units import InUnits, Unit, in_units

import numpy as np
from scipy import stats

SCORES = ("roc_auc", "sensitivity", "specificity")
FEW = 5  # patients: a level whose score is determined by fewer is not in the test of interaction
DISTINCT = 0.95  # factor of correlations: levels with nearly the same patients would make the matrix singular


@dataclass(frozen=True)
class Level:
    """The scores of the cases of one level."""

    images: int
    cases: int
    """Number of cases: images, breasts or exams."""
    patients: int
    ill: int
    """Patients with cancer."""
    healthy: int
    """Patients with a healthy case."""
    prevalence: Interval
    """Share of cases with cancer."""
    scores: Mapping[str, Interval]
    """By name in SCORES: without cancer specificity alone, without healthy images sensitivity alone."""

    @property
    def one_class(self) -> str:
        """The class of all cases; empty if there are both, so that the ROC AUC can be computed."""
        return "" if "roc_auc" in self.scores else "cancer" if self.ill else "healthy"


@dataclass(frozen=True)
class Interaction:
    """A test of whether a score differs between levels."""

    p: float
    corrected: float
    """p, corrected for the number of columns and scores."""
    tested: int
    """Number of levels in the test, which have at least FEW patients."""


@dataclass(frozen=True)
class Subgroups:
    """The levels of one column."""

    levels: Mapping[str, Level]
    interactions: Mapping[str, Interaction]
    """By score; without the scores of which fewer than two levels could be tested."""
    without_value: int
    """Images that have no level."""
    without_cases: Mapping[str, int]
    """Levels that have no case, since the breast of none of their images is known, with their number of images."""
    unit: Unit
    """What is one case."""


class _Estimate(NamedTuple):
    """A score of one level."""

    value: float
    variance: Callable[[float], float]
    """Variance of the score if its true value is the argument."""
    influence: np.ndarray
    """(all patients,) what each patient adds to the score, up to a constant."""
    support: int


def in_subgroups(
    labels: Any,
    probabilities: Any,
    patients: Any,
    groups: Mapping[str, Any],
    threshold: float,
    bootstrap: Bootstrap,
    unit: Unit = "image",
    exams: Any = None,
    laterality: Any = None,
) -> dict[str, Subgroups]:
    """Return the scores of every level of every column, and whether they differ between levels.

    Args:
        labels: (n,) 0 (healthy) or 1 (cancer).
        probabilities: (n,) probabilities of cancer.
        patients: (n,) names.
        groups: for each column, the level of each image, (n,) str; "" is unknown.
        threshold: operating point, chosen on validation.
        bootstrap: the resamples.
        unit: what is one case. A breast or exam with images of several levels is a case of each, made of these images.
        exams: (n,) as for `units.in_units`.
        laterality: (n,) as for `units.in_units`.

    Returns:
        The columns in the order of `groups`; levels are sorted by name.

    """
    blank = np.full(len(labels), "")
    known = [blank if each is None else each for each in (exams, laterality)]
    images = [np.asarray(each) for each in (labels, probabilities, patients, *known)]
    columns: dict[str, _Scored] = {}
    tests: dict[str, tuple[float, int]] = {}
    for column, values in groups.items():
        columns[column] = _scored(images, np.asarray(values).astype(str), unit, threshold, bootstrap)
        for score, each in columns[column].estimates.items():
            if len(each) > 1:
                tests[f"{column}\n{score}"] = (differing(each), len(each))
    corrected = holm({key: p for key, (p, _) in tests.items()})
    return {
        column: Subgroups(
            scored.levels,
            {
                score: Interaction(tests[key][0], corrected[key], tests[key][1])
                for score in SCORES
                if (key := f"{column}\n{score}") in tests
            },
            int(np.sum(np.asarray(groups[column]).astype(str) == "")),
            scored.without_cases,
            unit,
        )
        for column, scored in columns.items()
    }


class _Scored(NamedTuple):
    """The levels of one column, and what their test of interaction needs."""

    levels: dict[str, Level]
    without_cases: dict[str, int]
    estimates: dict[str, list[_Estimate]]
    """By score."""


def _scored(
    images: Sequence[np.ndarray], level_of: np.ndarray, unit: Unit, threshold: float, bootstrap: Bootstrap
) -> _Scored:
    """Score the levels of one column; `images`: labels, probabilities, patients, exams and sides, (n,) each."""
    names = np.unique(images[2].astype(str))
    scored = _Scored({}, {}, {score: [] for score in SCORES})
    for level in sorted(set(level_of.tolist()) - {""}):
        held = level_of == level
        cases, number = in_units(unit, *(each[held] for each in images)), int(held.sum())
        if not len(cases.labels):
            scored.without_cases[level] = number
            continue
        scored.levels[level], resampled = _level(cases, number, threshold, bootstrap)
        for score, drawn in resampled.items():
            part = _Part(score, cases, names, threshold)
            scored.estimates[score].extend(_estimates(part, drawn, scored.levels[level]))
    return scored


def _level(cases: InUnits, images: int, threshold: float, bootstrap: Bootstrap) -> tuple[Level, dict[str, Resampled]]:
    """Return a level, and its scores on every resample if it has cases of both classes."""
    labels, patients = cases.labels, cases.patients
    called = cases.probabilities >= threshold
    resampled: dict[str, Resampled] = {}
    if cases.of_both_classes:
        ordered = cases.cases()
        resampled = area_and_decisions(ordered, called[ordered.order], bootstrap)
        known = {score: interval_of(ordered, score, drawn) for score, drawn in resampled.items()}
    elif labels[0] == 1:
        known = {"sensitivity": share(called, patients, bootstrap)}
    else:
        known = {"specificity": share(~called, patients, bootstrap)}
    level = Level(
        images,
        len(labels),
        len(np.unique(patients)),
        len(np.unique(patients[labels == 1])),
        len(np.unique(patients[labels == 0])),
        share(labels == 1, patients, bootstrap),
        known,
    )
    return level, resampled


def as_metrics(columns: Mapping[str, Subgroups]) -> dict[str, Any]:
    """Return the subgroups as nested mappings, by column and level, for metrics/subgroups.json."""
    return {
        column: {
            "levels": {
                name: {
                    "images": level.images,
                    **({} if each.unit == "image" else {f"{each.unit}s": level.cases}),
                    "patients": level.patients,
                    "patients_with_cancer": level.ill,
                    "prevalence": level.prevalence,
                    **level.scores,
                    **({"one_class": level.one_class} if level.one_class else {}),
                }
                for name, level in each.levels.items()
            },
            "interaction": {
                score: {"p": test.p, "p_holm": test.corrected, "levels_tested": test.tested}
                for score, test in each.interactions.items()
            },
            "images_without_value": each.without_value,
            **({"images_of_levels_without_cases": dict(each.without_cases)} if each.without_cases else {}),
        }
        for column, each in columns.items()
    }


ROW = ("row", "value", "low", "high", "images", "patients", "data")
"""Columns of plots/subgroups.csv."""


def as_rows(columns: Mapping[str, Subgroups], overall: Level, data: str, unit: Unit = "image") -> list[tuple[Any, ...]]:
    """Return the rows of plots/subgroups.csv, a forest plot: for each score that of all cases, then of each level.

    Args:
        columns: the subgroups.
        overall: all cases as one level.
        data: caption of the plot.
        unit: what is one case.

    """
    levels = {f"all {unit}s": overall} | {
        f"{column} {name}": level for column, each in columns.items() for name, level in each.levels.items()
    }
    return [
        (
            f"{_title(score)}: {_harmless(name)}",
            of.value,
            of.low,
            of.high,
            level.images,
            level.patients,
            data,
        )
        for score in SCORES
        for name, level in levels.items()
        if (of := level.scores.get(score))
    ]


def _title(score: str) -> str:
    return TITLES[score][0].upper() + TITLES[score][1:]


def _harmless(name: str) -> str:
    """Return a name of a user's table for a page: DVC copies rows into a script without escaping them."""
    return "".join(char if char.isprintable() else "?" for char in name).replace("<", "‹").replace(">", "›")


def overall(cases: InUnits, images: int, threshold: float, bootstrap: Bootstrap) -> Level:
    """Return all cases, which are of so many images, as one level."""
    return _level(cases, images, threshold, bootstrap)[0]


class _Part(NamedTuple):
    """The cases of one level, and the score to compute."""

    score: str
    cases: InUnits
    names: np.ndarray
    """(all patients,) sorted."""
    threshold: float


def _estimates(part: _Part, resampled: Resampled, level: Level) -> Iterator[_Estimate]:
    """Yield the score of a level, unless too few patients determine it."""
    ill, healthy = level.ill, level.healthy
    support = {"sensitivity": ill, "specificity": healthy}.get(part.score, min(ill, healthy))
    if support < FEW:
        return

    def independent(at: float) -> float:
        return of_area(at, ill, healthy) if part.score == "roc_auc" else of_proportion(at, support)

    drawn = resampled.resamples[~np.isnan(resampled.resamples)]
    factor = design_effect(resampled.value, drawn, support, independent)
    yield _Estimate(resampled.value, lambda at: factor * independent(at), _influence(part), support)


def _influence(part: _Part) -> np.ndarray:
    """Return what each patient adds to the difference of the score from its expectation, (all patients,)."""
    labels, probabilities = part.cases.labels, part.cases.probabilities
    each = np.zeros(len(labels))
    if part.score == "roc_auc":
        above, below = placements(labels, probabilities)
        each[labels == 1] = (above - above.mean()) / len(above)
        each[labels == 0] = (below - below.mean()) / len(below)
    else:
        of_class = labels == (part.score == "sensitivity")
        called = (probabilities >= part.threshold)[of_class]
        each[of_class] = (called - called.mean()) / len(called)
    return np.bincount(np.searchsorted(part.names, part.cases.patients), each, len(part.names))


def differing(levels: Sequence[_Estimate]) -> float:
    """Return p of the hypothesis that all levels have the same score, by Welch's test."""
    values = np.array([level.value for level in levels])
    if np.ptp(values) == 0:
        return 1.0
    pooled = float(np.average(values, weights=[level.support for level in levels]))
    precision = np.eye(len(levels))
    for _ in range(3):  # the pooled score depends on the variances, and they on it; more rounds change nothing
        errors = np.array([level.variance(pooled) ** 0.5 for level in levels])
        precision = np.linalg.inv(_correlation(levels) * np.outer(errors, errors))
        weights = precision.sum(axis=0)
        pooled = float(np.clip(weights @ values / weights.sum(), values.min(), values.max()))
        pooled = min(max(pooled, 1e-6), 1 - 1e-6)
    apart = values - pooled
    number = len(levels)
    weights = 1 / errors**2
    freedom = np.array([level.support - 1 for level in levels])
    lost = float(np.sum((1 - weights / weights.sum()) ** 2 / freedom))
    statistic = float(apart @ precision @ apart) / (number - 1) / (1 + 2 * (number - 2) * lost / (number**2 - 1))
    return float(stats.f.sf(statistic, number - 1, (number**2 - 1) / (3 * lost)))


def _correlation(levels: Sequence[_Estimate]) -> np.ndarray:
    """Return the correlation of the levels' scores; 0 between levels that share no patient."""
    influence = np.stack([level.influence for level in levels])
    product = influence @ influence.T
    size = np.sqrt(np.diag(product))
    both = np.outer(size, size)
    correlation = DISTINCT * np.divide(product, both, out=np.zeros_like(product), where=both > 0)
    np.fill_diagonal(correlation, 1.0)
    return correlation
