"""The page of a validation on another set."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mammo.core import files
from mammo.core.model_info import ModelInfo
from mammo.reporting import figures, pages, parts
from mammo.reporting.parts import Column, Part
from mammo.reporting.run import BEST
from mammo.reporting.scored import Score, score_of, title_of
from mammo.scoring import COMPARED, Cases, Interval, Table, as_json, reliability, roc_curve
from mammo.scoring.validation import External, Rules, validated

import numpy as np

LEAK = "LEAKING: not all images are new to the model."
"""On pictures; the page names the images."""
SCORES = (*COMPARED, "precision", "f1", "accuracy_at_half", "majority_accuracy")


class Told(NamedTuple):
    """What the page tells."""

    name: str
    info: ModelInfo
    rules: Rules
    content: Mapping[str, Any]
    """As returned by `scoring.validation.validated`."""
    warnings: Sequence[str]

    @property
    def leaks(self) -> list[str]:
        """The warnings that name images which are not new to the model."""
        return [text for text in self.warnings if text.startswith("LEAKING")]

    @property
    def notices(self) -> list[str]:
        """The warnings that stand before all else: of leaks, and of what could not be checked."""
        return [text for text in self.warnings if text.startswith(("LEAKING", "CANNOT BE CHECKED"))]

    @property
    def remarks(self) -> list[str]:
        """The other warnings, as sentences."""
        others = [text for text in self.warnings if text not in self.notices]
        return [f"{text[0].upper()}{text[1:]}{'' if text.endswith('.') else '.'}" for text in others]


class Results(NamedTuple):
    """What is told, and the curves that are drawn."""

    told: Told
    curves: "Curves"


class Curves(NamedTuple):
    """Curves of the external set, and the ROC curve of the internal test."""

    internal: Table
    roc: Table
    calibration: Table


def results(
    name: str, external: External, internal: Cases, info: ModelInfo, rules: Rules, warnings: Sequence[str]
) -> Results:
    """Score a frozen model on an external set; `warnings` are what is said beside the scores."""
    told = Told(name, info, rules, validated(external, internal, info, rules), warnings)
    cases, bootstrap = external.cases(rules.unit), rules.bootstrap
    calibration = reliability(cases, bootstrap, external.recalibrated(info, rules.unit))[1]
    return Results(told, Curves(roc_curve(internal, bootstrap), roc_curve(cases, bootstrap), calibration))


def write_curves(folder: Path, drawn: Curves) -> None:
    """Write FOLDER/roc.csv and FOLDER/calibration.csv."""
    folder.mkdir(parents=True)
    for name in ("roc", "calibration"):
        table: Table = getattr(drawn, name)
        files.write_csv(folder / f"{name}.csv", table.columns, table.rows)


def page(scored: Results) -> str:
    """Return the page as HTML, with its pictures inside."""
    told, drawn = scored
    with tempfile.TemporaryDirectory() as folder:
        roc, calibration = Path(folder) / "roc.png", Path(folder) / "calibration.png"
        change = told.content["change"]["roc_auc"]
        aucs = (change["internal"], told.content["roc_auc"])
        rows = [np.array(drawn.internal.rows), np.array(drawn.roc.rows)]
        leak = [LEAK] if told.leaks else []
        title = "ROC curves, internal test and external set"
        figures.two_rocs(roc, rows, ("internal test", told.name), aucs, leak, title)
        caption = figures.plain(" ".join([*leak, f"External set {told.name}"]))
        figures.calibration(calibration, np.array(drawn.calibration.rows), caption, "Calibration, external set")
        return pages.rendered_page("validation.html", told=told, rows=Rows(told), roc=roc, calibration=calibration)


class Rows:
    """Rows of the page's tables."""

    def __init__(self, told: Told) -> None:
        self._content, self._unit = told.content, told.rules.unit

    def _score(self, key: str, interval: Interval) -> Score:
        return score_of(key, vars(interval))

    @property
    def scores(self) -> list[Score]:
        """The headline scores on the external set."""
        return [self._score(key, entry) for key, entry in self._content.items() if key in SCORES]

    @property
    def units(self) -> list[Part]:
        """The scores per image, breast and exam."""
        return parts.units(as_json(self._content["units"]))

    @property
    def unit_sentences(self) -> list[str]:
        """What is left out of the scores per breast and exam, and what limits them."""
        return parts.unit_sentences(as_json(self._content["units"]))

    @property
    def subgroups(self) -> list[Column]:
        """The subgroup columns with their levels."""
        return parts.columns(as_json(self._content.get("subgroups", {})), self._unit)

    @property
    def changes(self) -> list[tuple[str, Score, Score, Score, float]]:
        """Title, internal score, external score, change and p."""
        return [
            (
                title_of(key),
                self._score(key, entry["internal"]),
                self._score(key, self._content[key]),
                self._score(key, entry["change"]),
                entry["p"],
            )
            for key, entry in self._content["change"].items()
        ]

    @property
    def points(self) -> list[tuple[str, float, Score, Score]]:
        """Rule, threshold, sensitivity and specificity of each operating point."""
        return [
            (rule, point["threshold"], *(self._score(key, point[key]) for key in ("sensitivity", "specificity")))
            for rule, point in self._content["operating_points"].items()
            if rule != "at_prevalence"
        ]

    @property
    def calibration(self) -> list[tuple[str, int, list[Score]]]:
        """Title and best value of each measure of calibration, and its values: raw, and if known recalibrated."""
        return self._calibration([self._content["calibration"], self._content.get("recalibrated")])

    @property
    def calibration_here(self) -> list[tuple[str, int, list[Score]]]:
        """The same for the patients on whom no recalibration was learned, before and after the new one."""
        here = self._content["recalibrated_here"]
        return self._calibration([here["before"], here["after"]])

    def _calibration(self, kinds: Sequence[Mapping[str, Interval] | None]) -> list[tuple[str, int, list[Score]]]:
        return [
            (title_of(key), BEST[key], [self._score(key, kind[key]) for kind in kinds if kind])
            for key in self._content["calibration"]
        ]
