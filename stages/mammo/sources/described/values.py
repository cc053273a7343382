"""Values of an image: patient, exam, side, view, split and groups, out of its row, its header and its path."""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from mammo.core.set_description import Group, Source
from mammo.core.wording import counted
from mammo.sources.described.findings import Findings, Row, examples
from mammo.sources.described.images import Disk
from mammo.sources.described.joins import as_whole

TOO_MANY = 50
"""A group with more values is hardly one; it is named."""


@dataclass
class Reading:
    """How one property is read for all images."""

    key: str
    """Key of the description, e.g. `laterality`."""
    source: Source
    unlisted: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Places of the values that `values` does not list, by value."""
    unfit: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Places of the texts that the pattern does not fit."""
    empty: list[str] = field(default_factory=list)
    """Places without a value."""

    def __post_init__(self) -> None:
        self._pattern = re.compile(self.source.pattern) if self.source.pattern else None
        self._names = {as_whole(one): name for name, ones in self.source.values.items() for one in ones}

    def of(self, row: Row, path: str, disk: Disk) -> str:
        """Return the value of an image, empty if there is none."""
        if path not in disk.present and (self.source.header or self.source.path):
            return ""  # of a missing image nothing is known but what the tables say
        text = self._text(row, path, disk)
        if not text:
            self.empty.append(f"{path} ({row.place})")
            return ""
        if self._pattern:
            match = self._pattern.search(text)
            if not match or not match[1]:
                self.unfit[text].append(row.place)
                return ""
            text = match[1]
        if self.source.pairs:
            text = str((int(text) + 1) // 2) if text.isdecimal() else text
        if self._names:
            name = self._names.get(as_whole(text))
            if name is None:
                self.unlisted[text].append(row.place)
            return name or ""
        return self._band(text, row) if isinstance(self.source, Group) and self.source.bands else text

    def _text(self, row: Row, path: str, disk: Disk) -> str:
        if self.source.constant:
            return self.source.constant
        if self.source.path:
            return path
        return disk.header(path, self.source.header) if self.source.header else row.cells[self.source.column]

    def _band(self, text: str, row: Row) -> str:
        assert isinstance(self.source, Group)
        limits = self.source.bands
        try:
            number = float(text)
        except ValueError:
            self.unlisted[text].append(row.place)
            return ""
        if number < limits[0]:
            return f"below {limits[0]}"
        above = max(place for place, limit in enumerate(limits) if number >= limit)
        return (
            f"{limits[above]} to {limits[above + 1] - 1}" if above + 1 < len(limits) else f"{limits[above]} and above"
        )

    @property
    def where(self) -> str:
        """The place of the values, for messages."""
        if self.source.header:
            return f"header {self.source.header}"
        return "the path" if self.source.path else f"column {self.source.column!r}"

    def report(self, values: Sequence[str], findings: Findings) -> None:
        """Name what does not fit; `values` are those of all images."""
        for seen, fault, remedy in (
            (self.unlisted, "is no value of", f"add it to {self.key}.values"),
            (self.unfit, "does not fit the pattern of", f"correct {self.key}.pattern"),
        ):
            if isinstance(self.source, Group) and self.source.bands and seen is self.unlisted:
                remedy = "it is no number: correct it, or add it to `missing`"
            for text, where in sorted(seen.items())[:20]:
                findings.add(
                    f"{self.where}: {text!r} {fault} {self.key} in {counted(len(where), 'row')}, {where[0]} first; "
                    f"it stays empty: {remedy}",
                    self.key == "split",
                )
            if len(seen) > 20:
                findings.note(f"{self.where}: {len(seen) - 20:,} more values that {fault} {self.key}")
        if self.empty and self.key == "patient":
            findings.note(
                f"{self.where}: {counted(len(self.empty), 'image')} without a patient ({examples(self.empty)}): "
                "leakage cannot be checked for them"
            )
        elif self.empty:
            findings.note(f"{self.where}: {self.key} is unknown for {counted(len(self.empty), 'image')}")
        if self.key.startswith("groups.") and len(set(values)) > TOO_MANY:
            findings.note(
                f"{self.where}: {self.key} has {len(set(values)):,} values; with `bands` or `values` they become groups"
            )
