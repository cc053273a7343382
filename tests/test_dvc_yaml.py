"""What dvc.yaml and cv/dvc.yaml say of the stages is what their code does."""

import ast
import itertools
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mammo.core import recipes
from mammo.core.settings import Params
from mammo.learning import networks

import pytest
import yaml
from imports import MAMMO, imported, reached, scripts
from miniature import ROOT, STAGES

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
VALIDATE = PIPELINE["stages"].pop("validate")["do"]
"""The stage that is there once per external set."""
FOLDS = yaml.safe_load((ROOT / "cv/dvc.yaml").read_text())
ALL = [(ROOT, stage) for stage in (*PIPELINE["stages"], "validate")] + [
    (ROOT / "cv", stage) for stage in FOLDS["stages"]
]
BYTECODE = MAMMO / "__init__.py"
"""Switches bytecode off and nothing else: no stage depends on it."""
every_stage = pytest.mark.parametrize(("folder", "stage"), ALL, ids=[f"{folder.name}-{stage}" for folder, stage in ALL])


def declared(folder: Path, stage: str) -> dict[str, Any]:
    """A stage's entry in the dvc.yaml of `folder`."""
    stages = PIPELINE["stages"] | {"validate": VALIDATE} if folder == ROOT else FOLDS["stages"]
    return stages[stage]


def script(folder: Path, stage: str) -> Path:
    path = (folder / declared(folder, stage)["cmd"].split()[1]).resolve()
    assert path in set(scripts()), f"{path} is no script of a stage"
    return path


def names_of(entries: list[Any]) -> list[str]:
    """Paths of outs, metrics or plots, without their settings."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def outputs(stage: str) -> list[str]:
    """All that a stage declares to write, as often as it does."""
    entry = PIPELINE["stages"][stage]
    return [name for kind in ("outs", "metrics", "plots") for name in names_of(entry.get(kind, []))]


def test_there_are_six_stages_and_one_per_external_set_each_with_a_line_that_says_what_it_is_for() -> None:
    assert list(PIPELINE["stages"]) == STAGES
    for folder, stage in ALL:
        description = declared(folder, stage)["desc"]
        assert "\n" not in description and 20 < len(description) < 100


@pytest.mark.parametrize(("name", "most"), [("dvc.yaml", 130), ("cv/dvc.yaml", 60)])
def test_a_pipeline_is_read_on_a_page(name: str, most: int) -> None:
    assert len((ROOT / name).read_text().splitlines()) <= most


# Dependencies


@every_stage
def test_every_file_that_a_stage_imports_lies_in_a_declared_dependency(folder: Path, stage: str) -> None:
    deps = {(folder / dep).resolve() for dep in declared(folder, stage)["deps"]}
    missing = {path for path in reached(script(folder, stage)) if not deps & {path, *path.parents}} - {BYTECODE}
    assert {str(path.relative_to(ROOT)) for path in missing} == set()
    names = set().union(*map(imported, reached(script(folder, stage))))
    assert ("tensorflow" in names) <= (ROOT / "requirements.txt" in deps), "another TensorFlow gives other bytes"


def test_the_package_itself_switches_bytecode_off_sets_one_arithmetic_and_computes_nothing() -> None:
    docstring, *lines, check = ast.parse(BYTECODE.read_text()).body
    assert isinstance(docstring, ast.Expr)
    assert [ast.unparse(line) for line in lines] == [
        "import importlib.util",
        "import sys",
        "sys.dont_write_bytecode = True",
        "from mammo.core import processor",
        "processor.limit()",
    ]
    assert isinstance(check, ast.If) and ast.unparse(check.body[0]).startswith("sys.exit(")
    assert "The environment is not active" in ast.unparse(check)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_stages_before_it_write_and_says_so(stage: str) -> None:
    """Every path on the command line is an output of the stage or a dependency, or the folder of some."""
    entry = PIPELINE["stages"][stage]
    python, name, *paths = entry["cmd"].split()
    assert (python, name) == ("python", f"stages/{stage}.py")
    earlier = set(itertools.chain.from_iterable(outputs(one) for one in STAGES[: STAGES.index(stage)]))
    data = {dep for dep in entry["deps"] if not dep.startswith("stages/") and dep != "requirements.txt"}
    if stage == "train":  # weights to start from, which params.yaml names by file
        assert str(networks.WEIGHTS) in data
        data.remove(str(networks.WEIGHTS))
    written = earlier | {str(Path(name).parent) for name in earlier}
    if stage in ("download", "preprocess"):  # read from params.yaml, since on the command line a shell would run it
        assert {"data/sets", "${data.folder}"} <= data and "data" in entry["params"]
        data -= {"data/sets", "${data.folder}"}
    assert data <= written
    named = data | set(outputs(stage))
    assert all(dep in paths or str(Path(dep).parent) in paths for dep in data)
    assert set(paths) <= named | {str(Path(name).parent) for name in named}


# Settings


def sections_read(path: Path) -> set[str]:
    """Sections that a file takes from what `settings.read` returns; all of them where it takes it as a whole."""
    tree = ast.parse(path.read_text())

    def is_read(node: ast.AST | None) -> bool:
        return isinstance(node, ast.Call) and ast.unparse(node.func) == "settings.read"

    kept = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_read(node.value)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    whole, taken = 0, set()
    for node in ast.walk(tree):
        if is_read(node) or (isinstance(node, ast.Name) and node.id in kept and isinstance(node.ctx, ast.Load)):
            whole += 1
        if isinstance(node, ast.Assign) and is_read(node.value):
            whole -= 1
        if isinstance(node, ast.Attribute) and (is_read(node.value) or ast.unparse(node.value) in kept):
            whole -= 1
            taken.add(node.attr)
    return taken if not whole and taken <= set(Params.model_fields) else set(Params.model_fields)


def sections_declared(folder: Path, stage: str) -> set[str]:
    """Sections of the project's params.yaml that a stage depends on."""
    entries = declared(folder, stage)["params"]
    if entries == [{"params.yaml": None}]:
        return set(Params.model_fields)
    if folder == ROOT:
        return {entry for entry in entries if "." not in entry} | ({stage} & set(Params.model_fields))
    (others,) = [entry["../params.yaml"] for entry in entries if isinstance(entry, dict)] or [[]]
    return {entry for entry in others if "." not in entry}


@every_stage
def test_a_stage_depends_on_the_sections_that_it_reads(folder: Path, stage: str) -> None:
    """On whole sections; in the pipeline on no other. Beside scripts nothing reads params.yaml but `mammo phantoms`."""
    path = script(folder, stage)
    readers = {file for file in reached(path) if "settings.read(" in file.read_text()}
    if folder == ROOT:
        assert readers == {path}
        read = sections_read(path)
    else:  # one script takes the sections of recipes and writes them down for the others
        assert readers == {MAMMO / "core/recipes.py"}
        read = set(recipes.SECTIONS) if "crossvalidation.resolve(" in path.read_text() else set()
    assert read <= sections_declared(folder, stage) <= set(Params.model_fields)
    assert read == sections_declared(folder, stage)


def ignored(section: Any, above: str) -> set[str]:
    """Keys in a section that DVC's run cache takes for sizes of files, and so leaves out of what it compares."""
    found = set()
    for key, value in section.items() if isinstance(section, dict) else ():
        found |= {f"{above}.{key}"} if key in ("size", "nfiles") else ignored(value, f"{above}.{key}")
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_what_the_run_cache_ignores_in_a_section_stands_beside_it(stage: str) -> None:
    """Otherwise a stage would be given the results of another `size` (tried in test_pipeline.py)."""
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    entries = PIPELINE["stages"][stage]["params"]
    if entries == [{"params.yaml": None}]:  # another size is another data/model, on which this stage depends
        assert "data/model" in PIPELINE["stages"][stage]["deps"]
        return
    needed = set().union(*(ignored(settings[section], section) for section in sections_declared(ROOT, stage)))
    assert {entry for entry in entries if "." in entry} == needed


def test_what_the_run_cache_ignores_in_cross_validation_stands_beside_it() -> None:
    """A variant's size reaches its folds in a file; that of the phantoms that a network is pretrained on does not."""
    stages = FOLDS["stages"]
    others = next(entry["../params.yaml"] for entry in stages["settings"]["params"] if isinstance(entry, dict))
    pipeline = yaml.safe_load((ROOT / "params.yaml").read_text())
    needed = set().union(*(ignored(pipeline[section], section) for section in others if "." not in section))
    assert {entry for entry in others if "." in entry} == needed == {"preprocess.size"}
    for stage in ("fold", "finetune"):
        assert "data/settings/${item.variant}.json" in stages[stage]["deps"]
        assert stages[stage]["params"] == ["folds"]
    settings = yaml.safe_load((ROOT / "cv/params.yaml").read_text())
    assert set(stages["pretrain"]["params"]) >= ignored(settings["pretraining"], "pretraining")
    assert "data/settings/${pretraining.variant}.json" in stages["pretrain"]["deps"]
    assert {"work"} <= set(stages["summarise"]["deps"]), "another size is another work/, on which this stage depends"


# Metrics and plots


def plotted() -> list[str]:
    """Every file or folder that is drawn, as often as it is: under a stage's own `plots` and in the top-level list."""
    files = []
    for stage in PIPELINE["stages"].values():
        files += names_of(stage.get("plots", []))
    for plot in PIPELINE["plots"]:
        if isinstance(plot, str):
            files.append(plot)
        else:
            (how,) = plot.values()
            files += list(how["y"])
    return files


def test_every_file_is_written_by_one_stage_and_drawn_once() -> None:
    written = Counter(itertools.chain.from_iterable(outputs(stage) for stage in STAGES))
    assert set(written.values()) == {1}
    assert {name for name in written if name.startswith("metrics/")} == {
        f"metrics/{name}.json"
        for name in (
            *("preprocess", "audit", "train", "test", "operating_points", "calibration", "explanation"),
            *("units", "subgroups"),
        )
    }
    drawn = Counter(plotted())
    assert set(drawn.values()) == {1}
    assert set(drawn) <= set(written)
    assert "plots/predictions.csv" in written and "plots/predictions.csv" not in drawn


def test_folders_of_pictures_are_drawn_last_and_stay_out_of_git() -> None:
    """In the top-level list, not a stage's own `plots`: the stages' entries in dvc.lock stay as they are."""
    pictures = [plot for plot in PIPELINE["plots"] if isinstance(plot, str)]
    assert pictures == PIPELINE["plots"][-2:] == ["plots/audit", "plots/explanation"]
    ignored = (ROOT / "plots/.gitignore").read_text().splitlines()
    assert {f"/{Path(folder).name}" for folder in pictures} <= set(ignored)


def test_metrics_and_curves_are_gits_so_that_revisions_compare_in_a_fresh_clone() -> None:
    for stage in PIPELINE["stages"].values():
        for entry in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            name, how = next(iter(entry.items())) if isinstance(entry, dict) else (entry, {})
            is_result = name.startswith("metrics/") or Path(name).suffix in (".csv", ".png", ".md")
            assert how.get("cache", True) is not is_result, name
            assert not how.get("persist"), "persist switches the run cache off"


def test_training_keeps_its_run_cache() -> None:
    """An output without cache that is neither metric nor plot would switch it off."""
    assert all(isinstance(out, str) for out in PIPELINE["stages"]["train"]["outs"])
    assert not PIPELINE["stages"]["train"].get("always_changed")


def test_the_plots_have_the_names_by_which_revisions_are_compared() -> None:
    titles = [next(iter(plot)) for plot in PIPELINE["plots"] if isinstance(plot, dict)]
    assert titles == [
        "Scores",
        "ROC curve",
        "Precision and recall",
        "Calibration",
        "Decision curve",
        "Confusion matrix",
        "Subgroups",
    ]


def described() -> dict[str, dict[str, Any]]:
    """The settings of each plot of a table, by the name of the table."""
    found = {
        name: {"x": how["x"], "y": column, "template": how["template"]}
        for plot in PIPELINE["plots"]
        if isinstance(plot, dict)
        for how in plot.values()
        for name, column in how["y"].items()
    }
    (history,) = PIPELINE["stages"]["train"]["plots"]
    return found | history


@pytest.mark.parametrize("table", described())
def test_a_plot_has_columns_of_its_table_and_a_template_with_title_and_axes(table: str) -> None:
    how = described()[table]
    columns = (ROOT / table).read_text().splitlines()[0].split(",")
    assert how["x"] in columns and how["y"] in columns
    template = json.loads((ROOT / f".dvc/plots/{how['template']}.json").read_text())
    assert template["title"]["text"]
    for axis in ("x", "y"):
        encodings = [part[axis] for part in within(template) if isinstance(part.get(axis), dict)]
        assert any("title" in encoding for encoding in encodings)  # null where the values are names
    assert "title" not in how and "x_label" not in how


def within(content: Any) -> Iterator[dict[str, Any]]:
    """Every object in a piece of JSON."""
    if isinstance(content, dict):
        yield content
    for part in content.values() if isinstance(content, dict) else content if isinstance(content, list) else ():
        yield from within(part)


@pytest.mark.parametrize("template", ["roc", "precision_recall"])
def test_a_curve_is_drawn_through_its_points_in_their_order_and_not_smoothed(template: str) -> None:
    """DVC's `linear` smooths (LOESS), and Vega sorts a line by x unless told not to, which tears its vertical steps."""
    parts = list(within(json.loads((ROOT / f".dvc/plots/{template}.json").read_text())))
    assert not any({"loess", "regression", "interpolate"} & set(part) for part in parts)
    curves = [part["encoding"] for part in parts if part.get("mark") == "line"]
    assert [(curve["y"]["field"], curve["order"]) for curve in curves] == [("<DVC_METRIC_Y>", {"value": None})]
    assert curves[0]["color"] == "<DVC_METRIC_COLOR>"


def test_the_history_overlays_training_and_validation_by_line_and_revisions_by_colour() -> None:
    (entry,) = PIPELINE["stages"]["train"]["plots"]
    how = entry["plots/history.csv"]
    assert (how["template"], how["x"]) == ("history", "epoch")
    template = json.loads((ROOT / ".dvc/plots/history.json").read_text())
    assert len(template["hconcat"]) == 2
    for panel in template["hconcat"]:
        assert panel["encoding"]["strokeDash"]["field"] == "split"
        assert panel["encoding"]["strokeDash"]["scale"]["domain"] == ["valid", "train"]
        assert panel["encoding"]["color"] == "<DVC_METRIC_COLOR>"


def test_the_model_is_an_artifact() -> None:
    (artifact,) = PIPELINE["artifacts"].values()
    assert (artifact["path"], artifact["type"]) == ("data/model", "model")
    assert "data/model" in outputs("train")
