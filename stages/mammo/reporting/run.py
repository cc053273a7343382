"""Content of a run for the templates of the page and the model card."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

from mammo.core import files, model_info, predictions
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.predictions import Prediction
from mammo.core.set_description import Provenance
from mammo.core.settings import Params
from mammo.core.wording import SPLIT_NAMES, in_words, with_split_named
from mammo.reporting import parts
from mammo.reporting.parts import Column, Part
from mammo.reporting.scored import AtPrevalence, Calibrated, OperatingPoint, Score, score_of, title_of
from mammo.scoring import TITLES, Interval, against_shortcut
from mammo.scoring.rounding import NO_BREAK

import yaml

METRICS = (
    *("preprocess", "audit", "train", "test", "operating_points", "calibration", "explanation"),
    *("units", "subgroups"),
)
_OF_SETS = ("set", "in_place", "on_missing")
UNUSED = {
    "phantom": ("kaggle", "folder", *_OF_SETS),
    "kaggle": ("folder", "phantom", *_OF_SETS),
    "folder": ("kaggle", "phantom", *_OF_SETS),
    "set": ("kaggle", "phantom"),
}
"""Settings of `data` that have no effect, by source of the images."""
BEST = {"brier": 0, "expected_calibration_error": 0, "intercept": 0, "slope": 1, "brier_skill": 1}
"""Measures of calibration, and their values for perfect probabilities."""
DIGITS = 12  # of the digest
CASES = "cases.csv"
"""Table of the test images with their groups, in plots/cases beside their pictures."""


class Property(NamedTuple):
    """A property of files or patients, and how well it alone tells cancer from healthy."""

    title: str
    roc_auc: Score | None
    """None if it cannot be checked."""
    higher_with_cancer: bool
    p: float
    """Corrected for the number of properties by Holm's method."""
    cases: int
    """Number of patients or images with a known value."""
    in_pixels: bool
    """Whether the pixels can carry it."""


class Warned(NamedTuple):
    """Findings of the audit that put the scores in doubt."""

    kind: str
    """Kind of finding, in words."""
    images: int
    """Number of images concerned; 0 if it concerns a split or all images."""
    detail: str
    """Description; empty if it concerns single images."""


@dataclass(frozen=True)
class Run:
    """Content of a run's files."""

    info: ModelInfo
    """data/model/model.json."""
    settings: Params
    """params.yaml."""
    metrics: Mapping[str, Mapping[str, Any]]
    """Content of each file of metrics/, by name without extension."""
    findings: Sequence[Mapping[str, str]]
    """plots/audit.csv, most severe first."""
    predictions: Sequence[Prediction]
    """plots/predictions.csv."""
    plots: Path
    """Folder of the pictures."""
    audit_pictures: Mapping[str, Path]
    """Pictures of the audit, by kind of finding."""
    heat_maps: Mapping[str, Path]
    """Sheets of heat maps, by outcome."""
    digest: str
    """Identifier of the run, derived from its settings and results."""

    @property
    def source(self) -> str:
        """Source of the images: `phantom`, `kaggle`, `folder` or `set`."""
        return self.info.trained_on.source

    @property
    def data_set(self) -> Provenance | None:
        """Licence and source of a described set; None for any other."""
        return self.info.trained_on.data_set

    @property
    def phantoms(self) -> bool:
        """Whether the images are synthetic."""
        return self.source == "phantom"

    @property
    def leak(self) -> str:
        """The audit's sentence on a leak, or on patients that cannot be checked; empty if there is neither."""
        return self.info.audit.sentence if self.info.audit.rank else ""

    @property
    def size(self) -> str:
        """Height and width of the network's input in pixels."""
        return f"{NO_BREAK}×{NO_BREAK}".join(map(str, self.info.preprocess.size))

    @property
    def folder(self) -> str:
        """`data.folder`; only its name if it is outside the project, to hide local paths."""
        folder = self.settings.data.folder
        if Path(folder).is_absolute() or PureWindowsPath(folder).is_absolute() or folder.startswith(("~", "..")):
            return f"…/{PureWindowsPath(folder).name}"
        return folder

    # Scores

    @property
    def scores(self) -> dict[str, Score]:
        """The headline scores by key, in the order of metrics/test.json."""
        return {key: score_of(key, entry) for key, entry in self.metrics["test"].items() if _has_interval(entry)}

    @property
    def operating_points(self) -> list[OperatingPoint]:
        """Every threshold locked on validation."""
        active = self.settings.evaluate.threshold
        return [
            OperatingPoint(
                rule,
                rule == active,
                at["threshold"],
                *(score_of(key, at[key]) for key in ("sensitivity", "specificity")),
            )
            for rule, at in self.metrics["operating_points"].items()
            if rule != "at_prevalence"
        ]

    @property
    def at_prevalence(self) -> AtPrevalence | None:
        """Predictive values at `evaluate.prevalence`; None if it is not set."""
        content = self.metrics["operating_points"].get("at_prevalence")
        if not content:
            return None
        rows = {
            rule: [score_of(key, entry) for key, entry in scores.items()]
            for rule, scores in content.items()
            if isinstance(scores, Mapping)
        }
        return AtPrevalence(content["prevalence"], content["warning"], rows)

    @property
    def unit(self) -> str:
        """What is one case of the headline scores: `image`, `breast` or `exam`."""
        return self.metrics["test"].get("unit", "image")

    @property
    def units(self) -> list[Part]:
        """The scores per image, breast and exam."""
        return parts.units(self.metrics["units"])

    @property
    def unit_sentences(self) -> list[str]:
        """What is left out of the scores per breast and exam, and what limits them."""
        return parts.unit_sentences(self.metrics["units"])

    @property
    def subgroups(self) -> list[Column]:
        """The subgroup columns with their levels."""
        return parts.columns(self.metrics["subgroups"], self.unit)

    @property
    def auc_of_splits(self) -> list[Score]:
        """ROC AUC of training and validation images, with intervals over patients."""
        train = self.metrics["train"]
        return [
            score_of("roc_auc", train[split]["roc_auc"])._replace(title=SPLIT_NAMES[split].capitalize())
            for split in ("train", "valid")
        ]

    @property
    def independent(self) -> list[Score]:
        """ROC AUC with intervals that assume independent images."""
        return [score_of(key, entry) for key, entry in self.metrics["test"]["if_images_were_independent"].items()]

    @property
    def calibration(self) -> list[Calibrated]:
        """Measures of calibration, of the probabilities and of the recalibrated ones."""
        content = self.metrics["calibration"]
        after = content.get("recalibrated", {})
        return [
            Calibrated(
                title_of(key), BEST[key], score_of(key, content[key]), score_of(key, after[key]) if after else None
            )
            for key in BEST
            if key in content
        ]

    @property
    def explanation(self) -> tuple[list[Score], list[tuple[str, float]]]:
        """Scores of the heat maps that have an interval; names and values of those that have none."""
        scores, numbers = [], []
        for key, entry in _flat(self.metrics["explanation"]):
            if _has_interval(entry):
                scores.append(score_of(key, entry))
            else:
                numbers.append((title_of(key), entry["value"] if isinstance(entry, Mapping) else entry))
        return scores, numbers

    @property
    def beats_baseline(self) -> bool:
        """Whether the network's ROC AUC is above that of the brightness baseline, by a paired test."""
        return self.metrics["test"]["against_shortcut"]["roc_auc_change"]["low"] > 0

    @property
    def against_baseline(self) -> str:
        """The paired test against the brightness baseline, in words."""
        change = self.metrics["test"]["against_shortcut"]
        return against_shortcut(Interval(**change["roc_auc_change"]), change["p"])

    @property
    def bar(self) -> Score | None:
        """Cross-validated ROC AUC of the brightness baseline over all patients; None if it cannot be computed."""
        entry = self.metrics["audit"]["shortcut"].get("cross_validated_roc_auc")
        return score_of("shortcut_roc_auc", entry) if entry else None

    @property
    def beats_majority(self) -> bool:
        """Whether the interval of the accuracy lies above that of always predicting the majority class."""
        return self.scores["accuracy"].low > self.scores["majority_accuracy"].value

    @property
    def threshold(self) -> float:
        """Lowest probability at which an image is classified as cancer."""
        return self.metrics["test"]["threshold"]["value"]

    # Cases

    @property
    def images(self) -> int:
        """Number of images in all splits."""
        splits = self.metrics["audit"]["splits"].values()
        return sum(split["healthy_images"] + split["cancer_images"] for split in splits)

    @property
    def false_negatives(self) -> list[Prediction]:
        """Images with cancer classified as healthy, the most certain first."""
        missed = [case for case in self.predictions if (case.label, case.predicted) == (1, 0)]
        return sorted(missed, key=lambda case: case.probability)

    @property
    def false_positives(self) -> list[Prediction]:
        """Healthy images classified as cancer, the most certain first."""
        wrong = [case for case in self.predictions if (case.label, case.predicted) == (0, 1)]
        return sorted(wrong, key=lambda case: -case.probability)

    @property
    def patients_with_cancer(self) -> int:
        """Number of test patients with cancer."""
        return len({case.patient for case in self.predictions if case.label})

    @property
    def patients_missed(self) -> int:
        """Number of test patients with cancer without any image classified as cancer."""
        found = {case.patient for case in self.predictions if case.predicted}
        return len({case.patient for case in self.predictions if case.label} - found)

    # The audit

    @property
    def warnings(self) -> list[Warned]:
        """Leaks and warnings of the audit: image counts by kind, and descriptions of other findings."""
        serious = [row for row in self.findings if row["severity"] in ("leak", "warning")]
        images = Counter(row["kind"] for row in serious if row["image"])
        said = [
            Warned(in_words(row["kind"]), 0, with_split_named(row["detail"])) for row in serious if not row["image"]
        ]
        return [Warned(in_words(kind), number, "") for kind, number in images.items()] + said

    @property
    def finding_kinds(self) -> list[tuple[str, str, int]]:
        """Kind, severity and number of the audit's findings, the most severe first."""
        counts = Counter((row["kind"], row["severity"]) for row in self.findings)
        return [(in_words(kind), severity, number) for (kind, severity), number in counts.items()]

    # The data as delivered

    @property
    def remarks(self) -> list[str]:
        """What the user should know about how the data were delivered."""
        said = [row["detail"] for row in self.findings if row["kind"] == "remark"]
        return [text[:1].upper() + text[1:] for text in said]

    @property
    def excluded(self) -> list[str]:
        """Images left out by `data.exclude`."""
        return sorted(set(self.settings.data.exclude))

    @property
    def delivered_split(self) -> Mapping[str, Mapping[str, int]]:
        """Counts of the split in which the data were delivered, if another one was used; otherwise empty."""
        return self.metrics["preprocess"].get("delivered_split", {})

    @property
    def metadata(self) -> list[Property]:
        """How well properties of files and patients alone tell cancer from healthy."""
        return [
            Property(
                title_of(key),
                score_of(key, entry) if _has_interval(entry) else None,
                entry.get("higher_with_cancer", False),
                entry.get("p_holm", 1.0),
                entry["cases"],
                entry["pixels_can_carry_it"],
            )
            for key, entry in self.metrics["audit"]["metadata"].items()
        ]

    # Settings

    @property
    def settings_in_force(self) -> list[tuple[str, str]]:
        """Keys and values of params.yaml, without the settings of unused sources."""
        unused = tuple(f"data.{name}" for name in UNUSED[self.source])
        rows = [row for row in _leaves(self.settings.model_dump(), "") if not row[0].startswith(unused)]
        return [(key, self.folder if key == "data.folder" else as_written(value)) for key, value in rows]


def read(model: Path, metrics: Path, plots: Path, params: Params) -> Run:
    """Read a run with the settings `params` from the folders MODEL, METRICS and PLOTS.

    Raises:
        UserError: a file is missing or malformed.

    """
    tables = [metrics / f"{name}.json" for name in METRICS]
    named = [model / "model.keras", model / model_info.NAME, *tables, plots / "predictions.csv"]
    run = Run(
        info=model_info.read(model),
        settings=params,
        metrics={path.stem: files.read_json(path) for path in tables},
        findings=files.read_csv(plots / "audit.csv", ("kind", "severity", "image", "detail")),
        predictions=predictions.read(plots / "predictions.csv"),
        plots=plots,
        audit_pictures=_pictures(plots / "audit"),
        heat_maps=_pictures(plots / "explanation"),
        digest="",
    )
    return Run(**{**vars(run), "digest": digest(run.settings_in_force, named)})


def digest(settings_in_force: Sequence[tuple[str, str]], results: Sequence[Path]) -> str:
    """Return the first digits of a SHA-256 that identifies a run.

    It covers the settings in force and the bytes of model, scores and predictions; `model.json` holds the hash of the
    data's index. It does not cover the code, so an edit that changes no result does not change the digest or any
    output of DVC.

    Raises:
        UserError: a file is missing.

    """
    for path in results:
        if not path.is_file():
            raise UserError(f"{path} does not exist: run `dvc repro`, or `dvc pull`")
    content = {"settings": settings_in_force, "results": {path.name: files.sha256(path) for path in results}}
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGITS]


def as_written(value: Any) -> str:
    """Return a setting as written in params.yaml."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000)
    return text.removesuffix("...\n").strip()


def _pictures(folder: Path) -> dict[str, Path]:
    """Return the PNG files of a folder, ordered by name.

    Raises:
        UserError: there is no such folder.

    """
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist: run `dvc repro`, or `dvc pull`")
    return {path.stem: path for path in sorted(folder.glob("*.png"))}


def _has_interval(entry: Any) -> bool:
    return isinstance(entry, Mapping) and {"value", "low", "high"} <= set(entry)


def _flat(content: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the key and entry of every number in nested groups; keys are prefixed with the group's name."""
    numbers: list[tuple[str, Any]] = []
    for key, entry in content.items():
        if isinstance(entry, Mapping) and "value" not in entry:
            group = TITLES.get(key, key.replace("_", " "))
            numbers += [(f"{group}: {TITLES.get(inner, inner.replace('_', ' '))}", one) for inner, one in _flat(entry)]
        else:
            numbers.append((key, entry))
    return numbers


def _leaves(content: Mapping[str, Any], above: str) -> list[tuple[str, Any]]:
    """Return the dotted key and the value of every setting in nested sections."""
    leaves = []
    for key, value in content.items():
        leaves += _leaves(value, f"{above}{key}.") if isinstance(value, Mapping) else [(above + key, value)]
    return leaves
