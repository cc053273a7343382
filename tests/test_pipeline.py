"""The pipeline in miniature, in a real clone, run by the real DVC."""

import csv
import io
import itertools
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from conftest import ROOT
from documents import block, link_environment, shell
from kaggle_server import serve
from miniature import (
    IGNORED,
    LITTER,
    STAGES,
    Run,
    asked,
    change,
    clone,
    commit,
    declared,
    digests,
    dvc,
    git,
    ran,
    read,
    restored,
    run,
    told,
)

FROM_KAGGLE = block("Real mammograms")


@pytest.fixture(scope="module")
def two_branches(first: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clone with a second branch, `faster`, checked out: another learning rate, run and committed."""
    folder = Path(shutil.copytree(first.folder, tmp_path_factory.mktemp("two") / "branches", symlinks=True))
    git(folder, "checkout", "--quiet", "-b", "faster")
    change(folder, train={"learning_rate": 0.002})
    assert ran(dvc(folder, "repro")) == ["train", "evaluate", "report"]
    commit(folder, "faster as it ran")
    return folder


# What runs, and what it leaves


def test_the_first_run_goes_through_every_stage_and_leaves_its_results_for_git_and_nothing_else(first: Run) -> None:
    assert ran(first.output) == STAGES
    new = {line[3:] for line in first.status if not line.startswith("!!")}
    assert {line[:2] for line in first.status} == {"??", "!!"}  # no file of the clone was changed: no .gitignore either
    assert new == {"dvc.lock"} | declared(kept_in_git=True)
    ignored = {line[3:] for line in first.status if line.startswith("!!")}
    assert ignored - {name for name in ignored if LITTER.match(name)} == IGNORED
    assert {name.rstrip("/") for name in IGNORED} == declared(kept_in_git=False)
    assert read(first.folder / "metrics/test.json")["roc_auc"]["low"] > 0.5


def test_a_second_run_runs_nothing(workspace: Path) -> None:
    output = dvc(workspace, "repro")
    assert ran(output) == restored(output) == []
    assert "Data and pipelines are up to date." in output
    assert git(workspace, "status", "--porcelain") == ""


@pytest.mark.parametrize(
    ("section", "values", "stages"),
    [
        pytest.param("augment", {"zoom_range": 0.05}, ["train", "evaluate", "report"], marks=pytest.mark.proof),
        pytest.param(
            "evaluate", {"threshold": "half", "resamples": 250}, ["evaluate", "report"], marks=pytest.mark.proof
        ),
        pytest.param("audit", {"seed": 2}, ["audit", "evaluate", "report"], marks=pytest.mark.proof),
    ],
)
def test_a_change_reruns_what_depends_on_it_and_nothing_else(
    workspace: Path, section: str, values: dict[str, Any], stages: list[str]
) -> None:
    before = digests(workspace / "data")
    change(workspace, **{section: values})
    output = dvc(workspace, "repro")
    assert ran(output) == stages
    changed = {name for name, digest in digests(workspace / "data").items() if digest != before.get(name)}
    assert changed == ({"model/model.keras", "model/model.tflite", "model/model.json"} if "train" in stages else set())
    assert dvc(workspace, "status").strip() == "Data and pipelines are up to date."


@pytest.mark.proof
def test_imports_leave_no_bytecode_that_would_make_a_stage_stale(workspace: Path) -> None:
    """Neither here nor in cv/, whose .dvcignore does not reach the rooms."""
    written = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    code = "import sys; sys.path.insert(0, 'stages'); import mammo.commands, mammo.learning.training, preprocess"
    run(workspace, "python", "-c", code, environment=written)
    assert not [room for room in (workspace / "stages/mammo").iterdir() if (room / "__pycache__").exists()]
    assert dvc(workspace, "status").strip() == "Data and pipelines are up to date."


def test_the_stages_stand_in_their_order_each_with_one_line(workspace: Path) -> None:
    lines = [line.split(maxsplit=1) for line in dvc(workspace, "stage", "list").splitlines()]
    described = yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"]
    assert [name for name, _ in lines] == STAGES
    assert dict(lines) == {name: stage["desc"] for name, stage in described.items() if "desc" in stage}
    arrows = set(re.findall(r'"(\w+)" -> "(\w+)";', dvc(workspace, "dag", "--dot")))
    assert set(itertools.pairwise(STAGES)) <= arrows
    assert all(STAGES.index(tail) < STAGES.index(head) for tail, head in arrows)


# Branches


def leaves(content: Any, above: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    if not isinstance(content, dict):
        return {above: content}
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= leaves(value, f"{above}.{key}" if above else key)
    return flat


def committed(folder: Path, revision: str, name: str) -> str:
    return git(folder, "show", f"{revision}:{name}")


@pytest.fixture(scope="module")
def fresh(two_branches: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh clone of both branches, nothing pulled, with `faster` checked out."""
    folder = clone(two_branches, tmp_path_factory.mktemp("fresh") / "clone")
    git(folder, "branch", "main", "origin/main")
    assert not (folder / "data/model").exists()
    return folder


def test_params_diff_shows_the_one_setting_that_differs(fresh: Path) -> None:
    difference = {"train.learning_rate": {"old": 0.001, "new": 0.002, "diff": 0.001}}
    assert asked(fresh, "params", "diff", "main") == {"params.yaml": difference}


def test_metrics_diff_shows_every_number_that_differs_in_both_revisions(fresh: Path) -> None:
    shown = asked(fresh, "metrics", "diff", "main")
    expected = {}
    for path in sorted((fresh / "metrics").glob("*.json")):
        name = f"metrics/{path.name}"
        old, new = (leaves(json.loads(committed(fresh, revision, name))) for revision in ("main", "faster"))
        differing = {key: (old[key], new[key]) for key in old if old[key] != new[key]}
        if differing:
            expected[name] = differing
    changed = ("train", "test", "units", "subgroups", "operating_points", "calibration", "explanation")
    assert set(expected) == {f"metrics/{name}.json" for name in changed}
    assert {"roc_auc.value", "roc_auc.low"} <= set(expected["metrics/test.json"])
    found = {name: {key: (one["old"], one["new"]) for key, one in file.items()} for name, file in shown.items()}
    assert found == expected


def test_plots_diff_draws_the_points_of_both_revisions(fresh: Path) -> None:
    shown = asked(fresh, "plots", "diff", "main")
    assert not shown.get("errors")
    drawn = {
        "Scores": "scores",
        "ROC curve": "roc",
        "Precision and recall": "pr",
        "Calibration": "calibration",
        "Decision curve": "decision",
        "Confusion matrix": "confusion",
        "Subgroups": "subgroups",
        "plots/history.csv": "history",
    }
    assert set(shown["data"]) == set(drawn)
    for title, name in drawn.items():
        (plot,) = shown["data"][title]
        assert plot["revisions"] == ["workspace", "main"]
        for label, revision in (("workspace", "faster"), ("main", "main")):
            points = [point for point in plot["content"]["data"]["values"] if point["rev"] == label]
            rows = list(csv.DictReader(io.StringIO(committed(fresh, revision, f"plots/{name}.csv"))))
            assert rows
            assert [{key: point[key] for key in rows[0]} for point in points] == rows, (title, revision)


def test_plots_diff_writes_a_page_with_both_revisions(fresh: Path) -> None:
    output = dvc(fresh, "plots", "diff", "main", "--out", ".dvc/tmp/page")
    page = (fresh / ".dvc/tmp/page/index.html").read_text()
    assert "ROC curve, test images" in page
    assert '"rev": "main"' in page and '"rev": "workspace"' in page
    assert "Traceback" not in output and "ERROR" not in output
    assert not (fresh / ".dvc/tmp/page/static").exists(), "pictures are DVC's, and nothing was pulled"


def test_plots_diff_copies_the_pictures_of_both_revisions_from_the_cache(two_branches: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(two_branches, tmp_path / "workspace", symlinks=True))
    assert dvc(folder, "status").strip() == "Data and pipelines are up to date."
    dvc(folder, "plots", "diff", "main", "faster", "--out", "page")
    git(folder, "checkout", "--quiet", "main")
    dvc(folder, "checkout")
    made = sorted(path for name in ("audit", "explanation") for path in (folder / "plots" / name).iterdir())
    assert {path.stem for path in made} >= {"splits", "true_positives"}
    for path in made:
        copy = folder / f"page/static/main_plots_{path.parent.name}_{path.name}"
        assert copy.read_bytes() == path.read_bytes()
    assert list(folder.glob("page/static/faster_plots_explanation_*.png"))


@pytest.mark.proof
def test_going_back_restores_the_model_without_training(two_branches: Path, tmp_path: Path, first: Run) -> None:
    folder = Path(shutil.copytree(two_branches, tmp_path / "workspace", symlinks=True))
    model = digests(first.folder / "data/model")
    assert digests(folder / "data/model") != model
    git(folder, "checkout", "--quiet", "main")
    output = dvc(folder, "repro")
    assert (ran(output), restored(output)) == (["evaluate", "report"], ["train"])
    assert digests(folder / "data/model") == model
    assert git(folder, "status", "--porcelain") == ""


@pytest.mark.proof
def test_a_setting_put_back_finds_its_training_in_the_run_cache(two_branches: Path, tmp_path: Path, first: Run) -> None:
    folder = Path(shutil.copytree(two_branches, tmp_path / "workspace", symlinks=True))
    change(folder, train={"learning_rate": 0.001})
    output = dvc(folder, "repro")
    assert (ran(output), restored(output)) == (["evaluate", "report"], ["train"])
    assert digests(folder / "data/model") == digests(first.folder / "data/model")
    assert git(folder, "diff", "--stat", "main") == ""  # lock, metrics, curves and pictures are main's to the byte


# Experiments


@pytest.mark.parametrize(
    ("setting", "said", "ran_before"),
    [
        ("+train.epoch=3", "train: params.yaml: unknown key train.epoch; the nearest is train.epochs;", ["train"]),
        ("+trian.epochs=3", "report: params.yaml: unknown section trian; the nearest is train;", ["report"]),
    ],
)
def test_an_unknown_key_or_section_fails_the_experiment(
    workspace: Path, setting: str, said: str, ran_before: list[str]
) -> None:
    """DVC itself recommends the plus; no other stage depends on a section that is not there."""
    output = dvc(workspace, "exp", "run", "-S", setting, fails=True)
    assert said in output
    assert ran(output) == ran_before


@pytest.mark.proof
def test_experiments_run_the_code_of_their_own_workspace(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where `mammo` of another checkout is installed or on PYTHONPATH, and also in DVC's temporary workspace."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "stages"))
    code = workspace / "stages/mammo/learning/exported.py"
    as_computed = "np.array(chances, dtype=float)"
    assert code.read_text().count(as_computed) == 1
    code.write_text(code.read_text().replace(as_computed, f"{as_computed}.round(2)"))

    apart = dvc(workspace, "exp", "run", "--temp", "--name", "apart", "-S", "train.epochs=2")
    assert ran(apart) == ["train", "evaluate", "report"]
    assert git(workspace, "diff", "--name-only").split() == [
        "stages/mammo/learning/exported.py"
    ]  # the workspace was left alone
    here = dvc(workspace, "exp", "run", "--name", "here", "-S", "train.epochs=2", "-S", "evaluate.seed=2")
    assert ran(here) == ["evaluate", "report"]  # training was found in the run cache that both share
    assert yaml.safe_load((workspace / "params.yaml").read_text())["train"]["epochs"] == 2

    (head,) = [revision for revision in asked(workspace, "exp", "show") if revision["name"] == "main"]
    listed = {one["revs"][0]["name"]: one["revs"][0] for one in head["experiments"]}
    assert set(listed) == {"apart", "here"}
    for experiment in listed.values():
        shown = experiment["data"]
        assert shown["params"]["params.yaml"]["data"]["train"]["epochs"] == 2
        scores = json.loads(committed(workspace, experiment["rev"], "metrics/test.json"))
        assert shown["metrics"]["metrics/test.json"]["data"] == scores
        table = committed(workspace, experiment["rev"], "plots/predictions.csv")
        values = [row["probability"] for row in csv.DictReader(io.StringIO(table))]
        assert len(values) > 20 and all(len(value) <= 4 for value in values), values
    before = csv.DictReader(io.StringIO(committed(workspace, "main", "plots/predictions.csv")))
    assert max(len(row["probability"]) for row in before) > 10


# Failures


def test_after_a_failed_stage_no_score_stands_until_a_run_succeeds(workspace: Path, first: Run) -> None:
    scores = workspace / "metrics/test.json"
    assert "ROC AUC" in told(workspace, "mammo", "scores")
    change(workspace, preprocess={"size": [8, 8]})
    output = dvc(workspace, "repro", fails=True)
    assert "preprocess.size.0 is 8; allowed is greater than or equal to 32" in output
    assert ran(output) == ["preprocess"]
    assert not scores.exists()
    assert "no run has finished here; run `dvc repro`" in told(workspace, "mammo", "scores", fails=True)
    shown = asked(workspace, "metrics", "show")[""]["data"]
    assert "data" in shown["metrics/audit.json"] and "data" not in shown["metrics/test.json"]
    assert ran(dvc(workspace, "repro", fails=True)) == ["preprocess"]  # and again: nothing goes on from what was left

    change(workspace, preprocess={"size": [64, 64]})
    output = dvc(workspace, "repro")
    assert (ran(output), restored(output)) == (["evaluate"], ["preprocess"])
    assert git(workspace, "status", "--porcelain") == ""  # the scores are back, to the byte
    assert digests(workspace / "data") == digests(first.folder / "data")


@pytest.mark.proof
def test_a_leak_stops_before_training_until_the_user_goes_on_and_then_marks_the_scores(workspace: Path) -> None:
    change(workspace, split={"by": "folder"}, data={"phantom": {"plant": {"leaked_patients": 3}}})
    for stages in (["download", "preprocess", "audit"], ["audit"]):  # the second time the leak is still one
        output = dvc(workspace, "repro", fails=True)
        assert ran(output) == stages
        assert "3 patients are in more than one split" in output
        assert not (workspace / "metrics/test.json").exists()
    change(workspace, audit={"on_leak": "warn"})
    assert ran(dvc(workspace, "repro")) == ["audit", "train", "evaluate", "report"]
    scores = read(workspace / "metrics/test.json")
    assert scores["leaking"] is True
    assert scores["test_images_of_training_patients"] == 3
    assert "LEAKING" in told(workspace, "mammo", "scores")


# Other sources


def photographs(path: Path, patients: int = 50) -> Path:
    """A ZIP archive laid out and named as the Kaggle set: noise, with a bright square in class 1."""
    random = np.random.default_rng(7)
    with zipfile.ZipFile(path, "w") as archive:
        for patient in range(patients):
            split, label = ("train", "train", "train", "valid", "test")[patient // 2 % 5], patient % 2
            for view in range(2):
                image = random.normal(90, 20, (80, 80))
                image[30:50, 30:50] += 50 * label
                _, jpeg = cv2.imencode(".jpg", image.clip(0, 255).astype(np.uint8))
                name = f"{split}/{label}/{patient + 100}_{patient * 31 + view}_png.rf.{view:032x}.jpg"
                archive.writestr(name, jpeg.tobytes())
    return path


def test_the_kaggle_set_runs_to_the_end_and_its_files_in_a_folder_are_prepared_to_the_same_bytes(
    workspace: Path, tmp_path: Path
) -> None:
    link_environment(workspace)
    archive = photographs(tmp_path / "archive.zip")
    change(workspace, train={"epochs": 6, "batch": 8})  # 60 images to learn from: 8 steps an epoch
    with serve(archive) as server:
        output = shell(workspace, FROM_KAGGLE, server.environment)
        assert [request.method for request in server.requests] == ["POST", "GET"]
    assert ran(output) == STAGES
    assert read(workspace / "data/model/model.json")["trained_on"]["source"] == "kaggle"
    assert read(workspace / "metrics/test.json")["patients"]["value"] == 10
    assert read(workspace / "metrics/test.json")["roc_auc"]["value"] > 0.9
    prepared = digests(workspace / "data/prepared")
    assert set(prepared) == {"images.npy", "index.csv", "files.csv", "about.json", "set.json"}
    assert read(workspace / "data/prepared/about.json")["source"] == "kaggle"
    index = (workspace / "data/prepared/index.csv").read_text()
    assert len(index.splitlines()) == 101

    with zipfile.ZipFile(archive) as content:
        content.extractall(workspace / "data/own")
    change(workspace, data={"source": "folder", "pseudonyms": False})
    assert ran(dvc(workspace, "repro", "preprocess")) == ["download", "preprocess"]  # the same images, told by source
    again = digests(workspace / "data/prepared")
    assert {name for name in again if again[name] != prepared[name]} == {"about.json"}
    assert set(prepared) - set(again) == {"set.json"}  # the licence, which own images have not
    assert read(workspace / "data/prepared/about.json")["source"] == "folder"
    (workspace / "data/own/train/0/100_0_png.rf.00000000000000000000000000000000.jpg").unlink()
    assert asked(workspace, "status", "download")["download"] == [{"changed deps": {"data/own": "modified"}}]
