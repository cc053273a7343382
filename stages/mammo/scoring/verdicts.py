"""Whether the splits behind a table of predictions leak, as its run recorded it, and how that is said beside scores."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mammo.core import settings, stage
from mammo.core.errors import UserError
from mammo.core.model_info import Verdict
from mammo.scoring.intervals import Interval
from mammo.scoring.rounding import p_value, percent

AUDIT = Path("metrics/audit.json")


def without_patient(unknown: int, images: int) -> str:
    """Return how many images have no patient; their share is rounded up, since few are not none."""
    return f"{unknown} of {images} images ({percent(math.ceil(1000 * unknown / images) / 1000)}) have no patient"


def cannot_be_checked(unknown: int, images: int) -> str:
    """Return the sentence of a verdict that is none, because images have no patient."""
    count = without_patient(unknown, images)
    return f"CANNOT BE CHECKED: {count}; whether the same women are in two splits is unknown."


def recorded(read: Callable[[Path], bytes], name: str) -> Verdict | None:
    """Return the verdict of the audit that a run recorded, or None if it recorded none.

    Args:
        read: returns the content of a file of the run, or raises UserError.
        name: of the run, in error messages.

    Raises:
        UserError: a file is malformed.

    """
    scores, audit = (_content(read, path, name) for path in (stage.HEADLINE, AUDIT))
    if "leaking" in scores:
        fields = {field: scores[field] for field in Verdict.model_fields if field in scores}
        return settings.check(Verdict, fields, Path(f"{stage.HEADLINE} of {name}"))
    try:  # runs before verdicts knew of unknown patients counted them all the same
        unknown = audit["patients"]["images_without_patient"]
        images = sum(part[f"{kind}_images"] for part in audit["splits"].values() for kind in ("healthy", "cancer"))
    except (KeyError, TypeError, AttributeError):
        return None
    if not unknown:
        return Verdict(leaking=False)
    return Verdict(leaking=False, unchecked=True, sentence=cannot_be_checked(unknown, images))


def _content(read: Callable[[Path], bytes], path: Path, name: str) -> Mapping[str, Any]:
    try:
        content = read(path)
    except UserError:  # an older run, which did not write it
        return {}
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} of {name} is not JSON: {error}") from error
    return parsed if isinstance(parsed, dict) else {}


def warnings(sides: Mapping[str, Verdict | None]) -> list[str]:
    """Return one sentence for each side that leaks or cannot be checked, the worst first.

    A side without a verdict is a table of predictions. Beside a side that was audited it cannot be checked; of two such
    tables nothing is said here.
    """
    lines = []
    for side, verdict in sides.items():
        if verdict is None and any(sides.values()):
            lines.append((1, f"CANNOT BE CHECKED ({side}): a table of predictions comes without an audit."))
        elif verdict is not None and verdict.rank:
            reason = verdict.sentence.partition(": ")[2] or "so its audit says."
            lines.append((verdict.rank, f"{verdict.heading} ({side}): {' '.join(reason.split())}"))
    shown = [line for _, line in sorted(lines, key=lambda line: -line[0])]
    return ["".join(letter if letter.isprintable() else "?" for letter in line) for line in shown]


def worse(a: Verdict | None, b: Verdict | None) -> bool:
    """Return whether b leaks, or cannot be checked, and a does not, or not as badly."""
    if a is None and b is None:
        return False
    before, after = (1 if verdict is None else verdict.rank for verdict in (a, b))
    return after > before


def against_shortcut(change: Interval, p: float) -> str:
    """Return the verdict in words.

    Args:
        change: ROC AUC of the network minus that of the brightness baseline on the same test images, by
            `paired_bootstrap`.
        p: of that change.

    """
    if change.low > 0:
        verdict = "the network sees more than brightness"
    elif change.high < 0:
        verdict = "the network is worse than brightness alone"
    else:
        verdict = "this run does not show that the network sees more than brightness"
    return (
        f"Network minus brightness baseline, paired on the same test images: {change.value:+.3f} "
        f"({change.low:+.3f} to {change.high:+.3f}), p {p_value(p)}: {verdict}."
    )
