"""`mammo compare`: is one model better than another on the same test images, or was the difference chance?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mammo.core import files
from mammo.core.errors import UserError
from mammo.scoring import statistics
from mammo.scoring.statistics import Change, Interval

PREDICTIONS = Path("plots/predictions.csv")
COLUMNS = ("image", "patient", "label", "probability", "predicted")
WORKSPACE = "workspace"
STAGE = "evaluate"
SEED = 1  # of the resamples: the same comparison gives the same numbers everywhere
SIGNIFICANT = 0.05
JUDGED = (
    "roc_auc"  # the one score of the closing sentence and of --fail-if-worse: one test, one chance of a false alarm
)
EXAMPLES = 3


class Prediction(NamedTuple):
    """What a model said of one image: a row of predictions.csv."""

    patient: str
    label: int
    probability: float
    predicted: int


class Side(NamedTuple):
    """One of the two models compared."""

    name: str
    predictions: dict[str, Prediction]  # by image


class Paired(NamedTuple):
    """The shared images, by name; the arrays are (n,)."""

    a: str
    b: str
    labels: np.ndarray
    patients: np.ndarray
    probabilities: tuple[np.ndarray, np.ndarray]
    predicted: tuple[np.ndarray, np.ndarray]
    left_out: int


class Comparison(NamedTuple):
    """What is reported of two models."""

    a: str
    b: str
    images: int
    patients: int
    left_out: int
    changes: dict[str, Change]
    delong: Change
    mcnemar: dict[str, float]


# --- Reading ---


def read(source: str) -> Side:
    """The test predictions of a revision, of the workspace (`"workspace"`), or in a file (a name ending in .csv).

    Raises:
        UserError: unknown revision, no such file in it, a malformed table, or a workspace that is out of date.

    """
    if source.endswith(".csv"):
        path = Path(source)
        if not path.is_file():
            raise UserError(f"{source} does not exist")
        return Side(source, _parse(path.read_bytes(), source))
    if not source:
        raise UserError("a revision has no name")  # DVC would take it for the workspace, unchecked
    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project, or name two CSV files")
    if source == WORKSPACE:
        refuse_if_out_of_date()
        if not PREDICTIONS.is_file():
            raise UserError(f"{PREDICTIONS} does not exist: run `dvc repro`")
        return Side(source, _parse(PREDICTIONS.read_bytes(), f"{PREDICTIONS} of the workspace"))
    return Side(source, _parse(_bytes_in(source), f"{PREDICTIONS} in {source}"))


def _bytes_in(revision: str) -> bytes:
    import dvc.api
    from dvc.exceptions import DvcException, PathMissingError
    from dvc.scm import RevError
    from scmrepo.exceptions import SCMError

    try:
        with dvc.api.open(PREDICTIONS.as_posix(), repo=".", rev=revision, mode="rb") as file:
            return file.read()
    except RevError:
        raise UserError(f"{revision} is no revision of this repository: name a branch, tag or commit") from None
    except (PathMissingError, FileNotFoundError):
        raise UserError(f"{revision} holds no {PREDICTIONS}: its run was not committed") from None
    except (DvcException, SCMError, OSError) as error:
        raise UserError(f"{PREDICTIONS} in {revision} could not be read: {error}") from error


def refuse_if_out_of_date(absent_is_fine: bool = False) -> None:
    """Stop where the workspace's results are not what its code, data and settings give.

    Args:
        absent_is_fine: data that are not here, as in a fresh clone, are no change.

    Raises:
        UserError: something has changed, or DVC cannot tell.

    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            changed = repo.status(targets=[STAGE], with_deps=True)
    except DvcException as error:
        raise UserError(f"DVC cannot tell whether the workspace is up to date: {error}") from error
    reasons = {stage: _reasons(why, absent_is_fine) for stage, why in changed.items()}
    what = "; ".join(f"{stage} ({', '.join(names)})" for stage, names in reasons.items() if names)
    if what:
        raise UserError(f"the workspace's results are out of date, run `dvc repro` first. Changed: {what}")


def _reasons(entries: Sequence[Any], absent_is_fine: bool) -> list[str]:
    """What `dvc status` found, e.g. `params.yaml` or `changed command`."""
    reasons = []
    for entry in entries:
        if isinstance(entry, str):
            reasons.append(entry)
        else:
            found = [(name, change) for changes in entry.values() for name, change in changes.items()]
            reasons += [name for name, change in found if not (absent_is_fine and change == "deleted")]
    return sorted(set(reasons))


def _parse(content: bytes, name: str) -> dict[str, Prediction]:
    predictions: dict[str, Prediction] = {}
    for line, row in files.parse_csv(content, name, COLUMNS):
        image, where = row["image"], f"{name}, line {line}"
        if not image:
            raise UserError(f"{where}: the image has no name")
        if image in predictions:
            raise UserError(f"{where}: {image} stands here a second time")
        for column in ("label", "predicted"):
            if row[column] not in ("0", "1"):
                raise UserError(f"{where}: {column} is {row[column]!r}; allowed are 0 and 1")
        try:
            probability = float(row["probability"] or "")
        except ValueError:
            probability = -1
        if not 0 <= probability <= 1:
            raise UserError(f"{where}: probability is {row['probability']!r}; allowed is a number from 0 to 1")
        # An image without a patient is its own, as everywhere.
        predictions[image] = Prediction(row["patient"] or image, int(row["label"]), probability, int(row["predicted"]))
    if not predictions:
        raise UserError(f"{name} holds no predictions")
    return predictions


# --- Pairing ---


def pair(a: Side, b: Side, common: bool = False) -> Paired:
    """The images of both sides, paired by name.

    Args:
        a: the one side.
        b: the other.
        common: leave out images that only one side has, rather than refuse.

    Raises:
        UserError: the test sets differ, or the same image has another label or patient.

    """
    shared = sorted(a.predictions.keys() & b.predictions.keys())
    alone = {side.name: sorted(side.predictions.keys() - set(shared)) for side in (a, b)}
    if not shared:
        raise UserError(f"{a.name} and {b.name} have no test image in common: there is nothing to compare")
    if any(alone.values()) and not common:
        only = " and ".join(f"{len(names)} only in {side}{_such_as(names)}" for side, names in alone.items() if names)
        raise UserError(
            f"the test sets differ: {len(shared)} images are in both, {only}. "
            "Scores of different images do not tell models apart; --common compares the shared ones"
        )
    rows = [(a.predictions[image], b.predictions[image]) for image in shared]
    for what in ("label", "patient"):
        other = [image for image, (x, y) in zip(shared, rows, strict=True) if getattr(x, what) != getattr(y, what)]
        if other:
            raise UserError(
                f"{len(other)} images have another {what} in {a.name} than in {b.name}{_such_as(other)}: "
                "these are not the same test set"
            )
    return Paired(
        a.name,
        b.name,
        np.array([x.label for x, _ in rows]),
        np.array([x.patient for x, _ in rows]),
        (np.array([x.probability for x, _ in rows]), np.array([y.probability for _, y in rows])),
        (np.array([x.predicted for x, _ in rows]), np.array([y.predicted for _, y in rows])),
        sum(len(names) for names in alone.values()),
    )


def _such_as(names: Sequence[str]) -> str:
    more = ", …" if len(names) > EXAMPLES else ""
    return f" ({', '.join(names[:EXAMPLES])}{more})" if names else ""


# --- Comparing ---


def compare(paired: Paired) -> Comparison:
    """Every score's change from a to b with its patient-clustered interval and p; DeLong and McNemar beside.

    Raises:
        UserError: the images show one class only.

    """
    labels, calls = paired.labels, [predicted == 1 for predicted in paired.predicted]
    changes = statistics.paired_bootstrap(
        labels, paired.patients, *paired.probabilities, *paired.predicted, seed=SEED, split="compared test"
    )
    right = [called == (labels == 1) for called in calls]
    ill, healthy = labels == 1, labels == 0
    return Comparison(
        paired.a,
        paired.b,
        len(labels),
        len(np.unique(paired.patients)),
        paired.left_out,
        changes,
        statistics.delong_test(labels, *paired.probabilities),
        {
            "accuracy": statistics.mcnemar(*right),
            "sensitivity": statistics.mcnemar(*(side[ill] for side in right)),
            "specificity": statistics.mcnemar(*(side[healthy] for side in right)),
        },
    )


def worse(comparison: Comparison) -> bool:
    """Whether b's ROC AUC is significantly below a's."""
    judged = comparison.changes[JUDGED]
    return judged.change.value < 0 and judged.p < SIGNIFICANT


# --- Telling ---


def sentence(comparison: Comparison) -> str:
    """What the change in ROC AUC means, in words that claim no more than it does."""
    a, b, judged = comparison.a, comparison.b, comparison.changes[JUDGED]
    change, title = judged.change.value, statistics.TITLES[JUDGED]
    if judged.change == Interval(0.0, 0.0, 0.0):
        return f"The {title}s of {a} and {b} are the same: they order the images alike."
    size = f"{abs(change):.3f}" if abs(change) >= 0.0005 else "less than 0.001"
    start = f"The {title} of {b} is {size} {'higher' if change > 0 else 'lower'} than that of {a}"
    if change == 0:
        start = f"The {title}s of {a} and {b} are equal on these images"
    if (judged.change.low, judged.change.high) == (-1.0, 1.0):
        return f"{start}, but with fewer than two patients of a kind nothing can be said about other patients."
    if change == 0:
        low, high = judged.change.low, judged.change.high
        return f"{start}; on other patients the difference may lie between {low:+.3f} and {high:+.3f}."
    share = f"{100 * judged.p:.0f} %" if judged.p >= 0.0995 else f"{100 * judged.p:.1f} %"
    if judged.p < SIGNIFICANT:
        share = f"only {share}" if judged.p >= 0.001 else "less than 0.1 %"
    joint = "; a" if judged.p < SIGNIFICANT else ", but a"
    return f"{start}{joint} difference this large appears in {share} of comparisons of equally good models."


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else "<0.001"


def _table(comparison: Comparison) -> list[list[str]]:
    header = ["score", "A", "B", "change", "95 % interval", "p", "image-level test"]
    beside = {name: f"McNemar p {_p(p)}" for name, p in comparison.mcnemar.items()}
    beside[JUDGED] = f"DeLong p {_p(comparison.delong.p)}"
    rows = [
        [
            statistics.TITLES[name],
            f"{change.a.value:.3f}",
            f"{change.b.value:.3f}",
            f"{change.change.value:+.3f}",
            f"{change.change.low:+.3f} to {change.change.high:+.3f}",
            _p(change.p),
            beside.get(name, ""),
        ]
        for name, change in comparison.changes.items()
    ]
    return [header, *rows]


def _about(comparison: Comparison) -> list[str]:
    left = f"; {comparison.left_out} that only one side has are left out" if comparison.left_out else ""
    return [
        f"A: {comparison.a}",
        f"B: {comparison.b}",
        f"{comparison.images} test images of {comparison.patients} patients{left}",
    ]


NOTE = (
    f"Interval and p: patient-clustered bootstrap, {statistics.RESAMPLES:,} resamples. DeLong and McNemar take every "
    "image for independent, which finds differences too often where patients have several."
)


def as_text(comparison: Comparison) -> str:
    """The comparison for a terminal."""
    table = _table(comparison)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*_about(comparison), "", *lines, "", NOTE, "", sentence(comparison)])


def as_markdown(comparison: Comparison) -> str:
    """The comparison for a pull request."""
    header, *rows = _table(comparison)
    lines = [f"| {' | '.join(row)} |" for row in [header, ["---", *["---:"] * 5, "---"], *rows]]
    about = [f"- {line}" for line in _about(comparison)]
    return "\n".join([f"**{sentence(comparison)}**", "", *about, "", *lines, "", NOTE])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The comparison for a program."""
    scores: dict[str, Any] = {
        name: {"a": change.a, "b": change.b, "change": change.change, "p": change.p}
        for name, change in comparison.changes.items()
    }
    scores[JUDGED]["delong"] = {"change": comparison.delong.change, "p": comparison.delong.p}
    for name, p in comparison.mcnemar.items():
        scores[name]["mcnemar"] = {"p": p}
    content = {
        "a": comparison.a,
        "b": comparison.b,
        "images": comparison.images,
        "patients": comparison.patients,
        "left_out": comparison.left_out,
        "scores": scores,
        "significantly_worse": worse(comparison),
        "sentence": sentence(comparison),
    }
    return statistics.as_json(content)


def draw(paired: Paired, comparison: Comparison, path: Path) -> None:
    """Write a PNG of both ROC curves with their pointwise 95 % bands; the same bytes for the same predictions."""
    from matplotlib import pyplot

    from mammo.reporting import figures

    with pyplot.rc_context(figures.STYLE):
        figure, axes = pyplot.subplots(figsize=(4.2, 4.4), layout="constrained")
        axes.set(title="ROC curves, the same test images", xlabel="1 − specificity", ylabel="Sensitivity")
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal")
        looks = (("0.35", "--", "////"), (figures.INK, "-", ""))
        aucs = (comparison.changes[JUDGED].a, comparison.changes[JUDGED].b)
        for letter, name, auc, probabilities, (colour, dashes, hatch) in zip(
            "AB", (paired.a, paired.b), aucs, paired.probabilities, looks, strict=True
        ):
            curve = statistics.roc_curve(paired.labels, probabilities, paired.patients, seed=SEED)
            fpr, tpr, _, low, high = np.array(curve.rows).T
            axes.fill_between(
                fpr, low, high, facecolor="none" if hatch else colour, edgecolor=colour, hatch=hatch, alpha=0.25, lw=0.6
            )
            said = f"{letter}: {name}\nAUC {auc.value:.3f} ({auc.low:.3f} to {auc.high:.3f})"
            axes.plot(fpr, tpr, color=colour, linestyle=dashes, linewidth=1.5, label=said)
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle=":", label="chance")
        axes.legend(loc="lower right", fontsize=7)
        figures.save(figure, path, "")
