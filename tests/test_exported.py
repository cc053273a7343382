"""The exported network: what is scored and what predicts, without TensorFlow, the same bits however it is run."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mammo import commands
from mammo.core import files
from mammo.core.errors import UserError
from mammo.learning import backbones, export, exported, networks, novelty

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import ROOT, write_shortcut

# isort: split
import keras
from tensorflow.lite.tools import flatbuffer_utils

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of Keras

SIZE = (64, 48)
IMAGES = np.random.default_rng(1).integers(0, 256, (9, *SIZE), dtype=np.uint8)
ALL = np.arange(9)
QUICK = ("baseline", "compact")
LARGE = sorted(backbones.BACKBONES)


def finished(name: str, precision: str = "float32") -> keras.Model:
    """A network as it is saved, with something to say."""
    with networks.arithmetic(precision):
        trained = networks.build(name, SIZE, 0.2, 0.3, seed=1)
    random = np.random.default_rng(2)
    trained.layers[-1].set_weights(
        [0.05 * random.normal(size=array.shape) for array in trained.layers[-1].get_weights()]
    )
    return networks.finished(name, trained, 0.2, 0.3)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.proof) for name in LARGE)])
def test_an_exported_network_is_the_same_bytes_and_the_same_bits_however_it_is_run(name: str) -> None:
    network = finished(name, "bfloat16" if name == "compact" else "float32")
    content = export.litert(network, "horizontal")
    networks.forward(networks.compact((32, 32), 0.1, 0.1, 7))  # moves Keras' and TensorFlow's counters on
    assert export.litert(network, "horizontal") == content
    once = exported.Exported(content).outputs(IMAGES, ALL)
    again = exported.Exported(content).outputs(IMAGES, ALL[::-1])
    assert (once.probabilities == again.probabilities[::-1]).all() and (once.features == again.features[::-1]).all()
    for batch, threads in ((1, 2), (2, 1), (9, 2), (9, 3)):
        run = Interpreter(model_content=content, num_threads=threads).get_signature_runner()
        parts = [run(image=IMAGES[first : first + batch, :, :, None].astype(np.float32)) for first in ALL[::batch]]
        assert (np.concatenate([part["probabilities"][:, 1] for part in parts]) == once.probabilities).all()
        assert (np.concatenate([part["features"] for part in parts]) == once.features).all()
    chances = networks.probabilities(networks.forward(network, "horizontal"), IMAGES, ALL)
    features = networks.probabilities(networks.features(network), IMAGES, ALL)
    assert once.probabilities == pytest.approx(chances, abs=1e-5)
    assert once.features == pytest.approx(features, rel=1e-4, abs=1e-5 * np.abs(features).max())


def test_the_flip_is_in_the_file() -> None:
    network = finished("baseline")
    plain, flipped = (exported.Exported(export.litert(network, flip)) for flip in ("none", "vertical"))
    mirrored = np.ascontiguousarray(IMAGES[:, ::-1])
    mean = (plain.outputs(IMAGES, ALL).probabilities + plain.outputs(mirrored, ALL).probabilities) / 2
    assert flipped.outputs(IMAGES, ALL).probabilities == pytest.approx(mean, abs=1e-6)
    assert np.abs(mean - plain.outputs(IMAGES, ALL).probabilities).max() > 1e-5


# Without TensorFlow

BLOCKED = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("tensorflow", "keras"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
"""
RUN = "import sys; from mammo.commands import main; sys.exit(main(sys.argv[1:]))"
NOT_NEEDED = (
    "tensorflow",
    "keras",
    "scipy",
    "sklearn",
    "pandas",
    "matplotlib",
    "dvc",
    "pydicom",
    "h5py",
    "imagecodecs",
)


def python(code: str, *arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.png"
    cv2.imwrite(str(path), cv2.resize(IMAGES[0], (120, 160)))
    return path


def test_predict_answers_where_tensorflow_and_keras_cannot_be_imported(trained: Path, scan: Path) -> None:
    listing = "import sys, atexit; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
    done = python(listing + BLOCKED + RUN, "predict", "--json", scan, folder=trained)
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)["images"]
    assert 0 < answer["probability"] < 1
    assert set(NOT_NEEDED) & set(done.stderr.split()) == set(), "each would cost time"
    refused = python(BLOCKED + RUN, "predict", "--heatmaps", "maps", scan, folder=trained)
    assert refused.returncode != 0 and "is blocked" in refused.stderr, "the block works"


def test_evaluate_needs_tensorflow_only_once_all_tables_are_written(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    write_shortcut(tmp_path)
    script = ROOT / "stages/evaluate.py"
    paths = ("data/prepared", "data/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")
    code = f"{BLOCKED}import runpy; sys.argv[0] = {str(script)!r}; runpy.run_path({str(script)!r}, run_name='__main__')"
    stopped = python(code, *paths, folder=tmp_path)
    assert "is blocked" in stopped.stderr
    early = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert {"plots/predictions.csv", "plots/scores.csv", "plots/roc.png", "metrics/subgroups.json"} <= early
    assert "metrics/test.json" not in early, "it marks a finished run"


def test_a_model_of_an_older_commit_predicts_through_keras(trained: Path, scan: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(trained / "data/model", tmp_path / "model"))
    (model / exported.NAME).unlink()
    info = files.read_json(model / "model.json")
    del info["exported"], info["arithmetic"]["litert"]
    files.write_json(model / "model.json", info)
    now, older = (
        python(RUN, "predict", "--json", "--model", path, scan, folder=trained) for path in ("data/model", model)
    )
    assert older.returncode == 0, older.stderr
    (one,), (other,) = (json.loads(done.stdout)["images"] for done in (now, older))
    assert other["probability"] == pytest.approx(one["probability"], abs=1e-5)
    (model / "model.keras").unlink()
    missing = python(RUN, "predict", "--model", model, scan, folder=trained)
    assert missing.returncode == 1 and "model.keras does not exist: run `dvc repro` or `dvc pull`" in missing.stderr


# A wrong file


def newer(content: bytes) -> bytes:
    """The file as a later LiteRT might write it, with operators of a version that this one does not know."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    for operator in model.operatorCodes:
        operator.version = 99
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


WRONG: dict[str, tuple[Callable[[bytes], bytes | None], bool, str]] = {
    "missing": (lambda _: None, False, "model.tflite does not exist, but "),
    "changed": (lambda content: content[:-1] + b"!", False, "is not the file that"),
    "of another network": (
        lambda _: export.litert(finished("compact"), "none"),
        True,
        "the two files are not of one model",
    ),
    "of another version": (newer, True, "model.tflite cannot be run by LiteRT "),
    "text": (lambda _: b"not a network at all", True, "model.tflite cannot be run by LiteRT "),
    "empty": (lambda _: b"", True, "model.tflite cannot be run by LiteRT "),
    "cut": (lambda content: content[: len(content) // 2], True, "model.tflite cannot be run by LiteRT "),
}


@pytest.mark.parametrize("fault", WRONG)
def test_a_wrong_exported_file_gives_one_line_and_no_answer(
    fault: str, trained: Path, scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, admitted, message = WRONG[fault]
    model = Path(shutil.copytree(trained / "data/model", tmp_path / "model"))
    content = spoil((model / exported.NAME).read_bytes())
    (model / exported.NAME).unlink()
    if content is not None:
        (model / exported.NAME).write_bytes(content)
    if admitted:  # with its hash, as if the folder came from somebody else
        info: dict[str, Any] = files.read_json(model / "model.json")
        info["exported"] = files.sha256(model / exported.NAME)
        files.write_json(model / "model.json", info)
    assert commands.main(["predict", "--model", str(model), str(scan)]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("mammo predict: ") and said.err.count("\n") == 1
    assert message in said.err


def test_features_of_another_number_of_maps_are_refused(tmp_path: Path) -> None:
    known = novelty.reference(np.random.default_rng(1).normal(size=(9, 3)), np.zeros((1, 3)))
    novelty.refuse_unusable(known, 3, tmp_path)
    with pytest.raises(UserError, match="training_features are of 3 feature maps, the network has 4"):
        novelty.refuse_unusable(known, 4, tmp_path)
