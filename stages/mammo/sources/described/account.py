"""What `mammo set` prints: the described sets, and what a folder holds before anything runs."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from mammo.core import set_description, settings
from mammo.core.dataset import CLASSES, Entry
from mammo.core.set_description import SetDescription
from mammo.core.wording import SPLIT_NAMES, counted, shown
from mammo.sources.described.checks import breasts
from mammo.sources.described.understanding import Understood, understand

SHOWN = 10
"""Images that are shown as understood."""
LONGEST = 40
"""Characters of a cell; of a longer one the end is shown, which tells paths apart."""
UNKNOWN = "unknown"


def listing() -> str:
    """Return the described sets as a table: name, title, licence and whether weights may be released."""
    rows = []
    for name in set_description.names():
        about = set_description.read(name)
        rows.append((name, about.title, about.licence, f"weights {about.weights}"))
    width = max((len(name) for name, *_ in rows), default=0)
    lines = [f"{name:<{width}}  {title}\n{'':<{width}}  {licence}; {weights}" for name, title, licence, weights in rows]
    return "\n".join(lines) or f"no data set is described in {set_description.FOLDER}"


def account(name: str, folder: Path) -> tuple[str, bool]:
    """Read the tables and headers of the set `name` in a folder; decode no pixel.

    Returns:
        What was understood, counted and what does not fit; and whether the pipeline could run on it.

    Raises:
        UserError: the set is not described, or there is no such folder.

    """
    description = set_description.read(name)
    patient = settings.read().data.patient if description.layout == "tree" else ""
    understood = understand(folder, description, patient, leave_out=False)
    return "\n".join(_lines(description, understood)), not understood.findings.faults


def _lines(description: SetDescription, understood: Understood) -> Iterator[str]:
    yield description.title
    yield f"Licence: {description.licence}; weights {description.weights}. {description.address}"
    yield f"Cite: {description.citation}"
    yield from (f"Note: {note}" for note in description.notes)
    entries = [*understood.entries, *understood.absent]
    if entries:
        yield f"\nThe first {min(SHOWN, len(entries))} of {counted(len(entries), 'image')}, as understood:"
        yield from _table(entries[:SHOWN])
        yield ""
        yield from _counts(entries, understood)
    faults, notes = understood.findings.faults, understood.findings.notes
    if notes:
        yield f"\nLeft out, changed or to know ({len(notes):,}):"
        yield from (f"  {line}" for line in notes)
    if faults:
        yield f"\nDoes not fit ({len(faults):,}):"
        yield from (f"  {line}" for line in faults)
    else:
        yield "\nEverything else fits."


def _table(entries: Sequence[Entry]) -> Iterator[str]:
    groups = [name for name, _ in entries[0].groups]
    header = ("image", "label", "patient", "exam", "side", "view", "split", *groups)
    rows = [
        (
            *(entry.image, CLASSES[entry.label], entry.patient, entry.exam, entry.laterality, entry.view, entry.split),
            *(value for _, value in entry.groups),
        )
        for entry in entries
    ]
    cells = [header, *(tuple(_cell(cell) for cell in row) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        yield "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()


def _cell(text: str) -> str:
    safe = shown(text) or "-"
    return safe if len(safe) <= LONGEST else "…" + safe[1 - LONGEST :]


def _counts(entries: Sequence[Entry], understood: Understood) -> Iterator[str]:
    patients = {entry.patient for entry in entries if entry.patient}
    there = f", {len(understood.entries):,} of them there" if understood.absent else ""
    yield (
        f"{counted(len(entries), 'image')}{there}; {counted(len(patients), 'patient')}, "
        f"{counted(len(breasts(entries)), 'breast')}; {counted(understood.rows, 'row')}"
    )
    labels = Counter(entry.label for entry in entries)
    without = understood.table_labels["left out"]
    rest = f"; {counted(without, 'row')} mean neither" if without else ""
    yield f"label: {', '.join(f'{word} {labels[label]:,}' for label, word in enumerate(CLASSES))}{rest}"
    for title, values in (
        ("side", [entry.laterality for entry in entries]),
        ("view", [entry.view for entry in entries]),
        ("split", [SPLIT_NAMES.get(entry.split, "") for entry in entries]),
        *((name, [entry.groups[place][1] for entry in entries]) for place, (name, _) in enumerate(entries[0].groups)),
    ):
        yield f"{title}: {_counted_values(values)}"


def _counted_values(values: Sequence[str]) -> str:
    counts = Counter(value or UNKNOWN for value in values)
    ordered = sorted(counts.items(), key=lambda item: (item[0] == UNKNOWN, item[0]))
    more = f", and {len(ordered) - 20:,} more" if len(ordered) > 20 else ""
    return ", ".join(f"{shown(name)} {number:,}" for name, number in ordered[:20]) + more
