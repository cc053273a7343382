"""What dvc.yaml says of the stages is what their code does."""

import ast
import importlib
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT
from mammo.learning import networks
from pydantic import BaseModel

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
STAGES = ["download", "preprocess", "audit", "train", "evaluate", "report"]
WITH_NETWORK = {"train", "evaluate"}
MAMMO = ROOT / "stages/mammo"


def script(stage: str) -> Path:
    return ROOT / "stages" / f"{stage}.py"


def imported(path: Path) -> set[str]:
    """Dotted names of all that a file imports, inside functions as well; `from a import b` gives both a and a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def reached(path: Path) -> set[Path]:
    """The modules of mammo/ that a script reaches, and the script itself."""
    seen, ahead = set(), [path]
    while ahead:
        here = ahead.pop()
        seen.add(here)
        parts = [name.split(".") for name in imported(here)]
        modules = {MAMMO / f"{part[1]}.py" for part in parts if part[0] == "mammo" and len(part) > 1}
        ahead += [module for module in modules if module.is_file() and module not in seen]
    return seen


def names_of(entries: list[Any]) -> list[str]:
    """Paths of outs, metrics or plots, without their settings."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def outputs(stage: str) -> list[str]:
    """All that a stage declares to write, as often as it does."""
    declared = PIPELINE["stages"][stage]
    return [name for kind in ("outs", "metrics", "plots") for name in names_of(declared.get(kind, []))]


def test_there_are_six_stages_each_with_a_line_that_says_what_it_is_for() -> None:
    assert list(PIPELINE["stages"]) == STAGES
    for stage in PIPELINE["stages"].values():
        assert "\n" not in stage["desc"] and 20 < len(stage["desc"]) < 100


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_its_script_every_module_it_reaches_and_no_other_code(stage: str) -> None:
    deps = {dep for dep in PIPELINE["stages"][stage]["deps"] if dep.endswith(".py") or dep == "requirements.txt"}
    expected = {str(path.relative_to(ROOT)) for path in reached(script(stage))}
    assert f"stages/{stage}.py" in expected and "stages/mammo/stage.py" in expected
    assert deps == expected | ({"requirements.txt"} if stage in WITH_NETWORK else set())


def test_the_package_itself_runs_nothing_so_that_no_stage_depends_on_it() -> None:
    (docstring,) = ast.parse((MAMMO / "__init__.py").read_text()).body
    assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_reads_what_stages_before_it_write_and_says_so(stage: str) -> None:
    """Every path on the command line is an output of the stage or a dependency, or the folder of some."""
    declared = PIPELINE["stages"][stage]
    python, name, *paths = declared["cmd"].split()
    assert (python, name) == ("python", f"stages/{stage}.py")
    earlier = list(itertools.chain.from_iterable(outputs(one) for one in STAGES[: STAGES.index(stage)]))
    data = {dep for dep in declared["deps"] if not dep.endswith(".py") and dep != "requirements.txt"}
    if stage == "train":  # weights to start from, which params.yaml names by file
        assert str(networks.WEIGHTS) in data
        data.remove(str(networks.WEIGHTS))
    assert data == {"${data.folder}"} if stage == "download" else data <= set(earlier)
    named = data | set(outputs(stage))
    assert all(dep in paths or str(Path(dep).parent) in paths for dep in data)
    assert set(paths) <= named | {str(Path(name).parent) for name in named}


@pytest.mark.parametrize("stage", sorted(set(STAGES) - WITH_NETWORK))
def test_a_stage_without_a_network_does_not_import_tensorflow(stage: str) -> None:
    heavy = {"tensorflow", "keras"}
    assert not any(name.split(".")[0] in heavy for path in reached(script(stage)) for name in imported(path))
    code = f"import json, sys, {stage}; print(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "stages", capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert stage in loaded and "numpy" in loaded
    assert not heavy & loaded


# Settings


def leaves(section: dict[str, Any], above: str) -> set[str]:
    """Dotted keys of all values that are no sections themselves."""
    keys = set()
    for key, value in section.items():
        keys |= leaves(value, f"{above}.{key}") if isinstance(value, dict) else {f"{above}.{key}"}
    return keys


def fields(model: type[BaseModel], above: str) -> set[str]:
    """Dotted keys of all settings of a model, those of models within it included."""
    keys = set()
    for name, field in model.model_fields.items():
        inner = field.annotation
        nested = isinstance(inner, type) and issubclass(inner, BaseModel)
        keys |= fields(inner, f"{above}.{name}") if nested else {f"{above}.{name}"}
    return keys


def settings_read(stage: str) -> set[str]:
    """Dotted keys that a stage and the modules it reaches ask for: by `settings.read`, `.value` and `.everything`."""
    keys = set()
    for path in reached(script(stage)) - {MAMMO / "settings.py"}:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            if called == "settings.value":
                section, key = map(ast.literal_eval, node.args)
                inner = PARAMS[section][key]
                name = f"{section}.{key}"
                keys |= leaves(inner, name) if isinstance(inner, dict) else {name}
            elif called == "settings.everything":
                keys |= set().union(*(leaves(section, name) for name, section in PARAMS.items()))
            elif called == "settings.read":
                name = path.stem if path.parent.name == "stages" else f"mammo.{path.stem}"
                model = eval(ast.unparse(node.args[1]), vars(importlib.import_module(name)))
                keys |= fields(model, ast.literal_eval(node.args[0]))
    return keys


def test_params_yaml_holds_every_key_that_is_read_and_no_other() -> None:
    held = set().union(*(leaves(section, name) for name, section in PARAMS.items()))
    assert held == set().union(*(settings_read(stage) for stage in STAGES if stage != "report"))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_the_settings_it_reads_leaf_by_leaf_and_no_other(stage: str) -> None:
    """Except for download, whose whole section is its own, and report, which shows them all."""
    listed = set()
    for key in PIPELINE["stages"][stage]["params"]:
        value = PARAMS
        for part in key.split("."):
            assert part in value, f"{key} is not in params.yaml"
            value = value[part]
        assert not isinstance(value, dict) or (stage, key) == ("download", "data") or stage == "report"
        listed |= leaves(value, key) if isinstance(value, dict) else {key}
    assert listed == settings_read(stage)


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
            files += list({*how["x"], *how["y"]})
    return files


def test_every_file_is_written_by_one_stage_and_drawn_once() -> None:
    written = Counter(itertools.chain.from_iterable(outputs(stage) for stage in STAGES))
    assert set(written.values()) == {1}
    assert {name for name in written if name.startswith("metrics/")} == {
        f"metrics/{name}.json"
        for name in ("preprocess", "audit", "train", "test", "operating_points", "calibration", "explanation")
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


@pytest.mark.parametrize(
    ("title", "template", "x", "y"),
    [
        ("ROC curve", "roc", {"plots/roc.csv": "fpr"}, {"plots/roc.csv": "tpr"}),
        ("Precision and recall", "precision_recall", {"plots/pr.csv": "recall"}, {"plots/pr.csv": "precision"}),
        (
            "Confusion matrix",
            "confusion_matrix",
            {"plots/confusion.csv": "actual"},
            {"plots/confusion.csv": "predicted"},
        ),
    ],
)
def test_a_plot_has_its_own_template_axes_and_titles(
    title: str, template: str, x: dict[str, str], y: dict[str, str]
) -> None:
    (plot,) = [plot[title] for plot in PIPELINE["plots"] if isinstance(plot, dict) and title in plot]
    assert (plot["template"], plot["x"], plot["y"]) == (template, x, y)
    assert all(plot[key] for key in ("title", "x_label", "y_label"))


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
