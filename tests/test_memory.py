"""Lack of memory gives one line: it ends a stage, and is never said of a file."""

import subprocess
import sys
from pathlib import Path

from mammo.core.errors import lack_of_memory

import numpy as np
import pytest
from conftest import ROOT
from test_predict import mammogram

TENSORFLOW = """
import sys; sys.argv = ["stages/train.py"]
from mammo.core import stage
from mammo.learning import networks
def main() -> None:
    "Ask for a pebibyte."
    import tensorflow as tf
    tf.zeros((2**20, 2**20, 2**8)) + 1
stage.run(main)
"""
PYTHON = """
import sys; sys.argv = ["stages/preprocess.py"]
from mammo.core import stage
def main() -> None:
    "Ask for a pebibyte."
    import numpy as np
    np.ones(2**47)
stage.run(main)
"""
DICOM = """
import resource, sys, tempfile
from pathlib import Path
from mammo.imaging import dicom, images
limit = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (limit + 24 * 2**20, limit + 24 * 2**20))
try:
    dicom.read(Path(sys.argv[1]), (64, 64))
except MemoryError:
    print("no memory")
except images.UnreadableError as error:
    print(error)
"""


def run(code: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT / "stages"), "PATH": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.parametrize(
    ("code", "name"),
    [pytest.param(TENSORFLOW, "train", marks=pytest.mark.proof), (PYTHON, "preprocess")],
    ids=["TensorFlow", "NumPy"],
)
def test_a_stage_without_memory_ends_in_one_line(code: str, name: str, tmp_path: Path) -> None:
    done = run(code, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name}: the machine's memory is used up (")
    assert done.stderr.count("\n") == 1


def test_a_file_that_memory_does_not_suffice_for_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "large.dcm").write_bytes(mammogram(np.tile(np.arange(4096, dtype=np.uint16), (3000, 1))))
    assert run(DICOM, tmp_path, tmp_path / "large.dcm").stdout == "no memory\n"


def test_other_errors_are_not_taken_for_it() -> None:
    assert lack_of_memory(ValueError("memory")) == ""
