"""`mammo recipe table`: the table of cross-validation in Markdown, from what its last run wrote."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mammo.core import files
from mammo.core.wording import counted
from mammo.scoring.rounding import p_value, rounded, with_interval

CV = Path("cv/metrics/cv.json")
HELD_OUT = Path("cv/held_out/scores.json")
SHORTCUT = "shortcut"
COLUMNS = (
    "row",
    "seeds",
    "ROC AUC per image",
    "per breast",
    "above the brightness baseline",
    "p",
    "p, Holm",
)


def table(cv: Path = CV, held_out: Path = HELD_OUT) -> str:
    """Return the rows, the best of them corrected for having been chosen, and the patients set aside, if any.

    Intervals are over patients; of rows with several seeds over patients and seeds.

    Raises:
        UserError: cv/metrics/cv.json is missing.

    """
    content = files.read_json(cv)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---:|---|---|---|---:|---:|"]
    lines += [_line(name, row, content) for name, row in content["rows"].items()]
    if selection := content.get("selection"):
        lines += ["", *_selected(selection)]
    if held_out.is_file():
        lines += ["", _set_aside(files.read_json(held_out))]
    return "\n".join(lines)


def _line(name: str, row: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    scores = {**row, **row.get("over_seeds", {})}
    change = content.get("against_shortcut", {}).get(name)
    cells = [
        "brightness baseline" if name == SHORTCUT else f"`{name}`",
        str(row.get("seeds", "" if name == SHORTCUT else 1)),
        *(with_interval(**scores[key]) if key in scores else "–" for key in ("roc_auc", "breast_roc_auc")),
        *(_change(change) if change else ("", "", "")),
    ]
    return "| " + " | ".join(cells) + " |"


def _change(change: Mapping[str, Any]) -> tuple[str, str, str]:
    return _signed(change["roc_auc_change"]), p_value(change["p"]), p_value(change["p_holm"])


def _signed(interval: Mapping[str, float]) -> str:
    value, low, high = ((f"{'+' if end >= 0 else ''}{rounded(end)}") for end in interval.values())
    return f"{value} ({low} to {high})"


def _selected(selection: Mapping[str, Any]) -> Iterator[str]:
    for unit in ("image", "breast"):
        if unit in selection:
            best = selection[unit]
            change = best["against_shortcut"]
            yield (
                f"Per {unit} the best of {selection['rows']} rows is `{best['best']}`: {with_interval(**best['raw'])}, "
                f"corrected for the choice {with_interval(**best['corrected'])}. Above the brightness baseline, "
                f"corrected: {_signed(change['roc_auc_change'])}, p {p_value(change['p'])}.  "
            )
    yield f"Tried on these images: {counted(selection['tried'], 'row')}."


def _set_aside(content: Mapping[str, Any]) -> str:
    breast = f", per breast {with_interval(**content['breast_roc_auc'])}" if "breast_roc_auc" in content else ""
    change = content["against_shortcut"]
    return (
        f"Patients set aside, scored once by the shipped recipe `{content['recipe']}`: ROC AUC per image "
        f"{with_interval(**content['roc_auc'])}{breast}; brightness baseline "
        f"{with_interval(**content['shortcut']['roc_auc'])}, the recipe above it {_signed(change['roc_auc_change'])}, "
        f"p {p_value(change['p'])}."
    )
