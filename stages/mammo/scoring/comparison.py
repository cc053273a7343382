"""`mammo compare`: paired comparison of two models on the same test images."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mammo import scoring
from mammo.core import predictions, pseudonyms, revisions
from mammo.core.errors import UserError
from mammo.core.model_info import Verdict
from mammo.core.predictions import Prediction
from mammo.core.revisions import Commit
from mammo.core.wording import counted, markdown
from mammo.scoring import (
    Bootstrap,
    Cases,
    Change,
    Interval,
    Unit,
    delong_test,
    mcnemar,
    paired_bootstrap,
    single_trainings,
    verdicts,
)
from mammo.scoring.rounding import p_value as _p
from mammo.scoring.units import of_predictions

import numpy as np

PREDICTIONS = Path("plots/predictions.csv")
WORKSPACE = "workspace"
TABLE = re.compile(r"(.+\.csv)(?::(.+))?")  # a file, and the column of its probabilities
SEED = 1  # of the bootstrap: results of a comparison are reproducible
SIGNIFICANT = 0.05
JUDGED = "roc_auc"  # the score of the conclusion and of --fail-if-worse: one test, so no multiple testing
EXAMPLES = 3
MANY = 6  # columns; more are not all named


class Side(NamedTuple):
    """One of the two models compared."""

    name: str
    predictions: dict[str, Prediction]  # by image
    verdict: Verdict | None = None
    """The audit's; None for a table, which comes without one."""
    ignored: Sequence[str] = ()
    """Columns of a table that are not used."""
    patients: bool = True
    """Whether the table names patients."""
    seeds: int | None = 1
    """Number of trainings with different seeds whose mean the probabilities are; None if a table does not say."""
    commit: Commit | None = None  # of a revision


class Paired(NamedTuple):
    """The predictions of both sides for the shared images, sorted by name."""

    names: tuple[str, str]
    cases: tuple[Cases, Cases]
    predicted: tuple[np.ndarray, np.ndarray] | None
    """(n,) predicted classes, 0 or 1; None if a side does not have them."""
    left_out: int
    verdicts: tuple[Verdict | None, Verdict | None] = (None, None)
    notes: Sequence[str] = ()
    """What could not be computed or used."""
    commits: tuple[Commit | None, Commit | None] = (None, None)
    unit: Unit = "image"


class Comparison(NamedTuple):
    """Results of the comparison of two models."""

    a: str
    b: str
    images: int
    """Number of cases: images, or what `unit` says."""
    patients: int
    left_out: int
    changes: dict[str, Change]
    delong: Change
    mcnemar: dict[str, float]
    verdicts: tuple[Verdict | None, Verdict | None] = (None, None)
    notes: Sequence[str] = ()
    commits: tuple[Commit | None, Commit | None] = (None, None)
    """Of sides that are revisions."""
    unit: Unit = "image"
    """What is one case of the comparison."""


# --- Reading ---


def read(source: str) -> Side:
    """Read the test predictions of a revision, of the workspace (`"workspace"`), or of a .csv file.

    `FILE.csv:COLUMN` takes the probabilities from that column of the file.

    Raises:
        UserError: unknown revision or file, malformed table, or results of the workspace that are out of date.

    """
    if table := TABLE.fullmatch(source):
        return _table_of_anyone(source, Path(table[1]), table[2] or "probability")
    if not source:
        raise UserError("the name of a revision is empty")  # DVC would read the workspace without checking it
    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run from the top folder of the project, or name two CSV files")
    if source == WORKSPACE:
        revisions.refuse_if_out_of_date()
        if not PREDICTIONS.is_file():
            raise UserError(f"{PREDICTIONS} does not exist: run `dvc repro`")
        rows = predictions.parse(PREDICTIONS.read_bytes(), f"{PREDICTIONS} of the workspace")
        return Side(source, _by_image(rows), verdicts.recorded(_of_workspace, source))
    rows = predictions.parse(revisions.read(PREDICTIONS, source), f"{PREDICTIONS} in {source}")
    verdict = verdicts.recorded(lambda path: revisions.read(path, source), source)
    return Side(source, _by_image(rows), verdict, commit=revisions.commit_of(source))


def _of_workspace(path: Path) -> bytes:
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    return path.read_bytes()


def _table_of_anyone(source: str, path: Path, probability: str) -> Side:
    if not path.is_file():
        raise UserError(f"{path} does not exist")
    rows, table = predictions.parse_any(path.read_bytes(), str(path), probability)
    seeds = {row.seeds for row in rows}
    known = seeds.pop() if len(seeds) == 1 else None
    return Side(source, _by_image(rows), None, table.ignored, "patient" in table.columns, known)


def _by_image(rows: Iterable[Prediction]) -> dict[str, Prediction]:
    return {row.image: row for row in rows}


# --- Pairing ---


def pair(a: Side, b: Side, common: bool = False, unit: Unit = "image") -> Paired:
    """Pair the images of both sides by name, and combine them into units.

    Args:
        a: the first side.
        b: the second side.
        common: leave out images that only one side has, instead of raising an error.
        unit: what is one case; other units than images have scores of the ranking alone.

    Raises:
        UserError: the test sets differ, an image has different labels, patients or breasts, or no unit of both classes
            is left.

    """
    shared = sorted(a.predictions.keys() & b.predictions.keys())
    alone = {side.name: sorted(side.predictions.keys() - set(shared)) for side in (a, b)}
    private = {side.name: pseudonyms.are_used(side.predictions) for side in (a, b)}
    if not shared and len(set(private.values())) == 2:
        named, others = sorted(private, key=lambda name: not private[name])
        raise UserError(
            f"data.pseudonyms differs: {named} names its images by pseudonyms, {others} by their files, so they cannot "
            "be paired; run both with the same setting"
        )
    if not shared:
        raise UserError(f"{a.name} and {b.name} have no test image in common: there is nothing to compare")
    if any(alone.values()) and not common:
        only = " and ".join(f"{len(names)} only in {side}{_such_as(names)}" for side, names in alone.items() if names)
        raise UserError(
            f"the test sets differ: {counted(len(shared), 'image is', 'images are')} in both, {only}. "
            "Scores on different images cannot be compared; --common compares the shared ones"
        )
    rows = [_of_one_patient(a, b, image) for image in shared]
    for what in ("label", "patient", *(("breast", "exam") if unit != "image" else ())):
        other = [image for image, (x, y) in zip(shared, rows, strict=True) if getattr(x, what) != getattr(y, what)]
        if other:
            raise UserError(
                f"{counted(len(other), 'image has', 'images have')} another {what} in {a.name} than in {b.name}"
                f"{_such_as(other)}: these are not the same test set"
            )
    sides: tuple[list[Prediction], list[Prediction]] = ([x for x, _ in rows], [y for _, y in rows])
    called = tuple(np.array([row.predicted for row in side]) for side in sides)
    decided = unit == "image" and all(row.predicted is not None for side in sides for row in side)
    return Paired(
        (a.name, b.name),
        (_cases(sides[0], unit), _cases(sides[1], unit)),
        (called[0], called[1]) if decided else None,
        sum(len(names) for names in alone.values()),
        (a.verdict, b.verdict),
        [*_notes(a, b, sides), *_notes_of_unit(sides[0], unit)],
        (a.commit, b.commit),
        unit,
    )


def _of_one_patient(a: Side, b: Side, image: str) -> tuple[Prediction, Prediction]:
    """Return both predictions of an image; a side that does not name patient, breast or exam takes the other's."""
    x, y = a.predictions[image], b.predictions[image]
    x, y = x if a.patients else x._replace(patient=y.patient), y if b.patients else y._replace(patient=x.patient)
    return (
        x._replace(breast=x.breast or y.breast, exam=x.exam or y.exam),
        y._replace(breast=y.breast or x.breast, exam=y.exam or x.exam),
    )


def _notes(a: Side, b: Side, rows: tuple[Sequence[Prediction], Sequence[Prediction]]) -> Iterator[str]:
    """Yield what the tables lack, and what that means."""
    for side, own in zip((a, b), rows, strict=True):
        if side.ignored:
            others = f", … ({len(side.ignored)} in all)" if len(side.ignored) > MANY else ""
            named = side.ignored[: EXAMPLES if others else MANY]
            yield f"{side.name}: columns that are not used: {', '.join(map(repr, named))}{others}"
        if any(row.predicted is None for row in own):
            yield f"{side.name} has no column predicted: only scores of the ranking are computed, and no McNemar test"
    unknown = sum(row.patient == row.image for row in rows[0])
    if unknown:
        who = "no image has" if unknown == len(rows[0]) else f"{unknown} of {len(rows[0])} images have no"
        yield (
            f"{who} a patient: interval and p treat {'them' if unknown < len(rows[0]) else 'images'} as independent, "
            "and are too narrow if some are of one woman"
        )
    if a.verdict is None and b.verdict is None:
        yield "no audit is known: whether these patients were also in training cannot be checked"
    yield from single_trainings.remark((a.seeds, b.seeds))


def _notes_of_unit(rows: Sequence[Prediction], unit: Unit) -> Iterator[str]:
    """Yield what is left out of units other than images, and what they cannot tell."""
    if unit == "image":
        return
    yield f"one case is one {unit}: only scores of the ranking are computed, since thresholds are those of images"
    units = of_predictions(rows, unit)
    if left_out := units.without_side + units.both_sides:
        yield f"{left_out} of {counted(len(rows), 'image')} belong to no {unit}: their breast is unknown or both"


def _cases(rows: Sequence[Prediction], unit: Unit) -> Cases:
    units = of_predictions(rows, unit)
    if unit != "image" and not units.of_both_classes:
        raise UserError(
            f"no {unit}s of both classes are known here: --unit {unit} needs a column breast with L or R (or other "
            "names of breasts, B for both in one image), and images of both classes"
        )
    return units.cases("compared test")


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
    called_a, called_b = paired.predicted or (None, None)
    right = [(predicted == 1) == ill for predicted in paired.predicted or ()]
    return Comparison(
        *paired.names,
        images=len(ill),
        patients=len(a.cancer),
        left_out=paired.left_out,
        changes=paired_bootstrap(a, b, called_a, called_b, Bootstrap(SEED)),
        delong=delong_test(a, b),
        mcnemar={
            "accuracy": mcnemar(*right),
            "sensitivity": mcnemar(*(side[ill] for side in right)),
            "specificity": mcnemar(*(side[~ill] for side in right)),
        }
        if right
        else {},
        verdicts=paired.verdicts,
        notes=paired.notes,
        commits=paired.commits,
        unit=paired.unit,
    )


def worse(comparison: Comparison) -> bool:
    """Return whether b is significantly worse than a, or leaks or cannot be checked while a does not."""
    return significantly_worse(comparison) or verdicts.worse(*comparison.verdicts)


def warnings(comparison: Comparison) -> list[str]:
    """Return what is to be said before any score: each side that leaks or cannot be checked."""
    return verdicts.warnings(
        {f"A: {comparison.a}": comparison.verdicts[0], f"B: {comparison.b}": comparison.verdicts[1]}
    )


def significantly_worse(comparison: Comparison) -> bool:
    """Return whether the ROC AUC of b is significantly below that of a."""
    judged = comparison.changes[JUDGED]
    return judged.change.value < 0 and judged.p < SIGNIFICANT


# --- Reporting ---


def sentence(comparison: Comparison) -> str:
    """Return a sentence that interprets the change in ROC AUC."""
    a, b, judged = comparison.a, comparison.b, comparison.changes[JUDGED]
    change, title = judged.change.value, scoring.TITLES[JUDGED]
    if judged.change == Interval(0.0, 0.0, 0.0):
        return f"The {title}s of {a} and {b} are the same: they order the {comparison.unit}s alike."
    size = f"{abs(change):.3f}" if abs(change) >= 0.0005 else "less than 0.001"
    start = f"The {title} of {b} is {size} {'higher' if change > 0 else 'lower'} than that of {a}"
    if change == 0:
        start = f"The {title}s of {a} and {b} are equal on these {comparison.unit}s"
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


def titles(comparison: Comparison, before_commit: str = "") -> tuple[str, str]:
    """Return the names of both sides; of a revision with commit and date, after `before_commit` or in brackets."""
    titles = [comparison.a, comparison.b]
    for side, commit in enumerate(comparison.commits):
        if commit:
            titles[side] += f"{before_commit}{commit.in_words}" if before_commit else f" ({commit.in_words})"
    return titles[0], titles[1]


def _about(comparison: Comparison) -> list[str]:
    left = f"; left out: {counted(comparison.left_out, 'image')} that only one side has" if comparison.left_out else ""
    return [
        *(f"{letter}: {title}" for letter, title in zip("AB", titles(comparison), strict=True)),
        f"{counted(comparison.images, f'test {comparison.unit}')} of {counted(comparison.patients, 'patient')}{left}",
        *comparison.notes,
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
    first = [line for warning in warnings(comparison) for line in (warning, "")]
    return "\n".join([*first, *_about(comparison), "", *lines, "", NOTE, "", sentence(comparison)])


def as_markdown(comparison: Comparison) -> str:
    """Return the comparison as Markdown, e.g. for a pull request."""
    header, *rows = _table(comparison)
    lines = [f"| {' | '.join(row)} |" for row in [header, ["---", *["---:"] * 5, "---"], *rows]]
    about = [f"- {markdown(line)}" for line in _about(comparison)]
    first = [line for warning in warnings(comparison) for line in (f"> **{markdown(warning)}**", "")]
    return "\n".join([*first, f"**{markdown(sentence(comparison))}**", "", *about, "", *lines, "", NOTE])


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
        "warnings": warnings(comparison),
        "verdicts": {
            side: verdict and verdict.model_dump() for side, verdict in zip("ab", comparison.verdicts, strict=True)
        },
        "a": comparison.a,
        "b": comparison.b,
        ("images" if comparison.unit == "image" else f"{comparison.unit}s"): comparison.images,
        "patients": comparison.patients,
        "left_out": comparison.left_out,
        "commits": {
            side: None if commit is None else {"sha": commit.sha, "date": commit.date}
            for side, commit in zip("ab", comparison.commits, strict=True)
        },
        "scores": scores,
        "significantly_worse": significantly_worse(comparison),
        "notes": list(comparison.notes),
        "sentence": sentence(comparison),
    }
    return scoring.as_json(content)
