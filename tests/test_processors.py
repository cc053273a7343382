"""Proof: what differs between processors. `pytest -m proof -s tests/test_processors.py` prints the table.

Another processor is emulated (qemu-user, 10 times slower) where `qemu-x86_64` is installed: one without AVX-512, whose
approximate reciprocals have other last bits than those of any maker. A lesser one is pretended: a library that is told
to leave out instruction sets chooses the code that it would choose on a processor without them.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from mammo.core import processor
from mammo.core.settings import Network

import pytest
from conftest import ROOT, TRAIN_PATHS, run_stage, write_params, write_prepared, write_shortcut
from miniature import change

FLAGS = processor._flags()
pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif("avx2" not in FLAGS, reason="only a processor with avx2 or more can pretend to be a lesser one"),
]
WIDER = pytest.mark.skipif("avx512f" not in FLAGS, reason="this processor has no avx512f to be left out")
WITH_ALL = pytest.mark.skipif("avx512_bf16" not in FLAGS, reason="this processor has no avx512_bf16")
EMULATED = pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-x86_64 is not installed")


class Processor(NamedTuple):
    """A processor on which a stage is run."""

    environment: dict[str, str] = {}  # noqa: RUF012  # never changed
    emulator: Sequence[str] = ()


OWN = Processor()
HASWELL = Processor(emulator=("qemu-x86_64", "-cpu", "Haswell"))
UNLIMITED = Processor({"ONEDNN_MAX_CPU_ISA": "ALL"})
NO_BF16 = Processor({"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "NPY_DISABLE_CPU_FEATURES": "AVX512_SPR"})
WITHOUT_AVX2 = Processor(
    {
        "ONEDNN_MAX_CPU_ISA": "AVX",
        "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2,AVX512_SKX",
        "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
        "OPENBLAS_CORETYPE": "Nehalem",
        "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
    }
)
IMAGENET = {"network": "EfficientNetLite0", "weights": "imagenet"}
TRAININGS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "compact": {"network": "compact"},
    "frozen": {**IMAGENET, "frozen": True, "epochs": 1},
    "fine-tuned": {**IMAGENET, "frozen": True, "thawed": 3, "epochs": 1},
    "logistic": {**IMAGENET, "frozen": True, "head": "logistic", "epochs": 2, "size": 64},
}
SIGMOID = "EfficientNetV2B0"
"""The network with a sigmoid, which LiteRT computes in another way with AVX-512: the same file, other last bits."""
EXPORTED = (
    "import hashlib, sys; from test_exported import ALL, IMAGES, export, exported, finished;"
    "content = export.litert(finished(sys.argv[1]), 'none'); of = exported.Exported(content).outputs(IMAGES, ALL);"
    "print(*(hashlib.sha256(each).hexdigest()[:8] for each in (content, of.probabilities, of.features.tobytes())))"
)


def run(name: str, *paths: str, folder: Path, on: Processor) -> None:
    done = run_stage(name, *paths, folder=folder, environment=on.environment, emulator=on.emulator)
    assert done.returncode == 0, done.stderr


def digest(*paths: Path) -> str:
    """The first digits of the SHA-256 of files and of all files in folders."""
    found = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return hashlib.sha256(b"".join(file.read_bytes() for file in found if file.is_file())).hexdigest()[:8]


def told(output: str, **of: str) -> None:
    """Print a row of the table."""
    print(f"\n| {output} | " + " | ".join(f"{name} {value}" for name, value in of.items()) + " |", flush=True)


def drawn(folder: Path, on: Processor) -> tuple[str, str]:
    """Digests of some phantoms and of the array made of them."""
    folder.mkdir()
    shutil.copy(ROOT / "params.yaml", folder)
    change(folder, data={"phantom": {"patients": 24}})
    (folder / "own").mkdir()
    run("download", "data/raw", folder=folder, on=on)
    run("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json", folder=folder, on=on)
    return digest(folder / "data/raw"), digest(folder / "data/prepared")


def trained(folder: Path, on: Processor, patients: int = 20, size: int = 40, **train: Any) -> str:
    """Digest of a network, as it is saved and as it is exported, and of its history."""
    folder.mkdir()
    write_prepared(folder, patients, size)
    write_params(folder, train=train, preprocess={"size": [size, size]})
    run("train", *TRAIN_PATHS, folder=folder, on=on)
    return digest(
        *(folder / "data/model" / f"model.{kind}" for kind in ("keras", "tflite")), folder / "plots/history.csv"
    )


@pytest.mark.parametrize("other", [pytest.param(HASWELL, marks=EMULATED), WITHOUT_AVX2], ids=["emulated", "lesser"])
def test_phantoms_and_prepared_images_are_the_same_on_all(other: Processor, tmp_path: Path) -> None:
    here, there = drawn(tmp_path / "here", OWN), drawn(tmp_path / "there", other)
    told("phantoms, prepared images", here=" ".join(here), there=" ".join(there))
    assert here == there


@EMULATED
@pytest.mark.parametrize("name", TRAININGS)
def test_an_emulated_processor_trains_and_scores_alike(name: str, tmp_path: Path) -> None:
    here = trained(tmp_path / "here", OWN, **TRAININGS[name])
    there = trained(tmp_path / "there", HASWELL, **TRAININGS[name])
    told(name, here=here, emulated=there)
    assert here == there
    whole = [tmp_path / where / "data/model/model.json" for where in ("here", "there")]  # thresholds, statistics
    assert whole[0].read_text() == whole[1].read_text()
    if name == "logistic":
        return  # QEMU 7.2 itself ends with a segmentation fault when this one is scored
    scored = []
    for on in (OWN, HASWELL):
        write_shortcut(tmp_path / "here")
        paths = ("data/prepared", "data/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")
        run("evaluate", *paths, folder=tmp_path / "here", on=on)
        scored.append(digest(tmp_path / "here/metrics", tmp_path / "here/plots/predictions.csv"))
    told(f"{name}, scores", here=scored[0], emulated=scored[1])
    assert len(set(scored)) == 1


@EMULATED
@pytest.mark.parametrize("name", get_args(Network))
def test_an_emulated_processor_exports_the_same_bytes_which_compute_alike(name: str) -> None:
    commands = [[*on.emulator, sys.executable, "-c", EXPORTED, name] for on in (OWN, HASWELL)]
    here, there = (
        subprocess.run(command, cwd=ROOT / "tests", capture_output=True, text=True, check=True).stdout.strip()
        for command in commands
    )
    told(f"{name}, exported", here=here, emulated=there)
    shown = 1 if name == SIGMOID else 3
    assert len(here.split()) == 3
    assert here.split()[:shown] == there.split()[:shown]


@WIDER
def test_without_the_limit_wider_instructions_train_another_network(tmp_path: Path) -> None:
    here, wider = trained(tmp_path / "here", OWN), trained(tmp_path / "there", UNLIMITED)
    lesser = trained(tmp_path / "lesser", WITHOUT_AVX2)
    told("baseline", here=here, unlimited=wider, without_avx2=lesser)
    assert len({here, wider, lesser}) == 3


@WITH_ALL
def test_bfloat16_differs_between_the_processors_that_have_it_and_threads_and_precision_are_part_of_the_bytes(
    tmp_path: Path,
) -> None:
    settings: dict[str, dict[str, Any]] = {"as it is": {}, "threads": {"threads": 1}, "bf16": {"precision": "bfloat16"}}
    found = {name: trained(tmp_path / name, OWN, 40, 112, **train) for name, train in settings.items()}
    found["lesser"] = trained(tmp_path / "without", NO_BF16, 40, 112, precision="bfloat16")
    told("baseline", **found)
    assert len(set(found.values())) == 4
