"""The rules of the house: rooms whose imports run downwards, short files and functions, one fact in one place."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from mammo.core.rules import ThresholdRule

import pytest
from imports import MAMMO, ROOTS, arrows, imported, reached, scripts
from miniature import ROOT

ROOMS = (
    "core",
    "imaging",
    "sources",
    "scoring",
    "learning",
    "reporting",
    "auditing",
    "predicting",
    "command_line",
    "commands",
)
"""From the ground up; the last is a file."""
CODE = sorted(path for root in ROOTS for path in root.rglob("*.py"))
MODULES = [path for path in CODE if path.is_relative_to(MAMMO) and path != MAMMO / "__init__.py"]
BESIDE = [path for folder in ("bench", "docs", ".dvc/plots") for path in sorted((ROOT / folder).rglob("*.py"))]
LONGEST_FILE, LONGEST_FUNCTION = 450, 60  # lines
HEAVY = {"tensorflow", "keras"}
LEARNING = {"train", "fold", "pretrain", "holdout", "lesions"}
ON_DEMAND = {"evaluate", "validate"}
"""Stages that load TensorFlow once they draw heat maps, or for models of older commits; not when they start."""


def short(path: Path) -> str:
    return str(path.relative_to(ROOT))


def floor(path: Path) -> int:
    """On which floor a module lies, 0 for core."""
    return ROOMS.index(path.relative_to(MAMMO).with_suffix("").parts[0])


# Rooms


def test_every_module_lies_in_a_room() -> None:
    assert {path.relative_to(MAMMO).with_suffix("").parts[0] for path in MODULES} == set(ROOMS)
    assert {path.relative_to(MAMMO).parts[0] for path in MAMMO.iterdir() if path.suffix == ".py"} == {
        "__init__.py",
        "command_line.py",
        "commands.py",
    }


@pytest.mark.parametrize("path", MODULES, ids=short)
def test_imports_run_downwards_and_no_module_imports_a_script_or_what_only_scripts_share(path: Path) -> None:
    below = {module for module in MODULES if floor(module) <= floor(path)}
    assert {short(other) for other in arrows(path) - below} == set()


def test_the_core_imports_nothing_of_the_other_rooms() -> None:
    for path in MODULES:
        if floor(path) == 0:
            assert {floor(other) for other in arrows(path)} <= {0}, path


def test_no_stage_is_imported_by_anything_but_tests() -> None:
    stages = set(scripts())
    assert {path.stem for path in stages if path.parent == MAMMO.parent} >= {"download", "train", "report"}
    importing = {short(path): {short(stage) for stage in arrows(path) & stages} for path in [*CODE, *BESIDE]}
    assert {path: taken for path, taken in importing.items() if taken} == {}


def test_no_two_modules_import_each_other_on_whatever_way_round() -> None:
    done: set[Path] = set()

    def walk(path: Path, way: tuple[Path, ...]) -> None:
        assert path not in way, " → ".join(map(short, [*way[way.index(path) :], path]))
        if path not in done:
            for other in sorted(arrows(path)):
                walk(other, (*way, path))
            done.add(path)

    for path in CODE:
        walk(path, ())


@pytest.mark.parametrize("path", [path for path in scripts() if path.stem not in LEARNING], ids=short)
def test_a_stage_that_does_not_train_starts_without_tensorflow(path: Path) -> None:
    names = {name.split(".")[0] for file in reached(path) for name in imported(file)}
    assert bool(HEAVY & names) == (path.stem in ON_DEMAND)
    code = f"import json, sys, {path.stem}; print(json.dumps([name.split('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=path.parent, capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert {path.stem, "numpy"} <= loaded
    assert not HEAVY & loaded


# Names and lengths


def test_no_name_says_nothing() -> None:
    words = re.compile(r"(^|_)(utils?|helpers?|common|misc)(_|$)")
    places = {part for path in [*CODE, *BESIDE] for part in path.relative_to(ROOT).with_suffix("").parts}
    assert [place for place in places if words.search(place)] == []


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", sorted({*CODE, *BESIDE}), ids=short)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    lines = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in functions(path)}
    assert {name: count for name, count in lines.items() if count > LONGEST_FUNCTION} == {}


# One fact in one place


def outside(*homes: str) -> list[Path]:
    paths = {MAMMO / home for home in homes}
    assert paths <= set(CODE), "a home has moved"
    return [path for path in CODE if path not in paths]


def texts(path: Path) -> Iterator[str]:
    """The strings of a file that are no docstrings."""
    tree = ast.parse(path.read_text())
    documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            yield node.value


def series(path: Path) -> Iterator[list[str]]:
    """The strings of each tuple, list and set that is written out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            yield [part.value for part in node.elts if isinstance(part, ast.Constant) and isinstance(part.value, str)]


def test_the_normal_quantile_is_computed_in_one_place() -> None:
    assert [short(path) for path in CODE if re.search(r"1\.959?96|1\.96\b", path.read_text())] == []
    computing = [path for path in CODE if re.search(r"\bnorm\.ppf\(", path.read_text())]
    assert computing == [MAMMO / "scoring/intervals.py"]


def test_an_image_without_a_patient_is_its_own_in_one_place() -> None:
    pattern = re.compile(r"\.patient or [\w.\[\]]+\.image\b")
    homes = outside("core/dataset.py")
    assert [short(path) for path in homes if pattern.search(path.read_text())] == []


def test_the_columns_of_predictions_stand_in_one_place() -> None:
    columns = {"image", "patient", "label", "probability", "predicted"}
    homes = outside("core/predictions.py")
    assert [short(path) for path in homes if any(columns <= set(each) for each in series(path))] == []


def test_the_rules_of_thresholds_are_named_in_one_place_and_computed_in_one() -> None:
    rules = {rule for rule in get_args(ThresholdRule) if "_9" in rule}  # the others are names of scores as well
    assert len(rules) == 3
    found = {
        short(path)
        for path in set(outside("core/rules.py", "scoring/thresholds.py"))
        if any(rule in text for text in texts(path) for rule in rules)
    }
    assert found == set()


def test_the_endings_of_image_files_stand_in_one_place_and_those_of_dicom_in_another() -> None:
    ending = re.compile(r"\*?\.(jpe?g|png|pgm|tiff?|dcm|dicom)", re.IGNORECASE)

    def listed(path: Path) -> bool:
        return any(len(list(filter(ending.fullmatch, each))) > 1 for each in series(path))

    assert [short(path) for path in outside("core/files.py", "imaging/scan_files.py") if listed(path)] == []


def test_the_file_of_headline_scores_is_named_in_one_place() -> None:
    assert [short(path) for path in outside("core/stage.py") if "metrics/test.json" in set(texts(path))] == []


def test_the_networks_are_listed_in_one_place() -> None:
    some = {"baseline", "compact"}
    homes = outside("core/settings.py")
    assert [short(path) for path in homes if any(some <= set(each) for each in series(path))] == []
