"""Validate a frozen model on another set: predict its images and check that they are new to the model."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mammo.core import dataset, files, model_info, predictions, pseudonyms, revisions
from mammo.core.dataset import LATERALITIES, Entry
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.predictions import Prediction
from mammo.core.settings import Audit, Evaluate, Params, Preprocess
from mammo.core.wording import counted, shown
from mammo.predicting import request
from mammo.predicting.answers import GIVEN_UP, STRANGE
from mammo.predicting.predict import Predictor
from mammo.reporting import validation_page
from mammo.reporting.validation_page import Results
from mammo.scoring import Bootstrap, Cases, as_json, verdicts
from mammo.scoring.validation import External, Rules, for_terminal
from mammo.sources import external
from mammo.sources.external import Images

import numpy as np

EXAMPLES = 3
PAGE = "validation.html"
MODEL, PREPARED, TEST = Path("data/model"), Path("data/prepared"), Path("plots/predictions.csv")
"""Where the pipeline has the model, its own set, and its predictions for the test split."""


class Frozen(NamedTuple):
    """A finished model, and what its own set was."""

    folder: Path
    info: ModelInfo
    test: Sequence[Prediction]
    """Its predictions for its own test split."""
    own_set: Sequence[Entry] | None
    """All images of its own set; None if they are not known here."""

    @property
    def internal(self) -> Cases:
        """The internal test split as cases."""
        return _cases(self.test)


class Predicted(NamedTuple):
    """A set that a frozen model has predicted."""

    rows: Sequence[Prediction]
    novel: np.ndarray | None
    """(n,) bool; None if unknown."""
    warnings: Sequence[str]
    """What differs from the model's own set, with the number of images; what could not be checked."""
    entries: Sequence[Entry]
    """The entries of the rows."""
    leak: str = ""
    """Which images are not new to the model, in a sentence that begins with LEAKING; empty if none is known."""

    @property
    def external(self) -> External:
        """The predictions as they are scored."""
        labels, probabilities, patients = (
            np.array([getattr(row, name) for row in self.rows]) for name in ("label", "probability", "patient")
        )
        exams, sides, views = (
            np.array([getattr(entry, name) for entry in self.entries], dtype=str)
            for name in ("exam", "laterality", "view")
        )
        names = dict.fromkeys(name for entry in self.entries for name, _ in entry.groups)
        columns = {"view": views, "laterality": sides} | {
            name: np.array([dict(entry.groups).get(name, "") for entry in self.entries], dtype=str) for name in names
        }
        groups = {name: values for name, values in columns.items() if (values != "").any()}
        return External(labels, probabilities.astype(float), patients.astype(str), self.novel, exams, sides, groups)


def _cases(rows: Sequence[Prediction]) -> Cases:
    labels, probabilities, patients = zip(*((row.label, row.probability, row.patient) for row in rows), strict=True)
    return Cases(labels, probabilities, patients)


def frozen(model: Path, prepared: Path, test: Path) -> Frozen:
    """Read a finished model, its predictions for its own test split, and the index of its own set.

    The index is used only if it is the one that the model was trained on.

    Raises:
        UserError: the model or the predictions are missing or malformed.

    """
    info = model_info.read(model)
    index = prepared / "index.csv"
    known = index.is_file() and files.sha256(index) == info.index
    entries = pseudonyms.originals(dataset.read_index(prepared), pseudonyms.read(prepared)) if known else None
    return Frozen(model, info, predictions.read(test), entries)


def predict(model: Frozen, images: Images, rule: str, skip_unreadable: bool = False) -> Predicted:
    """Predict the images of another set with a frozen model.

    Args:
        model: the frozen model.
        images: of the other set.
        rule: of the threshold, one of `rules.ThresholdRule`.
        skip_unreadable: leave out unreadable images and say so, instead of raising an error.

    Raises:
        UserError: an image is unreadable, or all are.

    """
    threshold = model.info.thresholds[rule]
    answers = list(Predictor(model.folder, model.info, threshold).predict(images.paths))
    unreadable = [answer for answer in answers if answer.probability is None]
    given_up = [answer for answer in unreadable if answer.reading == GIVEN_UP]
    if given_up or (unreadable and not skip_unreadable):
        named = "; ".join(f"{shown(answer.path)} {answer.reason}" for answer in unreadable[:EXAMPLES])
        raise UserError(
            f"{counted(len(unreadable), 'image')} of {len(answers)} cannot be read: {named}. Remove or replace them, "
            "or set preprocess.on_unreadable to skip"
        )
    rows, warned, novel, kept = [], [], [], []
    for entry, answer in zip(images.entries, answers, strict=True):
        if answer.probability is not None:
            called = int(answer.probability >= threshold)
            rows.append(
                Prediction(entry.image, entry.patient_key, entry.label, answer.probability, called, answer.calibrated)
            )
            warned.append([text for text in answer.warnings if text != STRANGE])
            novel.append(STRANGE in answer.warnings)
            kept.append(entry)
    warnings = [
        *_counted(warned),
        *([f"{counted(len(unreadable), 'unreadable image')} left out"] if unreadable else []),
    ]
    unseen = external.unseen_levels(model.own_set or [], kept)
    notes = [*not_checked(model, images.entries), *images.remarks, *unseen, *warnings]
    return Predicted(rows, np.array(novel), notes, kept)


def refuse_images_of_training(model: Frozen, images: Images, warn: bool = False) -> str:
    """Return in one sentence, beginning with LEAKING, which images are not new to the model; empty if none is known.

    Raises:
        UserError: some are not new, and `warn` is false.

    """
    shared = external.shared_with(model.own_set or [], images.entries)
    if shared and not warn:
        raise UserError(
            f"{images.folder} is no external set: {shared}. Remove these images; if other women have the same numbers "
            "there, give them others in the column patient of labels.csv. audit.on_leak: warn goes on and says so"
        )
    return f"LEAKING: {shared}." if shared else ""


def not_checked(model: Frozen, entries: Sequence[Entry]) -> list[str]:
    """Return what could not be checked about another set."""
    notes = []
    if model.own_set is None:
        notes.append(
            "CANNOT BE CHECKED: the index of the model's own set is not here (`dvc pull data/prepared`), so whether "
            "its patients are in this set is unknown."
        )
    if unknown := sum(not entry.patient for entry in entries):
        count = verdicts.without_patient(unknown, len(entries))
        notes.append(
            f"CANNOT BE CHECKED: {count}: whether they are of women of the model's own set is unknown, and intervals "
            "treat each such image as a patient of its own, so they are too narrow if some are of one woman."
        )
    return notes


def _counted(warned: Sequence[Sequence[str]]) -> list[str]:
    """Return each warning once with its number of images; figures in brackets, which differ by image, are left out."""
    kinds = [text.partition(" (")[0] for texts in warned for text in texts]
    return [f"{kind}: {counted(kinds.count(kind), 'image')} of {len(warned)}" for kind in sorted(set(kinds))]


def of_table(model: Frozen, path: Path, rule: str) -> Predicted:
    """Read predictions that the model has made elsewhere: `image`, `label`, `probability` and, if known, `patient`.

    Raises:
        UserError: the table is missing or malformed, or shows images or patients of the model's own set.

    """
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    rows, table = predictions.parse_any(path.read_bytes(), str(path))
    threshold, learned = model.info.thresholds[rule], model.info.recalibration
    moved = learned.calibrated(np.array([row.probability for row in rows])).tolist() if learned else [None] * len(rows)
    frozen_rows = [
        row._replace(predicted=int(row.probability >= threshold), calibrated=calibrated)
        for row, calibrated in zip(rows, moved, strict=True)
    ]
    own = "patient" in table.columns
    entries = [
        Entry(
            row.image,
            row.label,
            "",
            row.patient if own and row.patient != row.image else "",
            row.image,
            exam=row.exam or "",
            laterality=row.breast if row.breast in LATERALITIES else "",
        )
        for row in rows
    ]
    notes = [
        "CANNOT BE CHECKED: a table has no image files: whether they are new to the model is known by patient alone."
    ]
    if table.ignored:
        notes.append(f"columns that are not used: {', '.join(map(repr, table.ignored))}")
    shared = external.shared_with(model.own_set or [], entries)
    if shared:
        raise UserError(f"{path} is no external set: {shared}")
    return Predicted(frozen_rows, None, [*not_checked(model, entries), *notes], entries)


def of_images(model: Frozen, images: Images, evaluate: Evaluate, preprocess: Preprocess, audit: Audit) -> Predicted:
    """Predict the images of another set with the settings of these sections of params.yaml.

    Raises:
        UserError: an image cannot be read, or is not new to the model.

    """
    leak = refuse_images_of_training(model, images, audit.on_leak == "warn")
    predicted = predict(model, images, evaluate.threshold, preprocess.on_unreadable == "skip")
    return predicted._replace(leak=leak, warnings=[*([leak] if leak else []), *predicted.warnings])


def score(model: Frozen, predicted: Predicted, name: str, evaluate: Evaluate) -> Results:
    """Score a frozen model on another set that it has predicted."""
    rules = Rules(evaluate.threshold, evaluate.prevalence, Bootstrap(evaluate.seed, evaluate.resamples))
    return validation_page.results(name, predicted.external, model.internal, model.info, rules, predicted.warnings)


def run(source: Path, name: str, out: Path, revision: str | None, despite_phantoms: bool, params: Params) -> str:
    """Validate the model of the workspace, or of a revision, on a folder or a table; write page and tables to OUT.

    A folder is read by the description `name` of a data set, if there is one of this name.

    Returns the result in words.

    Raises:
        UserError: something cannot be read, SOURCE is no external set, or OUT holds something else.

    """
    rule = params.evaluate.threshold
    refuse_to_replace(out)
    with tempfile.TemporaryDirectory() as folder:
        model = of_revision(revision, Path(folder)) if revision else frozen(MODEL, PREPARED, TEST)
        request.read_model(model.folder, rule, despite_phantoms)
        if source.is_file():
            predicted = of_table(model, source, rule)
        else:
            images = external.images(source, params.data, name)
            predicted = of_images(model, images, params.evaluate, params.preprocess, params.audit)
    scored = score(model, predicted, name or source.stem, params.evaluate)
    with files.written(out) as beside:
        validation_page.write_curves(beside, scored.curves)
        predictions.write(beside / "predictions.csv", predicted.rows)
        files.write_json(beside / "scores.json", as_json(scored.told.content))
        files.write_text(beside / PAGE, validation_page.page(scored))
    return "\n".join([*predicted.warnings, f"{source}: {for_terminal(scored.told.content)}", f"{out / PAGE}"])


def refuse_to_replace(out: Path) -> None:
    """Refuse a folder that holds anything but an earlier validation: it would be replaced as a whole.

    Raises:
        UserError: it does, or it is an output of the pipeline.

    """
    if revisions.is_output(out) or (out.exists() and not out.is_dir()):
        raise UserError(f"--out {out}: this is an output of the pipeline, or a file; name another folder")
    if out.is_dir() and any(out.iterdir()) and not (out / PAGE).is_file():
        raise UserError(f"--out {out}: this folder holds something else; name a new one")


def of_revision(revision: str, folder: Path) -> Frozen:
    """Fetch the model of a revision, its predictions and, if DVC has it here, the index of its own set to FOLDER.

    Raises:
        UserError: the model or its predictions are not here.

    """
    revisions.commit_of(revision)  # an error of its own for what is no revision
    model = revisions.fetch(MODEL, revision, folder)
    test = revisions.fetch(TEST, revision, folder)
    with contextlib.suppress(UserError):  # said by `not_checked`
        revisions.fetch(PREPARED / "index.csv", revision, folder)
        revisions.fetch(PREPARED / pseudonyms.NAME, revision, folder)
    return frozen(model, folder / PREPARED, test)
