"""`mammo ledger`: how many models were scored on the same test images, and how good luck makes the best of them look.

The best of several models by their test scores looks better than it is, the more so the more there are. By how much is
estimated from the models' own predictions: the expected maximum, over the models, of the deviation of a resampled
ROC AUC from its mean, with the same resamples of patients for all models, as if all were equally good. This is the
bootstrap of the maximum in White's reality check (2000, Econometrica 68:1097); Tibshirani & Tibshirani (2009, Ann.
Appl. Stat. 3:822) estimate the bias of a minimal error alike. Models that err alike leave less to luck.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from mammo import scoring
from mammo.core import history, parallel, predictions, revisions, tried
from mammo.core.errors import UserError
from mammo.core.history import Version
from mammo.core.predictions import Prediction
from mammo.core.revisions import Commit
from mammo.core.tried import Try
from mammo.core.wording import counted
from mammo.scoring import Bootstrap, Cases, Interval, resampled_auc, scores
from mammo.scoring.comparison import PREDICTIONS, SEED, WORKSPACE

import numpy as np

METHOD = (
    f"Luck: the mean, over {scoring.RESAMPLES:,} resamples of patients, the same for all models, of the largest "
    "deviation of a model's ROC AUC from its own mean (White 2000, Econometrica 68:1097; Tibshirani & Tibshirani 2009, "
    "Ann. Appl. Stat. 3:822)."
)
LIMITS = "Only what was committed, or run as an experiment, and not deleted since is counted."
CUT = "The clone is shallow, so there may be more: `git fetch --unshallow` brings the rest of the history."
SHA = 7  # digits of a commit in text


class Model(NamedTuple):
    """A model that was scored on a set of test images."""

    commit: Commit
    """The first commit that holds its predictions; `WORKSPACE`, without a date, if none does."""
    experiment: str
    """Name of the DVC experiment that the commit is; empty if it is none."""
    probabilities: np.ndarray
    """(n,) probabilities of cancer, by name of the image."""

    @property
    def name(self) -> str:
        """Commit and experiment in short."""
        sha = self.commit.sha if self.commit.sha == WORKSPACE else self.commit.sha[:SHA]
        return f"{sha} ({self.experiment})" if self.experiment else sha


class TestImages(NamedTuple):
    """A set of test images and the models that were scored on it."""

    rows: list[Prediction]
    """Predictions of the newest model, by name of the image."""
    models: dict[str, Model]
    """By digest of their probabilities, the oldest first; the workspace is last."""


class Ledger(NamedTuple):
    """What the repository knows of the models that were scored on a set of test images."""

    images: int
    patients: int
    models: list[Model]
    """The oldest first; the workspace is last."""
    aucs: list[float]
    """ROC AUC of each model."""
    intervals: dict[int, Interval]
    """Those of the best and of the current model with their intervals, by position."""
    best: int
    """Position of the model with the highest ROC AUC; of equal ones, the oldest."""
    current: int | None
    """Position of the model of the workspace, or else of HEAD; None if it was scored on other images."""
    luck: float | None
    """By how much the best of as many equally good models would exceed them; None with fewer than two patients of a
    kind."""
    others: list[TestImages]
    """Other sets of test images."""
    sharing: int
    """Number of other sets that have images in common with this one."""
    tries: list[Try]
    """Cross-validation's tries, on whatever images."""
    unreadable: int
    """Number of versions of the predictions that could not be read."""
    shallow: bool
    """Whether the clone is shallow, so that the true numbers may be higher."""


# --- Reading ---


def read(meant: Sequence[Prediction] | None = None) -> Ledger | None:
    """Read the history of the repository; return None if it has no predictions for the test images.

    Args:
        meant: predictions for the test images in question; default: those of the workspace, of HEAD, or the newest.

    Raises:
        UserError: there is no git repository, or git or cv/tried.csv cannot be read.

    """
    if not history.in_repository():
        raise UserError("this folder is in no git repository; the ledger reads the history of one")
    sets, unreadable = _sets()
    current = _current()
    newest = next((test.rows for test in reversed(sets.values())), [])
    rows = sorted(meant if meant is not None else current or newest)
    test = sets.pop(predictions.images_digest(rows), None)
    if test is None:
        return None
    images = {row.image for row in rows}
    models, digests = list(test.models.values()), list(test.models)
    cases = [_cases(rows, model) for model in models]
    resampled = list(parallel.each(lambda one: resampled_auc(one, Bootstrap(SEED)), cases, "ledger", "models"))
    aucs = [auc.value for auc in resampled]
    digest = predictions.probabilities_digest(current)
    best, now = aucs.index(max(aucs)), digests.index(digest) if digest in digests else None
    shown = sorted({best} if now is None else {best, now})
    return Ledger(
        images=len(rows),
        patients=len(cases[0].cancer),
        models=models,
        aucs=aucs,
        intervals={place: scores(cases[place], 0.5, Bootstrap(SEED))["roc_auc"] for place in shown},
        best=best,
        current=now,
        luck=luck([auc.resamples for auc in resampled], cases[0].support()),
        others=list(sets.values()),
        sharing=sum(not images.isdisjoint(row.image for row in other.rows) for other in sets.values()),
        tries=tried.read(tried.TRIED),
        unreadable=unreadable,
        shallow=history.is_shallow(),
    )


def _sets() -> tuple[dict[str, TestImages], int]:
    """Return the sets of test images by digest, and the number of versions that could not be read."""
    sets: dict[str, TestImages] = {}
    unreadable = 0
    for version in _versions():
        rows = _parsed(version.content)
        if not rows:
            unreadable += 1
            continue
        test = sets.setdefault(predictions.images_digest(rows), TestImages([], {}))
        test.rows[:] = rows
        model = Model(version.commit, version.experiment, np.array([row.probability for row in rows]))
        test.models.setdefault(predictions.probabilities_digest(rows), model)
    return sets, unreadable


def _versions() -> Iterator[Version]:
    yield from history.versions(PREDICTIONS)
    if PREDICTIONS.is_file():
        yield Version(Commit(WORKSPACE, ""), "", PREDICTIONS.read_bytes())


def _current() -> list[Prediction]:
    """Return the predictions of the workspace, or else of HEAD; empty if neither has any."""
    return _parsed(PREDICTIONS.read_bytes() if PREDICTIONS.is_file() else history.of_head(PREDICTIONS))


def _parsed(content: bytes | None) -> list[Prediction]:
    """Return the predictions by name of the image; empty if the table is missing or malformed."""
    try:
        return sorted(predictions.parse(content or b"", str(PREDICTIONS)))
    except UserError:
        return []


def _cases(rows: Sequence[Prediction], model: Model) -> Cases:
    """Return the model's probabilities with labels and patients; an error if the images are all of one class."""
    return Cases([row.label for row in rows], model.probabilities, [row.patient for row in rows])


def luck(resampled: Sequence[np.ndarray], support: int) -> float | None:
    """Return by how much the best of equally good models is expected to exceed them.

    Args:
        resampled: ROC AUCs of each model on the same resamples of patients.
        support: number of patients that the precision depends on; deviations are multiplied by sqrt(k / (k - 1)),
            since k resampled patients vary less than k new ones.

    Returns:
        0 for a single model; None if there are fewer than two patients.

    """
    if len(resampled) == 1:
        return 0.0
    if support < 2:
        return None
    aucs = np.stack(resampled)
    aucs = aucs[:, ~np.isnan(aucs).any(axis=0)]
    deviations = aucs - aucs.mean(axis=1, keepdims=True)
    return float(deviations.max(axis=0).mean()) * (support / (support - 1)) ** 0.5


# --- Reporting ---


def quote(meant: Sequence[Prediction] | None = None) -> dict[str, Any] | None:
    """Return what `mammo compare` and `mammo report` quote on a set of test images (see `read`), with a `sentence`.

    None if there is no git repository, or nothing was scored on these images in it.
    """
    try:
        ledger = read(meant) if history.in_repository() else None
        images = predictions.images_digest(meant or [])
        tries = [one for one in tried.read(tried.TRIED) if meant and one.images == images]
    except UserError as error:
        return {"models": None, "luck": None, "shallow": None, "tries": None, "sentence": f"not read: {error}"}
    said = [sentence(ledger)] if ledger else []
    if tries:
        said.append(f"Cross-validation has tried {len(tries)} models on these images ({tried.TRIED}).")
    if not said:
        return None
    return {
        "models": len(ledger.models) if ledger else 0,
        "luck": ledger.luck if ledger else None,
        "shallow": ledger.shallow if ledger else None,
        "tries": len(tries),
        "sentence": " ".join(said),
    }


def quote_revision(revision: str) -> dict[str, Any] | None:
    """Return what to quote on the test images of a revision; None if it has no predictions."""
    try:
        rows = _parsed(revisions.read(PREDICTIONS, revision))
    except UserError:
        return None
    return quote(rows) if rows else None


def sentence(ledger: Ledger) -> str:
    """Return in a sentence what the number of models means for the best of them."""
    number = len(ledger.models)
    cut = f" {CUT}" if ledger.shallow else ""
    if number == 1:
        return f"1 model has been scored on these {ledger.images} test images, so far as the history shows.{cut}"
    lead = ledger.aucs[ledger.best] - float(np.mean(ledger.aucs))
    start = f"{number} models have been scored on the same {ledger.images} test images"
    if ledger.luck is None:
        return f"{start}; with fewer than two patients of a kind it cannot be said how much of their best is luck.{cut}"
    return (
        f"{start}: the best ROC AUC is {lead:.3f} above their mean, and the best of {number} equally good models would "
        f"be {ledger.luck:.3f} above it by luck alone.{cut}"
    )


def as_text(ledger: Ledger) -> str:
    """Return the ledger as plain text."""
    shown = [("best", ledger.best), ("current", ledger.current)]
    rows = [["", "commit", "date", "ROC AUC", "95 % interval"]]
    for what, position in shown:
        if position is not None:
            model, auc = ledger.models[position], ledger.intervals[position]
            low, high = scoring.rounded(auc.low), scoring.rounded(auc.high)
            rows.append([what, model.name, model.commit.date, scoring.rounded(auc.value), f"{low} to {high}"])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    many = "s" if len(ledger.models) > 1 else ""
    head = f"{len(ledger.models)} distinct model{many} on {ledger.images} test images of {ledger.patients} patients"
    return "\n".join([head, "", *table, "", *_beside(ledger), METHOD, LIMITS, "", sentence(ledger)])


def _beside(ledger: Ledger) -> list[str]:
    """Return lines on other test images, on cross-validation and on what could not be read."""
    lines = []
    if number := len(ledger.others):
        models = sum(len(other.models) for other in ledger.others)
        lines.append(
            f"On other test images: {counted(models, 'model')} on {counted(number, 'set')}, "
            f"of which {ledger.sharing} {'shares' if ledger.sharing == 1 else 'share'} images with these."
        )
    for row in _tries(ledger):
        lines.append(
            f"Cross-validation ({tried.TRIED}): {row['tries']} tries on images {row['images']}, the best "
            f"{row['best']} with ROC AUC {scoring.rounded(row['roc_auc'])}."
        )
    if ledger.unreadable:
        lines.append(f"{counted(ledger.unreadable, 'version')} of {PREDICTIONS} could not be read; not counted.")
    return lines


def _tries(ledger: Ledger) -> list[dict[str, Any]]:
    """Return number and best of cross-validation's tries for each set of images."""
    found = []
    for images in sorted({one.images for one in ledger.tries}):
        tries = [one for one in ledger.tries if one.images == images]
        best = max(tries, key=lambda one: one.roc_auc)
        found.append({"images": images, "tries": len(tries), "best": best.variant, "roc_auc": best.roc_auc})
    return found


def as_json(ledger: Ledger) -> dict[str, Any]:
    """Return the ledger as a JSON object."""
    models: list[dict[str, Any]] = [
        {"commit": model.commit.sha, "date": model.commit.date, "experiment": model.experiment, "roc_auc": auc}
        for model, auc in zip(ledger.models, ledger.aucs, strict=True)
    ]
    shown = {place: {**models[place], "roc_auc": scoring.as_json(auc)} for place, auc in ledger.intervals.items()}
    return {
        "images": ledger.images,
        "patients": ledger.patients,
        "number": len(models),
        "best": shown[ledger.best],
        "current": None if ledger.current is None else shown[ledger.current],
        "luck": ledger.luck,
        "method": METHOD,
        "other_test_images": {
            "models": sum(len(other.models) for other in ledger.others),
            "sets": len(ledger.others),
            "sharing": ledger.sharing,
        },
        "cross_validation": _tries(ledger),
        "unreadable": ledger.unreadable,
        "shallow": ledger.shallow,
        "sentence": sentence(ledger),
        "models": models,
    }
