"""`mammo export`: files for other programs that give what was scored, and a description that is held against them."""

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mammo import commands
from mammo.core import files
from mammo.core.errors import UserError
from mammo.core.set_description import Provenance
from mammo.learning import exported
from mammo.predicting import exporting

import cv2
import numpy as np
import pytest
from conftest import ROOT
from documents import PAGES, block, shell

EXPORTING = block("Export")
PAGE = PAGES[ROOT / "docs/export.md"]
LOCKED = ("requirements.txt", "tests/requirements.txt")
RUNTIMES = {"LiteRT": ("ai-edge-litert",), "ONNX": ("onnxruntime",), "SavedModel": ("tensorflow", "keras")}
"""Heading in docs/export.md and packages of each format."""


def code_below(heading: str) -> str:
    """The Python code below a heading of docs/export.md."""
    found = re.search(rf"^## {heading}$.*?^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert found
    assert found[1].count("\n") <= 12
    return found[1]


@pytest.fixture(scope="module")
def exports(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the commands of docs/export.md were run, with a scan; what they said is in said.txt."""
    folder = tmp_path_factory.mktemp("exports")
    (folder / "data").symlink_to(trained / "data")
    cv2.imwrite(str(folder / "scan.png"), np.random.default_rng(1).integers(0, 256, (80, 80), dtype=np.uint8))
    (folder / "said.txt").write_text(shell(folder, EXPORTING))
    return folder


def test_every_format_has_the_readings_of_the_file_that_was_scored(exports: Path) -> None:
    said = (exports / "said.txt").read_text()
    differences = re.findall(
        r"on 24 test images of data/prepared: .* differ by at most (\S+); readings that flip: none", said
    )
    assert len(differences) == 3 and differences[0] == "0.0e+00" and all(float(each) < 1e-5 for each in differences)
    assert "exported/onnx/model.onnx is as metadata.json describes it: hashes, 3 tensors, and 3 examples" in said
    scored = exports / "data/model" / exported.NAME
    assert (exports / "exported/litert" / exported.NAME).read_bytes() == scored.read_bytes()


def test_metadata_says_what_goes_in_and_what_comes_out(exports: Path) -> None:
    for kind in exporting.FILES:
        about = files.read_json(exports / "exported" / kind / "metadata.json")
        assert about["format"] == kind
        assert about["inputs"]["image"]["shape"] == ["batch", 40, 40, 1]
        assert about["outputs"]["probabilities"]["shape"] == ["batch", 2]
        assert about["outputs"]["features"]["shape"] == ["batch", 32]
        assert {each["type"] for each in (about["inputs"] | about["outputs"]).values()} == {"float32"}
        assert about["model"] == files.read_json(exports / "data/model/model.json")
        assert "research only" in about["notice"]


@pytest.fixture(scope="module")
def expected(exports: Path) -> float:
    """What `mammo predict` says of the scan."""
    (answer,) = json.loads(shell(exports, ["mammo predict --json scan.png"]))["images"]
    return answer["probability"]


@pytest.mark.parametrize("heading", RUNTIMES)
def test_the_code_of_the_docs_gives_the_answer_of_predict(heading: str, exports: Path, expected: float) -> None:
    last = "\nimport sys; assert 'mammo' not in sys.modules"
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    command = [sys.executable, "-I", "-c", code_below(heading) + last]
    done = subprocess.run(command, cwd=exports, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(expected, abs=1e-5)
    assert heading != "LiteRT" or float(done.stdout) == pytest.approx(expected, abs=1e-7), "the same file"


@pytest.mark.proof
@pytest.mark.parametrize("heading", RUNTIMES)
def test_the_code_of_the_docs_runs_where_only_its_runtime_is_installed(
    heading: str, exports: Path, expected: float, tmp_path: Path
) -> None:
    """In a new environment, with the pinned versions; needs the internet."""
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)", "".join((ROOT / each).read_text() for each in LOCKED), re.MULTILINE))
    wanted = [f"{name}=={pinned[name]}" for name in (*RUNTIMES[heading], "numpy", "opencv-python-headless")]
    installed = subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], capture_output=True, text=True)
    if "Temporary failure in name resolution" in installed.stderr or "Network is unreachable" in installed.stderr:
        pytest.skip("no internet")
    assert installed.returncode == 0, installed.stderr
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([python, "-c", code_below(heading)], cwd=exports, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(expected, abs=1e-5)


# What is refused


def refusal(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that `mammo export` prints where it refuses."""
    assert commands.main(["export", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("mammo export: ") and said.err.count("\n") == 1
    return said.err


def changed(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = files.read_json(folder / "metadata.json")
    change(content)
    files.write_json(folder / "metadata.json", content)


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no description": (lambda folder: (folder / "metadata.json").unlink(), "metadata.json does not exist"),
    "no file": (lambda folder: (folder / "model.onnx").unlink(), "model.onnx does not exist, but "),
    "changed": (lambda folder: (folder / "model.onnx").write_bytes(b"x"), "model.onnx is not the file that "),
    "another shape": (
        lambda folder: changed(folder, lambda about: about["inputs"]["image"].update(shape=["batch", 64, 40, 1])),
        "model.onnx takes and returns {",
    ),
    "another answer": (
        lambda folder: changed(folder, lambda about: about["examples"][0].update(probability_of_cancer=0.999)),
        "model.onnx computes something else than metadata.json says: a probability differs by ",
    ),
    "another form": (lambda folder: changed(folder, lambda about: about.update(format="pickle")), "format is 'pickle'"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_check_finds_what_is_wrong(
    fault: str, exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, message = FAULTS[fault]
    folder = Path(shutil.copytree(exports / "exported/onnx", tmp_path / "onnx"))
    spoil(folder)
    assert message in refusal(["--check", str(folder)], capsys)


def test_a_set_whose_licence_keeps_weights_private_is_not_exported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Path(shutil.copytree(trained / "data/model", tmp_path / "model"))
    info = files.read_json(model / "model.json")
    data_set = Provenance(
        name="embed", title="EMBED", address="web", licence="terms", citation="none", weights="private"
    )
    info["trained_on"] |= {"source": "set", "data_set": data_set.model_dump()}
    files.write_json(model / "model.json", info)
    said = refusal(["--format", "litert", "--model", str(model), str(tmp_path / "out")], capsys)
    assert "mammo export refused: the model was trained on EMBED, whose licence forbids the release of weights" in said
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_is_not_replaced(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    said = refusal(["--format", "litert", "--model", str(trained / "data/model"), str(tmp_path)], capsys)
    assert "holds something else; name a new folder" in said
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_with_other_readings_is_refused() -> None:
    def outputs(*chances: float) -> exported.Outputs:
        return exported.Outputs(np.array(chances), np.zeros((len(chances), 1)))

    parity = exporting._parity(outputs(0.2, 0.7), outputs(0.2, 0.70001), {"half": 0.5}, "2 images")
    assert (parity.images, parity.readings_that_flip) == (2, 0)
    assert parity.maximum_difference == pytest.approx(1e-5)
    with pytest.raises(UserError, match=r"differ by up to 2\.0e-06, and 1 reading at the locked thresholds"):
        exporting._parity(outputs(0.499999), outputs(0.500001), {"half": 0.5}, "1 image")
    with pytest.raises(UserError, match="is not the model that was scored"):
        exporting._parity(outputs(0.1), outputs(0.2), {"half": 0.5}, "1 image")
