"""Answers of `mammo predict`: printed as a table, written as CSV or JSON."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo.core import files
from mammo.core.folders import Missed
from mammo.core.wording import shown

from tqdm import tqdm

NOTICE = "For research only: not a medical device, no finding, no advice."
STRANGE = "the network sees something that no training image showed"
SUSPECTED, UNSUSPECTED, UNREADABLE = "cancer suspected", "no suspicion", "unreadable"
GIVEN_UP = "not read"  # beyond the memory or time that a file may take; it may be sound
COLUMNS = ("file", "probability", "reading", "warnings", "reason", "heatmap", "calibrated")
WIDEST_NAME = 80  # characters; the widest column for names in the table


@dataclass(frozen=True)
class Answer:
    """The answer for one file."""

    path: Path
    probability: float | None
    """Of cancer; None where the file could not be read."""
    reading: str
    """`cancer suspected`, `no suspicion`, `unreadable` or `not read`."""
    warnings: tuple[str, ...]
    reason: str
    """Why it could not be read."""
    heatmap: str = ""
    """File name of its heat map; empty if there is none."""
    calibrated: float | None = None
    """Recalibrated probability; None also where the model has no recalibration."""


def of_missed(missed: Missed) -> Answer:
    """Return the answer for a folder that could not be entered."""
    return Answer(missed.path, None, UNREADABLE, (), missed.reason)


def print_table(answers: Iterable[Answer], description: str, paths: Sequence[Path], heatmaps: bool = False) -> None:
    """Print one line per file on standard output, as answers arrive; with names of heat maps if requested."""
    width = min(max(len(shown(path)) for path in paths), WIDEST_NAME)
    column = "heat map  " if heatmaps else ""
    head = f"{'file':<{width}}  {'calibrated':>10}  {'probability':>11}  {'reading':<16}  {column}warnings"
    print(f"{NOTICE}\n{description}\n\n{head}")
    for answer in answers:
        chance, calibrated = (
            "–" if value is None else f"{value:.6f}" for value in (answer.probability, answer.calibrated)
        )
        picture = f"{answer.heatmap:<8}  " if heatmaps else ""
        note = answer.reason or "; ".join(answer.warnings)
        text = f"{shown(answer.path):<{width}}  {calibrated:>10}  {chance:>11}  {answer.reading:<16}  {picture}{note}"
        tqdm.write(text.rstrip())  # above the progress bar, if any
    sys.stdout.flush()


def write_csv(answers: Iterable[Answer], path: Path, description: str) -> None:
    """Write one row per file, atomically; also list unreadable files on standard error."""
    files.write_csv(path, COLUMNS, (_row(answer) for answer in _aloud(answers)))
    print(f"{NOTICE}\n{description}\n{path} written.")


def print_json(answers: Iterable[Answer], head: Mapping[str, Any]) -> None:
    """Print a JSON object with the entries of `head` and the list `images`, one element per line as answers arrive."""
    print(json.dumps(head, ensure_ascii=False)[:-1] + ', "images": [', end="")
    for number, answer in enumerate(_aloud(answers)):
        print(",\n" if number else "\n", json.dumps(as_json(answer), ensure_ascii=False), sep="", end="")
    print("\n]}", flush=True)


def as_json(answer: Answer) -> dict[str, Any]:
    """Return the entries of an answer in JSON."""
    return {**dict(zip(COLUMNS, _row(answer), strict=True)), "warnings": answer.warnings}


def _row(answer: Answer) -> tuple[Any, ...]:
    warnings = "; ".join(answer.warnings)
    calibrated = answer.calibrated
    return (shown(answer.path), answer.probability, answer.reading, warnings, answer.reason, answer.heatmap, calibrated)


def _aloud(answers: Iterable[Answer]) -> Iterator[Answer]:
    for answer in answers:
        if answer.reason:
            tqdm.write(f"mammo predict: {shown(answer.path)} {answer.reason}", file=sys.stderr)
        yield answer


def warn(text: str) -> None:
    """Print a warning that does not concern a single file."""
    print(f"mammo predict: {text}", file=sys.stderr)
