"""A clone runs its own code, whichever clone is installed, and running it makes no stage of it stale."""

import os
import sys
from pathlib import Path

from mammo.core import dataset, files, predictions
from mammo.core.dataset import Entry

import cv2
import numpy as np
import pytest
import yaml
from miniature import dvc, git, run, working_tree

PYTHON = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
PLAIN = {name: text for name, text in os.environ.items() if name not in PYTHON}
"""The environment of a user who has set nothing of Python's."""
EVERYTHING = """
import crossvalidation, fold, pretrain, summarise
import audit, download, evaluate, preprocess, report, train
import importlib, pkgutil, mammo
for module in pkgutil.walk_packages(mammo.__path__, "mammo."):
    importlib.import_module(module.name)
"""


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A clone that is not the installed one."""
    return working_tree(tmp_path / "second")


def write_images(raw: Path) -> None:
    """Two images of each of 60 patients: noise, and in class 1 a bright square."""
    random = np.random.default_rng(3)
    every = [
        Entry(f"train/{patient % 2}/{patient}_{view}.png", patient % 2, "train", str(patient), "")
        for patient in range(60)
        for view in ("CC", "MLO")
    ]
    for entry in every:
        image = random.normal(90, 20, (40, 40))
        image[10:20, 10:20] += 80 * entry.label
        (raw / entry.image).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(raw / entry.image), image.clip(0, 255).astype(np.uint8))
    dataset.write_index(raw, every)


def test_a_fold_runs_the_code_of_its_own_clone_whichever_is_installed(second: Path) -> None:
    """The second clone's code calls the first column of the history otherwise."""
    code = second / "stages/mammo/learning/training.py"
    before = code.read_text()
    code.write_text(before.replace('HISTORY = ("epoch"', 'HISTORY = ("epoch of the second clone"'))
    assert code.read_text() != before
    write_images(second / "data/raw")
    recipe = yaml.safe_load((second / "recipes/baseline.yaml").read_text())
    recipe |= {"preprocess": {"size": [32, 32]}, "train": {"epochs": 3}}
    (second / "recipes/baseline.yaml").write_text(yaml.safe_dump(recipe))
    installed = run(second.parent, sys.executable, "-c", "import mammo; print(mammo.__file__)", environment=PLAIN)
    assert not Path(installed.stdout.strip()).is_relative_to(second)
    settings = "data/settings/baseline.json"
    run(second / "cv", sys.executable, "variant_settings.py", "../recipes", "data/settings", environment=PLAIN)
    run(second / "cv", sys.executable, "fold.py", "../data/raw", settings, "work/baseline/0", environment=PLAIN)
    assert len(predictions.read(second / "cv/work/baseline/0/predictions.csv")) == 20  # without those set aside
    files.read_csv(second / "cv/work/baseline/0/history.csv", ["epoch of the second clone"])


def test_importing_everything_makes_no_stage_stale(second: Path) -> None:
    """One stage here and one in cv/ stand for all: they depend on all folders and files of code that any depends on."""
    for project in (second, second / "cv"):
        stages = yaml.safe_load((project / "dvc.yaml").read_text())["stages"].values()
        code = {
            dep
            for stage in stages
            for dep in stage.get("do", stage)["deps"]
            if dep.endswith(".py") or "stages/mammo/" in dep
        }
        (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"all": {"cmd": "true", "deps": sorted(code)}}}))
        (project / "dvc.lock").unlink()
        dvc(project, "repro")
        assert "up to date" in dvc(project, "status", environment=PLAIN)
    environment = PLAIN | {"PYTHONPATH": os.pathsep.join(str(second / folder) for folder in ("stages", "cv"))}
    run(second, sys.executable, "-c", EVERYTHING, environment=environment)
    assert (second / "cv/__pycache__").is_dir(), "bytecode of what is imported before mammo, which switches it off"
    for project in (second, second / "cv"):
        assert "up to date" in dvc(project, "status", environment=PLAIN)
    assert not [line for line in git(second, "status", "--porcelain").splitlines() if "__pycache__" in line]
