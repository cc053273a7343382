"""Labels of the images of a described set, and the rows that mean neither cancer nor healthy."""

from collections import Counter, defaultdict
from collections.abc import Sequence

from mammo.core.set_description import Label, LabelRule
from mammo.core.wording import counted
from mammo.sources.described.findings import Findings, Row, examples
from mammo.sources.described.joins import as_whole

EMPTY = "empty"


class Labelling:
    """Reads the label of each row and counts the values that mean neither."""

    def __init__(self, label: Label) -> None:
        self.label = label
        self.left_out: dict[tuple[str, str], list[Row]] = defaultdict(list)
        """Rows that mean neither, by column and value."""

    def of(self, row: Row) -> int | None:
        """Return 1 for cancer, 0 for healthy, None for neither."""
        rule: LabelRule = self.label
        if self.label.where_empty and not row.cells[self.label.column]:
            rule = self.label.where_empty
        value = as_whole(row.cells[rule.column])
        if value in map(as_whole, rule.cancer):
            return 1
        if value in map(as_whole, rule.healthy):
            return 0
        self.left_out[rule.column, value].append(row)
        return None

    def report(self, findings: Findings) -> None:
        """Note the rows that mean neither, by value; those that the description does not list are named as such."""
        known = {(rule.column, as_whole(value)) for rule in self._rules for value in rule.left_out}
        listed = [value for rule in self._rules for value in (*rule.cancer, *rule.healthy)]
        for (column, value), rows in sorted(self.left_out.items()):
            what = f"{value!r}" if value else EMPTY
            line = f"column {column!r} is {what} in {counted(len(rows), 'row')} ({rows[0].place} first), left out"
            if (column, value) not in known and value:
                line += (
                    f": this value is in no list of the label ({', '.join(listed)}); add it to label.cancer, "
                    "label.healthy or label.left_out"
                )
            findings.note(line)

    @property
    def _rules(self) -> list[LabelRule]:
        return [self.label, *([self.label.where_empty] if self.label.where_empty else [])]


def of_image(rows: Sequence[Row], labels: Sequence[int], label: Label, mixed: list[Row]) -> int:
    """Return the label of an image with one or several labelled rows; where they differ, the first joins `mixed`."""
    if len(set(labels)) > 1:
        mixed.append(rows[0])
    return labels[0] if label.several == "first" else max(labels)


def report_mixed(mixed: Sequence[Row], several: int, label: Label, findings: Findings) -> None:
    """Name the images whose rows have different labels, and say how they are labelled."""
    meaning = {"any": "any row with cancer counts", "first": "the first row counts", "refuse": "each needs one label"}
    if several:
        findings.note(f"{counted(several, 'image')} in several rows each: {meaning[label.several]}")
    if mixed:
        by_file = Counter(row.file for row in mixed)
        parts = ", ".join(f"{counted(number, 'image')} in {file}" for file, number in sorted(by_file.items()))
        line = (
            f"column {label.column!r}: {counted(len(mixed), 'image')} of mixed labels ({parts}; "
            f"{examples((row.place for row in mixed), len(mixed))}): {meaning[label.several]}"
        )
        remedy = "; correct the table, or set label.several to any or first"
        refused = label.several == "refuse"
        findings.add(line + (remedy if refused else ""), refused)
