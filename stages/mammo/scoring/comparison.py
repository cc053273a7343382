"""`mammo compare`: paired comparison of two models on the same test images."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mammo import scoring
from mammo.core import predictions, revisions
from mammo.core.errors import UserError
from mammo.core.predictions import Prediction
from mammo.scoring import Bootstrap, Cases, Change, Interval, delong_test, mcnemar, paired_bootstrap

import numpy as np

PREDICTIONS = Path("plots/predictions.csv")
WORKSPACE = "workspace"
SEED = 1  # of the bootstrap: results of a comparison are reproducible
SIGNIFICANT = 0.05
JUDGED = "roc_auc"  # the score of the conclusion and of --fail-if-worse: one test, so no multiple testing
EXAMPLES = 3


class Side(NamedTuple):
    """One of the two models compared."""

    name: str
    predictions: dict[str, Prediction]  # by image


class Paired(NamedTuple):
    """The predictions of both sides for the shared images, sorted by name."""

    names: tuple[str, str]
    cases: tuple[Cases, Cases]
    predicted: tuple[np.ndarray, np.ndarray]
    """(n,) predicted classes, 0 or 1."""
    left_out: int


class Comparison(NamedTuple):
    """Results of the comparison of two models."""

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
    """Read the test predictions of a revision, of the workspace (`"workspace"`), or of a .csv file.

    Raises:
        UserError: unknown revision or file, malformed table, or results of the workspace that are out of date.

    """
    if source.endswith(".csv"):
        return _side(source, predictions.read(Path(source)))
    if not source:
        raise UserError("the name of a revision is empty")  # DVC would read the workspace without checking it
    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project, or name two CSV files")
    if source == WORKSPACE:
        revisions.refuse_if_out_of_date()
        if not PREDICTIONS.is_file():
            raise UserError(f"{PREDICTIONS} does not exist: run `dvc repro`")
        return _side(source, predictions.parse(PREDICTIONS.read_bytes(), f"{PREDICTIONS} of the workspace"))
    content = revisions.read(PREDICTIONS, source)
    return _side(source, predictions.parse(content, f"{PREDICTIONS} in {source}"))


def _side(name: str, rows: Iterable[Prediction]) -> Side:
    return Side(name, {row.image: row for row in rows})


# --- Pairing ---


def pair(a: Side, b: Side, common: bool = False) -> Paired:
    """Pair the images of both sides by name.

    Args:
        a: the first side.
        b: the second side.
        common: leave out images that only one side has, instead of raising an error.

    Raises:
        UserError: the test sets differ, or an image has different labels or patients.

    """
    shared = sorted(a.predictions.keys() & b.predictions.keys())
    alone = {side.name: sorted(side.predictions.keys() - set(shared)) for side in (a, b)}
    if not shared:
        raise UserError(f"{a.name} and {b.name} have no test image in common: there is nothing to compare")
    if any(alone.values()) and not common:
        only = " and ".join(f"{len(names)} only in {side}{_such_as(names)}" for side, names in alone.items() if names)
        raise UserError(
            f"the test sets differ: {len(shared)} images are in both, {only}. "
            "Scores on different images cannot be compared; --common compares the shared ones"
        )
    rows = [(a.predictions[image], b.predictions[image]) for image in shared]
    for what in ("label", "patient"):
        other = [image for image, (x, y) in zip(shared, rows, strict=True) if getattr(x, what) != getattr(y, what)]
        if other:
            raise UserError(
                f"{len(other)} images have another {what} in {a.name} than in {b.name}{_such_as(other)}: "
                "these are not the same test set"
            )
    sides: tuple[list[Prediction], list[Prediction]] = ([x for x, _ in rows], [y for _, y in rows])
    return Paired(
        (a.name, b.name),
        (_cases(sides[0]), _cases(sides[1])),
        (_predicted(sides[0]), _predicted(sides[1])),
        sum(len(names) for names in alone.values()),
    )


def _cases(rows: Sequence[Prediction]) -> Cases:
    labels, probabilities, patients = zip(*((row.label, row.probability, row.patient) for row in rows), strict=True)
    return Cases(labels, probabilities, patients, split="compared test")


def _predicted(rows: Sequence[Prediction]) -> np.ndarray:
    return np.array([row.predicted for row in rows])


def _such_as(names: Sequence[str]) -> str:
    more = ", …" if len(names) > EXAMPLES else ""
    return f" ({', '.join(names[:EXAMPLES])}{more})" if names else ""


# --- Comparing ---


def compare(paired: Paired) -> Comparison:
    """Compute the change of every score with patient-clustered interval and p, and the DeLong and McNemar tests.

    Raises:
        UserError: the images are all of one class.

    """
    a, b = paired.cases
    ill = a.as_given(a.labels)
    right = [(predicted == 1) == ill for predicted in paired.predicted]
    return Comparison(
        *paired.names,
        images=len(ill),
        patients=len(a.cancer),
        left_out=paired.left_out,
        changes=paired_bootstrap(a, b, *paired.predicted, Bootstrap(SEED)),
        delong=delong_test(a, b),
        mcnemar={
            "accuracy": mcnemar(*right),
            "sensitivity": mcnemar(*(side[ill] for side in right)),
            "specificity": mcnemar(*(side[~ill] for side in right)),
        },
    )


def worse(comparison: Comparison) -> bool:
    """Return whether the ROC AUC of b is significantly below that of a."""
    judged = comparison.changes[JUDGED]
    return judged.change.value < 0 and judged.p < SIGNIFICANT


# --- Reporting ---


def sentence(comparison: Comparison) -> str:
    """Return a sentence that interprets the change in ROC AUC."""
    a, b, judged = comparison.a, comparison.b, comparison.changes[JUDGED]
    change, title = judged.change.value, scoring.TITLES[JUDGED]
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
            scoring.TITLES[name],
            scoring.rounded(change.a.value),
            scoring.rounded(change.b.value),
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
    f"Interval and p: patient-clustered bootstrap, {scoring.RESAMPLES:,} resamples. DeLong and McNemar treat "
    "images as independent and find differences too often if patients have several images."
)


def as_text(comparison: Comparison) -> str:
    """Return the comparison as plain text."""
    table = _table(comparison)
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return "\n".join([*_about(comparison), "", *lines, "", NOTE, "", sentence(comparison)])


def as_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown, e.g. for a pull request."""
    header, *rows = _table(comparison)
    lines = [f"| {' | '.join(row)} |" for row in [header, ["---", *["---:"] * 5, "---"], *rows]]
    about = [f"- {line}" for line in _about(comparison)]
    return "\n".join([f"**{sentence(comparison)}**", "", *about, "", *lines, "", NOTE])


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as a JSON object."""
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
    return scoring.as_json(content)
