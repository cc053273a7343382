"""Tables that are written and read: what a spreadsheet would run, it does not."""

import csv
from pathlib import Path

from mammo.core import files

import hypothesis
import pytest
from hypothesis import strategies

FORMULAS = (
    "=1+1",
    '=HYPERLINK("http://a.example","x")',
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "＝1",
)
HARMLESS = ("", "'", "a=b", "'quoted'", " =1", "-", "train/0/1.png", "Müller")
NUMBERS = ("-1", "+1", "-0.25", "-.5", "-1e-05", "+3.E7")


def cells(path: Path) -> list[list[str]]:
    """As another program reads the table."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_formula_is_written_as_text_and_read_back_as_it_was(tmp_path: Path) -> None:
    values = [*FORMULAS, *(f"'{formula}" for formula in FORMULAS), *HARMLESS, *NUMBERS]
    files.write_csv(tmp_path / "t.csv", ("a", "b"), [(value, -0.5) for value in values])
    raw = [row[0] for row in cells(tmp_path / "t.csv")[1:]]
    assert raw[: len(FORMULAS)] == [f"'{formula}" for formula in FORMULAS]
    assert [cell for cell in raw if cell and cell[0] in "=+-@\t\r＝" and cell not in NUMBERS] == []
    assert raw[-len(NUMBERS) :] == list(NUMBERS), "numbers stay numbers"
    assert raw[2 * len(FORMULAS) : -len(NUMBERS)] == ["'-" if value == "-" else value for value in HARMLESS]
    assert {row[1] for row in cells(tmp_path / "t.csv")[1:]} == {"-0.5"}
    assert [row["a"] for row in files.read_csv(tmp_path / "t.csv", ("a", "b"))] == values


@hypothesis.settings(deadline=None)  # a busy machine is no fault
@hypothesis.given(strategies.lists(strategies.text(alphabet="'=+-@\t\r\n,\";a1.e ＝", max_size=6), min_size=1))
def test_any_text_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    path = tmp_path_factory.mktemp("table") / "t.csv"
    files.write_csv(path, ("a", "b"), [(value, 1) for value in values])
    assert [row["a"] for row in files.read_csv(path, ("a", "b"))] == values


def test_a_users_own_table_is_taken_as_it_is() -> None:
    (row,) = files.parse_csv(b"image,label\n'=1.png,0\n", "labels.csv", ("image",), ours=False)
    assert row[1]["image"] == "'=1.png"
