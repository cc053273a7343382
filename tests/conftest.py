"""What several test files start from."""

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mammo.core import dataset, predictions, processor
from mammo.core.settings import Canonical

import numpy as np
import pytest
import yaml
from filelock import FileLock
from miniature import ROOT, Run, first_run, merged

LONG = ("documents", "audit", "validation", "pipeline", "experiments", "bench", "engine", "evaluate", "page", "train")
"""Files that take half a minute and more, the first to be run: else one process would wait at the end for the other.

The first makes the miniature that most others want; the second, which runs beside it, does without.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the long files come first, in the order of `LONG`; all others keep theirs."""
    place = {f"test_{name}": position for position, name in enumerate(LONG)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONG)))


def run_stage(
    name: str, *paths: str, folder: Path, environment: dict[str, str] | None = None, emulator: Sequence[str] = ()
):
    """Run `python stages/NAME.py PATH…` in `folder` as DVC does; gives the completed process with its text."""
    return subprocess.run(
        [*emulator, sys.executable, ROOT / "stages" / f"{name}.py", *paths],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(autouse=True)
def _limited() -> None:
    """Set one arithmetic again: what computes in bfloat16 lifts a limit for the rest of its process."""
    processor.limit()


@pytest.fixture(scope="session")
def mammograms() -> Path:
    """The folder of real mammograms; tests that want it are skipped without it."""
    folder = os.environ.get("MAMMOGRAMS")
    if not folder:
        pytest.skip("the environment variable MAMMOGRAMS names no folder of real mammograms")
    return Path(folder)


SMALL: dict[str, Any] = {
    "data": {"source": "folder"},
    "preprocess": {"size": [40, 40]},
    "augment": {"rotation_range": 5, "width_shift_range": 0.02, "height_shift_range": 0.02, "zoom_range": 0.02},
    "train": {"epochs": 4, "patience": 4, "batch": 16},
    "evaluate": {"resamples": 200},
}
"""What `write_params` sets otherwise than the project's params.yaml."""


def write_params(folder: Path, **sections: dict[str, Any]) -> None:
    """Write a whole params.yaml: the project's, with the values of `SMALL` and then those of `sections` in place."""
    params = merged(merged(yaml.safe_load((ROOT / "params.yaml").read_text()), SMALL), sections)
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def write_prepared(folder: Path, patients: int = 60, size: int = 40, contrast: float = 60) -> Path:
    """A data/prepared in miniature, with the gate of a clean audit.

    Noise, and in class 1 a bright square in the middle of `contrast` grey levels.
    """
    random = np.random.default_rng(5)
    entries, images = [], []
    for patient in range(patients):
        split = ("train", "train", "train", "valid", "test")[patient // 2 % 5]
        for view in ("CC", "MLO"):
            image = random.normal(90, 20, (size, size))
            image[size // 3 : size // 2, size // 3 : size // 2] += contrast * (patient % 2)
            images.append(image.clip(0, 255).astype(np.uint8))
            name = f"{split}/{patient % 2}/{patient:04d}_{view}.png"
            entries.append(dataset.Entry(name, patient % 2, split, f"{patient:04d}", ""))
    prepared = folder / "data/prepared"
    prepared.mkdir(parents=True)
    np.save(prepared / "images.npy", np.stack(images))
    dataset.write_index(prepared, entries)
    dataset.write_about(prepared, dataset.About(source="folder", canonical=Canonical(), images_without_patient=0))
    (folder / "data/gate.json").write_text('{"leaking": false}')
    return prepared


def write_shortcut(folder: Path, prepared: str = "data/prepared") -> None:
    """A plots/shortcut.csv as the audit writes it: probabilities by chance for the test images of `prepared`."""
    random = np.random.default_rng(6)
    rows = [
        predictions.Prediction(
            entry.image, entry.patient_key, entry.label, probability := random.random(), int(probability >= 0.5)
        )
        for entry in dataset.read_index(folder / prepared)
        if entry.split == "test"
    ]
    (folder / "plots").mkdir(exist_ok=True)
    predictions.write(folder / "plots/shortcut.csv", rows)


TRAIN_PATHS = ("data/prepared", "data/gate.json", "data/model", "plots/history.csv", "metrics/train.json")


def copy_inputs(source: Path, target: Path) -> None:
    shutil.copytree(source / "data/prepared", target / "data/prepared")
    shutil.copy(source / "data/gate.json", target / "data")
    shutil.copy(source / "params.yaml", target)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a training has run to its end."""
    folder = tmp_path_factory.mktemp("trained")
    write_prepared(folder)
    write_params(folder)
    done = run_stage("train", *TRAIN_PATHS, folder=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def first(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Run:
    """A clone in miniature after its first run; not to be changed.

    Of several processes of tests the first that wants it makes it for all, and each has a copy.
    """
    if worker_id == "master":
        return first_run(tmp_path_factory.mktemp("first"))
    common = tmp_path_factory.getbasetemp().parent / "first"
    seen = common / "seen.pickle"
    with FileLock(f"{common}.lock"):
        if not seen.exists():
            common.mkdir()
            seen.write_bytes(pickle.dumps(first_run(common)))
    return pickle.loads(seen.read_bytes()).copied(tmp_path_factory.mktemp("first") / "clone")


@pytest.fixture
def workspace(first: Run, tmp_path: Path) -> Path:
    """A copy of the clone after its first run, committed, for a test to change."""
    return Path(shutil.copytree(first.folder, tmp_path / "workspace", symlinks=True))
