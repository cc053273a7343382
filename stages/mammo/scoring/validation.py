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
from mammo.scoring.units import InUnits, Unit, breakdown, in_units, refuse_unscorable
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

    def in_units(self, unit: Unit = "image", probabilities: np.ndarray | None = None) -> InUnits:
        """Return what the headline scores are of; with other probabilities of the images, (n,), if they are given."""
        return in_units(unit, self.labels, self.probabilities if probabilities is None else probabilities, **self.known)

    def cases(self, unit: Unit = "image", probabilities: np.ndarray | None = None) -> Cases:
        """Return the units as cases.

        Raises:
            UserError: only one class is present.

        """
        return self.in_units(unit, probabilities).cases("external")

    def recalibrated(self, info: ModelInfo, unit: Unit = "image") -> Cases | None:
        """Return the units by the model's own recalibration; None if it has none."""
        return self.cases(unit, info.recalibration.calibrated(self.probabilities)) if info.recalibration else None

    def part(self, held: np.ndarray) -> "External":
        """Return some of the images, without their groups; `held`: (n,) bool."""
        known = {name: values[held] for name, values in self.known.items()}
        return External(self.labels[held], self.probabilities[held], novel=None, **known)


class Rules(NamedTuple):
    """How the external set is scored."""

    threshold: str
    """One of `rules.ThresholdRule`: the rule of the headline scores."""
    prevalence: float | str
    """As `evaluate.prevalence`: a share, or `none`."""
    bootstrap: Bootstrap
    unit: Unit = "image"
    """As `evaluate.unit`: of the headline scores, their changes, operating points, calibration and subgroups."""


def validated(external: External, internal: Cases, info: ModelInfo, rules: Rules) -> dict[str, Any]:
    """Return all scores of a frozen model on another set, in the form of metrics/test.json: nested, with intervals.

    Args:
        external: the predictions for the other set.
        internal: the test split of the model's own set in the unit of `rules`; no patient is in both.
        info: the model's, with its locked thresholds and recalibration.
        rules: how to score.

    Returns:
        The headline scores at the locked threshold; `change`: of the scores that do not depend on the share of cancer,
        from the internal test to this set; `operating_points`, with `at_prevalence` if one is given; `calibration`, and
        `recalibrated` by the model's own recalibration; `recalibrated_here`: see there; `units`: scores per image,
        breast and exam; `subgroups`, if there are groups; `novel`: share of novel images; `unit`, unless it is the
        image.

    Raises:
        UserError: images are of one class, or the unit cannot be scored.

    """
    units, threshold = external.in_units(rules.unit), info.thresholds[rules.threshold]
    refuse_unscorable(units, rules.unit, "external")
    cases, bootstrap = units.cases("external"), rules.bootstrap
    points: dict[str, Any] = operating_points(cases, info.thresholds, bootstrap)
    if rules.prevalence != "none":
        points["at_prevalence"] = at_prevalence(points, float(rules.prevalence))
    content: dict[str, Any] = {
        **scores(cases, threshold, bootstrap),
        "change": changes(internal, cases, threshold, bootstrap),
        "operating_points": points,
        "calibration": calibration(cases, bootstrap),
    }
    if moved := external.recalibrated(info, rules.unit):
        content["recalibrated"] = calibration(moved, bootstrap)
    if here := recalibrated_here(external, bootstrap, rules.unit):
        content["recalibrated_here"] = here
    images, known = (external.labels, external.probabilities), external.known
    content["units"] = breakdown(*images, known, threshold, bootstrap)
    if external.groups:
        patients, exams, sides = known.values()
        each = (*images, patients, external.groups, threshold, bootstrap)
        content["subgroups"] = as_metrics(in_subgroups(*each, rules.unit, exams, sides))
    if external.novel is not None:
        content["novel"] = share(external.novel, external.patients, bootstrap)
    return {
        **content,
        "threshold": {"value": threshold},
        "images": {"healthy": int((external.labels == 0).sum()), "cancer": int((external.labels == 1).sum())},
        "patients": {"value": len(cases.cancer)},
        **({} if rules.unit == "image" else {"unit": rules.unit}),
    }


def changes(internal: Cases, external: Cases, threshold: float, bootstrap: Bootstrap) -> dict[str, Any]:
    """Return each score of `unpaired.SHIFTED` on the internal test, and its change to the external set with p."""
    before, after = (cases.as_given(cases.probabilities >= threshold).astype(int) for cases in (internal, external))
    found = unpaired_changes(internal, external, before, after, bootstrap)
    return {name: {"internal": change.a, "change": change.change, "p": change.p} for name, change in found.items()}


def recalibrated_here(external: External, bootstrap: Bootstrap, unit: Unit = "image") -> dict[str, Any]:
    """Return what a recalibration learned on the images of a share of the external patients gives on the others.

    Patients with and without cancer are drawn separately, a fifth of each, at least one.

    Returns:
        `learned_on`: number of patients; `before` and `after`: calibration of the other patients' units by the raw and
        by the newly recalibrated probability. Empty if either part would lack a class.

    """
    learning = np.isin(external.patients, drawn_patients(external, bootstrap.seed))
    rest = external.part(~learning)
    try:
        first, before = external.part(learning).cases(), rest.cases(unit)
    except UserError:  # one class: there are too few patients
        return {}
    after = rest.cases(unit, learned_recalibration(first).calibrated(rest.probabilities))
    return {
        "learned_on": {"value": len(first.cancer)},
        "before": calibration(before, bootstrap),
        "after": calibration(after, bootstrap),
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
