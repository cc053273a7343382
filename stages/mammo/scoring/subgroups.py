"""Scores of subgroups of images, e.g. by vendor or density, and a test of whether the scores differ between them.

A subgroup column gives each image a level, e.g. the vendor of its scanner. Per level the scores have the usual
intervals over patients. Whether a score differs between the levels of a column is tested with Welch's test of means
with unequal variances (Welch 1951, Biometrika 38:330); its degrees of freedom are the patients that determine a score.
The variance of a level is the one that it has if all levels share their pooled score: that of independent patients
times the design effect, from the bootstrap over patients (Rao & Scott 1992, Biometrics 48:577). So a level without any
error has a variance too. Levels that share patients are correlated; the correlation is that of the patients' influence
on the scores (Obuchowski 1997, Biometrics 53:567, for the ROC AUC). The p of all columns and scores are corrected
together (Holm 1979, Scand. J. Statist. 6:65).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mammo.core.wording import counted
from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.cases import Cases
from mammo.scoring.delong import placements
from mammo.scoring.intervals import Interval, Resampled, design_effect, interval_of, of_area, of_proportion
from mammo.scoring.measures import TITLES, area_and_decisions, share
from mammo.scoring.paired import holm
from mammo.scoring.rounding import p_value, with_interval

import numpy as np
from scipy import stats

SCORES = ("roc_auc", "sensitivity", "specificity")
FEW = 5  # patients: a level whose score is determined by fewer is not in the test of interaction
FOUND = 0.05  # corrected p below which a score is said to differ between levels
DISTINCT = 0.95  # factor of correlations: levels with nearly the same patients would make the matrix singular


@dataclass(frozen=True)
class Level:
    """The scores of the images of one level."""

    images: int
    patients: int
    ill: int
    """Patients with cancer."""
    healthy: int
    """Patients with a healthy image."""
    prevalence: Interval
    """Share of images with cancer."""
    scores: Mapping[str, Interval]
    """By name in SCORES: without cancer specificity alone, without healthy images sensitivity alone."""

    @property
    def one_class(self) -> str:
        """The class of all images; empty if there are both, so that the ROC AUC can be computed."""
        return "" if "roc_auc" in self.scores else "cancer" if self.ill else "healthy"


@dataclass(frozen=True)
class Interaction:
    """A test of whether a score differs between levels."""

    p: float
    corrected: float
    """p, corrected for the number of columns and scores."""
    tested: int
    """Number of levels in the test, which have at least FEW patients."""
    least: str
    """The level with the lowest score, of those tested."""

    @property
    def found(self) -> bool:
        """Whether the score differs between levels."""
        return self.corrected < FOUND


@dataclass(frozen=True)
class Subgroups:
    """The levels of one column."""

    levels: Mapping[str, Level]
    interactions: Mapping[str, Interaction]
    """By score; without the scores of which fewer than two levels could be tested."""
    without_value: int
    """Images that have no level."""


class _Estimate(NamedTuple):
    """A score of one level."""

    level: str
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
) -> dict[str, Subgroups]:
    """Return the scores of every level of every column, and whether they differ between levels.

    Args:
        labels: (n,) 0 (healthy) or 1 (cancer).
        probabilities: (n,) probabilities of cancer.
        patients: (n,) names.
        groups: for each column, the level of each image, (n,) str; "" is unknown.
        threshold: operating point, chosen on validation.
        bootstrap: the resamples.

    Returns:
        The columns in the order of `groups`; levels are sorted by name.

    """
    labels, probabilities = np.asarray(labels).astype(int), np.asarray(probabilities, dtype=np.float64)
    patients = np.asarray(patients).astype(str)
    scored, tests = {}, {}
    for column, values in groups.items():
        of_image = np.asarray(values).astype(str)
        levels: dict[str, Level] = {}
        estimates: dict[str, list[_Estimate]] = {score: [] for score in SCORES}
        for level in sorted(set(of_image.tolist()) - {""}):
            held = of_image == level
            levels[level], resampled = _level(labels[held], probabilities[held], patients[held], threshold, bootstrap)
            for score, drawn in resampled.items():
                part = _Part(level, score, labels, probabilities, patients, held, threshold)
                estimates[score] += _estimates(part, drawn, levels[level])
        scored[column] = (levels, int(np.sum(of_image == "")))
        for score, each in estimates.items():
            if len(each) > 1:
                tests[f"{column}\n{score}"] = (differing(each), len(each), min(each, key=lambda one: one.value).level)
    corrected = holm({key: p for key, (p, _, _) in tests.items()})
    return {
        column: Subgroups(
            levels,
            {
                score: Interaction(tests[key][0], corrected[key], *tests[key][1:])
                for score in SCORES
                if (key := f"{column}\n{score}") in tests
            },
            without,
        )
        for column, (levels, without) in scored.items()
    }


def _level(
    labels: np.ndarray, probabilities: np.ndarray, patients: np.ndarray, threshold: float, bootstrap: Bootstrap
) -> tuple[Level, dict[str, Resampled]]:
    """Return a level, and its scores on every resample if it has images of both classes."""
    called = probabilities >= threshold
    resampled: dict[str, Resampled] = {}
    if len(np.unique(labels)) == 2:
        cases = Cases(labels, probabilities, patients)
        resampled = area_and_decisions(cases, called[cases.order], bootstrap)
        known = {score: interval_of(cases, score, drawn) for score, drawn in resampled.items()}
    elif labels[0] == 1:
        known = {"sensitivity": share(called, patients, bootstrap)}
    else:
        known = {"specificity": share(~called, patients, bootstrap)}
    level = Level(
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
        }
        for column, each in columns.items()
    }


ROW = ("row", "value", "low", "high", "images", "patients", "data")
"""Columns of plots/subgroups.csv."""


def as_rows(columns: Mapping[str, Subgroups], overall: Level, data: str) -> list[tuple[Any, ...]]:
    """Return the rows of plots/subgroups.csv, a forest plot: for each score that of all images, then of each level.

    Args:
        columns: the subgroups.
        overall: all images as one level.
        data: caption of the plot.

    """
    levels = {"all images": overall} | {
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


def overall(labels: Any, probabilities: Any, patients: Any, threshold: float, bootstrap: Bootstrap) -> Level:
    """Return all images as one level."""
    return _level(
        np.asarray(labels), np.asarray(probabilities), np.asarray(patients).astype(str), threshold, bootstrap
    )[0]


def remarks(columns: Mapping[str, Subgroups]) -> list[str]:
    """Return what readers of the subgroups must know: differences, levels of one class, images without a level."""
    said = []
    for column, each in columns.items():
        for score, test in each.interactions.items():
            if test.found:
                low = each.levels[test.least].scores[score]
                said.append(
                    f"{_title(score)} differs between the levels of {column} (p {p_value(test.corrected)}, corrected "
                    f"for the number of tests); it is lowest for {test.least}, {with_interval(**vars(low))}."
                )
        for name, level in each.levels.items():
            if level.one_class:
                said.append(
                    f"{column} {name}: all {counted(level.images, 'image')} {'is' if level.images == 1 else 'are'} of "
                    f"class {level.one_class}; the ROC AUC cannot be computed."
                )
        if len(each.levels) < 2:
            said.append(f"{column} has one level in this split: there is nothing to compare.")
        elif not each.interactions:
            said.append(
                f"{column}: fewer than two levels have {FEW} patients with and without cancer; whether the scores "
                "differ cannot be checked."
            )
        if each.without_value:
            said.append(f"{column} is unknown for {counted(each.without_value, 'image')}, which no level holds.")
    return said


class _Part(NamedTuple):
    """The images of one level among all, and the score to compute."""

    level: str
    score: str
    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray
    held: np.ndarray
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
    yield _Estimate(part.level, resampled.value, lambda at: factor * independent(at), _influence(part), support)


def _influence(part: _Part) -> np.ndarray:
    """Return what each patient adds to the difference of the score from its expectation, (patients,)."""
    labels, probabilities = part.labels[part.held], part.probabilities[part.held]
    each = np.zeros(len(labels))
    if part.score == "roc_auc":
        above, below = placements(labels, probabilities)
        each[labels == 1] = (above - above.mean()) / len(above)
        each[labels == 0] = (below - below.mean()) / len(below)
    else:
        of_class = labels == (part.score == "sensitivity")
        called = (probabilities >= part.threshold)[of_class]
        each[of_class] = (called - called.mean()) / len(called)
    names, patient = np.unique(part.patients, return_inverse=True)
    return np.bincount(patient[part.held], each, len(names))


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
