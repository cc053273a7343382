"""Scores of a frozen model on another set: at its locked thresholds, with its own calibration."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.randomness import generator
from mammo.scoring.bootstrap import Bootstrap
from mammo.scoring.calibration import calibration, learned_recalibration
from mammo.scoring.cases import Cases
from mammo.scoring.intervals import Interval
from mammo.scoring.measures import scores, share
from mammo.scoring.prevalence import at_prevalence
from mammo.scoring.rounding import p_value, rounded, with_interval
from mammo.scoring.subgroups import as_metrics, in_subgroups
from mammo.scoring.thresholds import operating_points
from mammo.scoring.units import breakdown
from mammo.scoring.unpaired import unpaired_changes

import numpy as np

SHARE = 0.2
"""Share of the external patients on which a new recalibration is learned."""


class External(NamedTuple):
    """Predictions of a frozen model for the images of another set."""

    labels: np.ndarray
    """(n,) 0 or 1."""
    probabilities: np.ndarray
    """(n,) raw probabilities of cancer."""
    patients: np.ndarray
    """(n,) names; the name of the image where the patient is unknown."""
    novel: np.ndarray | None
    """(n,) bool, whether the network sees something that no training image showed; None if unknown."""
    exams: np.ndarray | None = None
    """(n,) exams; empty if unknown."""
    laterality: np.ndarray | None = None
    """(n,) L, R or B; empty if unknown."""
    groups: Mapping[str, np.ndarray] = MappingProxyType({})
    """(n,) level of each image in every subgroup column; empty if unknown."""

    @property
    def known(self) -> dict[str, np.ndarray]:
        """What units are made of, see `units.in_units`."""
        unknown = np.full(len(self.labels), "")
        exams, sides = (unknown if each is None else each for each in (self.exams, self.laterality))
        return {"patients": self.patients, "exams": exams, "laterality": sides}

    @property
    def cases(self) -> Cases:
        """The images as cases.

        Raises:
            UserError: only one class is present.

        """
        return Cases(self.labels, self.probabilities, self.patients, split="external")


class Rules(NamedTuple):
    """How the external set is scored."""

    threshold: str
    """One of `rules.ThresholdRule`: the rule of the headline scores."""
    prevalence: float | str
    """As `evaluate.prevalence`: a share, or `none`."""
    bootstrap: Bootstrap


def validated(external: External, internal: Cases, info: ModelInfo, rules: Rules) -> dict[str, Any]:
    """Return all scores of a frozen model on another set, in the form of metrics/test.json: nested, with intervals.

    Args:
        external: the predictions for the other set.
        internal: those for the test split of the model's own set; no patient is in both.
        info: the model's, with its locked thresholds and recalibration.
        rules: how to score.

    Returns:
        The headline scores at the locked threshold; `change`: of the scores that do not depend on the share of cancer,
        from the internal test to this set; `operating_points`, with `at_prevalence` if one is given; `calibration`, and
        `recalibrated` by the model's own recalibration; `recalibrated_here`: see there; `units`: scores per image,
        breast and exam; `subgroups`, if there are groups; `novel`: share of novel images.

    """
    cases, threshold = external.cases, info.thresholds[rules.threshold]
    points: dict[str, Any] = operating_points(cases, info.thresholds, rules.bootstrap)
    if rules.prevalence != "none":
        points["at_prevalence"] = at_prevalence(points, float(rules.prevalence))
    content: dict[str, Any] = {
        **scores(cases, threshold, rules.bootstrap),
        "change": changes(internal, cases, threshold, rules.bootstrap),
        "operating_points": points,
        "calibration": calibration(cases, rules.bootstrap),
    }
    if info.recalibration:
        moved = Cases(external.labels, info.recalibration.calibrated(external.probabilities), external.patients)
        content["recalibrated"] = calibration(moved, rules.bootstrap)
    if here := recalibrated_here(external, rules.bootstrap):
        content["recalibrated_here"] = here
    content["units"] = breakdown(external.labels, external.probabilities, external.known, threshold, rules.bootstrap)
    if external.groups:
        each = (external.labels, external.probabilities, external.patients)
        content["subgroups"] = as_metrics(in_subgroups(*each, external.groups, threshold, rules.bootstrap))
    if external.novel is not None:
        content["novel"] = share(external.novel, external.patients, rules.bootstrap)
    return {
        **content,
        "threshold": {"value": threshold},
        "images": {"healthy": int((~cases.labels).sum()), "cancer": int(cases.labels.sum())},
        "patients": {"value": len(cases.cancer)},
    }


def changes(internal: Cases, external: Cases, threshold: float, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return each score of `unpaired.SHIFTED` on the internal test, and its change to the external set with p."""
    before, after = (cases.as_given(cases.probabilities >= threshold).astype(int) for cases in (internal, external))
    found = unpaired_changes(internal, external, before, after, bootstrap)
    return {name: {"internal": change.a, "change": change.change, "p": change.p} for name, change in found.items()}


def recalibrated_here(external: External, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return what a recalibration learned on a share of the external patients gives on the others.

    Patients with and without cancer are drawn separately, a fifth of each, at least one.

    Returns:
        `learned_on`: number of patients; `before` and `after`: calibration of the other patients' images by the raw and
        by the newly recalibrated probability. Empty if either part would lack a class.

    """
    learning = np.isin(external.patients, drawn_patients(external, bootstrap.seed))
    try:
        first, rest = (
            Cases(external.labels[part], external.probabilities[part], external.patients[part])
            for part in (learning, ~learning)
        )
    except UserError:  # one class: there are too few patients
        return {}
    probabilities = learned_recalibration(first).calibrated(external.probabilities[~learning])
    moved = Cases(external.labels[~learning], probabilities, external.patients[~learning])
    return {
        "learned_on": {"value": len(first.cancer)},
        "before": calibration(rest, bootstrap),
        "after": calibration(moved, bootstrap),
    }


def drawn_patients(external: External, seed: int) -> list[str]:
    """Return the names of the patients on whose images the new recalibration is learned."""
    ill = set(external.patients[external.labels == 1].tolist())
    drawn: list[str] = []
    for cancer in (False, True):
        names = sorted(name for name in set(external.patients.tolist()) if (name in ill) == cancer)
        random = generator(seed, "recalibration", int(cancer))
        drawn += [names[place] for place in random.permutation(len(names))[: max(1, round(SHARE * len(names)))]]
    return drawn


def for_terminal(content: Mapping[str, Any]) -> str:
    """Return the result in one line: the ROC AUC, its change from the internal test, and the calibration."""
    auc: Interval = content["roc_auc"]
    moved = content["change"]["roc_auc"]
    change: Interval = moved["change"]
    slope: Interval = content["calibration"]["slope"]
    return (
        f"ROC AUC {with_interval(auc.value, auc.low, auc.high)}, {change.value:+.3f} from the "
        f"internal test ({change.low:+.3f} to {change.high:+.3f}, p {p_value(moved['p'])}); "
        f"calibration slope {rounded(slope.value)}"
    )
