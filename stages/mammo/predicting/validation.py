"""Validate a frozen model on another set: predict its images and check that they are new to the model."""

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from mammo.auditing.copies import copies
from mammo.core import dataset, files, model_info, predictions, pseudonyms, revisions, stage
from mammo.core.dataset import LATERALITIES, Entry
from mammo.core.errors import UserError
from mammo.core.model_info import ModelInfo
from mammo.core.predictions import Prediction
from mammo.core.settings import Audit, Evaluate, Params, Preprocess
from mammo.core.wording import counted, shown
from mammo.imaging import laterality, prepare
from mammo.predicting import request
from mammo.predicting.answers import GIVEN_UP, STRANGE, Answer
from mammo.predicting.predict import Predictor
from mammo.reporting import validation_page
from mammo.reporting.validation_page import Results
from mammo.scoring import Bootstrap, Cases, Unit, as_json, refuse_unscorable, verdicts
from mammo.scoring.units import of_predictions
from mammo.scoring.validation import External, Rules, for_terminal
from mammo.sources import external
from mammo.sources.external import Images, Shared

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
    pictures: np.ndarray | None
    """uint8, (own set, height, width), these images as prepared, memory-mapped; None if they are not here."""

    def internal(self, unit: Unit) -> Cases:
        """Return the units of the internal test split.

        Raises:
            UserError: they cannot be scored.

        """
        units = of_predictions(self.test, unit)
        refuse_unscorable(units, unit)
        return units.cases()


class Predicted(NamedTuple):
    """A set that a frozen model has predicted."""

    rows: Sequence[Prediction]
    novel: np.ndarray | None
    """(n,) bool; None if unknown."""
    warnings: Sequence[str]
    """What differs from the model's own set, with the number of images; what could not be checked."""
    entries: Sequence[Entry]
    """The entries of the rows."""
    shared: Sequence[Shared] = ()
    """Images that are not new to the model, if it was said to go on."""

    def leak(self, named: bool) -> str:
        """Return which images are not new to the model, in a sentence that begins with LEAKING; empty if all are.

        With their names, which git must not keep, if `named`.
        """
        return f"LEAKING: {external.in_words(self.shared, named)}." if self.shared else ""

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
    pictures = dataset.load(prepared).images if known and (prepared / dataset.IMAGES).is_file() else None
    return Frozen(model, info, predictions.read(test), entries, pictures)


def predict(model: Frozen, images: Images, rule: str, skip_unreadable: bool, warn: bool) -> Predicted:
    """Predict the images of another set with a frozen model, and search them for copies of the model's own images.

    Args:
        model: the frozen model.
        images: of the other set.
        rule: of the threshold, one of `rules.ThresholdRule`.
        skip_unreadable: leave out unreadable images and say so, instead of raising an error.
        warn: return copies instead of raising an error.

    Raises:
        UserError: an image is unreadable, or all are; some are copies.

    """
    threshold = model.info.thresholds[rule]
    own = np.empty((0, *model.info.preprocess.size), np.uint8) if model.pictures is None else model.pictures
    stage.STATE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=stage.STATE) as folder:  # here, so that machines of a cluster can read it
        pictures = dataset.new_array(Path(folder) / dataset.IMAGES, len(own) + len(images.paths), own.shape[1:])
        pictures[: len(own)] = own
        others = pictures[len(own) :]
        answers = list(Predictor(model.folder, model.info, threshold).predict(images.paths, pictures=others))
        unreadable = [answer for answer in answers if answer.probability is None]
        refuse_unreadable(unreadable, len(answers), skip_unreadable)
        pictures.flush()
        read = [place for place, answer in enumerate(answers) if answer.probability is not None]
        kept = [images.entries[place] for place in read]
        found = [] if model.pictures is None else copies(model.own_set or [], images.entries, pictures)
        refuse(found, images.folder, warn)
        picture = prepare.unmirrored(images.paths.__getitem__, others, model.info.preprocess)
        kept, of_sides = laterality.completed(kept, lambda position: picture(read[position]))
    warned = [answers[place].warnings for place in read]
    warnings = _counted([[text for text in texts if text != STRANGE] for texts in warned])
    if unreadable:
        warnings.append(f"{counted(len(unreadable), 'unreadable image')} left out")
    unseen = external.unseen_levels(model.own_set or [], kept)
    notes = [*not_checked(model, images.entries), *images.remarks, *of_sides, *unseen, *warnings]
    rows = [_row(entry, answers[place], threshold) for entry, place in zip(kept, read, strict=True)]
    return Predicted(rows, np.array([STRANGE in texts for texts in warned]), notes, kept, found)


def _row(entry: Entry, answer: Answer, threshold: float) -> Prediction:
    probability = float(answer.probability or 0)
    called = int(probability >= threshold)
    row = Prediction(entry.image, entry.patient_key, entry.label, probability, called, answer.calibrated)
    return row._replace(breast=entry.laterality or None, exam=entry.exam or None)


def refuse_unreadable(unreadable: Sequence[Answer], number: int, skip: bool) -> None:
    """Raise an error if some of so many images cannot be read, unless they are skipped.

    Raises:
        UserError: they cannot; or reading one reached a bound, which says nothing about the file.

    """
    given_up = [answer for answer in unreadable if answer.reading == GIVEN_UP]
    if given_up or (unreadable and not skip) or len(unreadable) == number:
        named = "; ".join(f"{shown(answer.path)} {answer.reason}" for answer in unreadable[:EXAMPLES])
        raise UserError(
            f"{counted(len(unreadable), 'image')} of {number} cannot be read: {named}. Remove or replace them, "
            "or set preprocess.on_unreadable to skip"
        )


def refuse(found: Sequence[Shared], folder: Path, warn: bool) -> None:
    """Raise an error if images of another set are not new to the model, unless `warn`.

    Raises:
        UserError: they are not.

    """
    if found and not warn:
        raise UserError(
            f"{folder} is no external set: {external.in_words(found)}. Remove these images; if other women have the "
            "same numbers there, give them others in the column patient of labels.csv. audit.on_leak: warn goes on and "
            "says so"
        )


def not_checked(model: Frozen, entries: Sequence[Entry]) -> list[str]:
    """Return what could not be checked about another set."""
    notes = []
    if model.own_set is None:
        notes.append(
            "CANNOT BE CHECKED: the index of the model's own set is not here (`dvc pull data/prepared`), so whether "
            "its patients are in this set is unknown."
        )
    elif model.pictures is None:
        notes.append(
            "CANNOT BE CHECKED: the images of the model's own set are not here (`dvc pull data/prepared`), so whether "
            "copies of them that were saved again are in this set is unknown."
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
    return [f"{kinds.count(kind):,} of {counted(len(warned), 'image')}: {kind}" for kind in sorted(set(kinds))]


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
    refuse(external.shared_with(model.own_set or [], entries), path, warn=False)
    return Predicted(frozen_rows, None, [*not_checked(model, entries), *notes], entries)


def of_images(model: Frozen, images: Images, evaluate: Evaluate, preprocess: Preprocess, audit: Audit) -> Predicted:
    """Predict the images of another set with the settings of these sections of params.yaml.

    Raises:
        UserError: an image cannot be read, or is not new to the model.

    """
    warn = audit.on_leak == "warn"
    known = external.shared_with(model.own_set or [], images.entries)
    refuse(known, images.folder, warn)  # before anything is read
    predicted = predict(model, images, evaluate.threshold, preprocess.on_unreadable == "skip", warn)
    predicted = predicted._replace(shared=[*known, *predicted.shared])
    leak = predicted.leak(named=True)
    return predicted._replace(warnings=[*([leak] if leak else []), *predicted.warnings])


def score(model: Frozen, predicted: Predicted, name: str, evaluate: Evaluate) -> Results:
    """Score a frozen model on another set that it has predicted."""
    bootstrap = Bootstrap(evaluate.seed, evaluate.resamples)
    rules = Rules(evaluate.threshold, evaluate.prevalence, bootstrap, evaluate.unit)
    internal = model.internal(rules.unit)
    return validation_page.results(name, predicted.external, internal, model.info, rules, predicted.warnings)


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
        revisions.fetch(PREPARED / dataset.IMAGES, revision, folder)
    with contextlib.suppress(UserError):  # there is none without pseudonyms
        revisions.fetch(PREPARED / pseudonyms.NAME, revision, folder)
    return frozen(model, folder / PREPARED, test)
