"""Proof: what differs between classes of processors, by having the libraries pretend to run on a lesser one.

`pytest -m proof -s tests/test_processors.py` prints the table. A library that is told to leave out instruction sets
chooses the code that it would choose on a processor without them.
"""

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, TRAIN_PATHS, run_stage, write_params, write_prepared
from miniature import change

CPU = Path("/proc/cpuinfo")
FLAGS = set(CPU.read_text().split()) if CPU.is_file() else set()
pytestmark = [
    pytest.mark.proof,
    pytest.mark.skipif("avx2" not in FLAGS, reason="only a processor with avx2 or more can pretend to be a lesser one"),
]
WITH_ALL = pytest.mark.skipif("avx512_bf16" not in FLAGS, reason="this processor has no avx512_bf16")
AS_IT_IS, AVX512, AVX2, OLDER = "as it is", "with avx512 only", "with avx2 only", "without avx2"
PROCESSORS = {
    AS_IT_IS: ("avx2", {}),
    AVX512: ("avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "NPY_DISABLE_CPU_FEATURES": "AVX512_SPR"}),
    AVX2: (
        "avx512f",
        {
            "ONEDNN_MAX_CPU_ISA": "AVX2",
            "OPENCV_CPU_DISABLE": "AVX512_COMMON,AVX512_SKX,AVX512_CLX,AVX512_CNL,AVX512_ICL",
            "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
            "OPENBLAS_CORETYPE": "Haswell",
        },
    ),
    OLDER: (
        "avx2",
        {
            "ONEDNN_MAX_CPU_ISA": "AVX",
            "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2,AVX512_SKX",
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
            "OPENBLAS_CORETYPE": "Nehalem",
            "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA",
        },
    ),
}
"""Name, the flag of /proc/cpuinfo without which a processor cannot pretend to be it, and how it pretends."""


def digest(*paths: Path) -> str:
    """SHA-256 of files and of all files in folders."""
    found = [file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return hashlib.sha256(b"".join(file.read_bytes() for file in found if file.is_file())).hexdigest()


def drawn(folder: Path, environment: dict[str, str]) -> tuple[str, str]:
    """Digests of some phantoms and of the array made of them."""
    shutil.copy(ROOT / "params.yaml", folder)
    change(folder, data={"phantom": {"patients": 24}})
    (folder / "own").mkdir()
    for name, *paths in (
        ("download", "data/raw"),
        ("preprocess", "data/raw", "data/prepared", "metrics/preprocess.json"),
    ):
        done = run_stage(name, *paths, folder=folder, environment={**os.environ, **environment})
        assert done.returncode == 0, done.stderr
    return digest(folder / "data/raw"), digest(folder / "data/prepared")


def trained(folder: Path, environment: dict[str, str], **train: object) -> str:
    """Digest of a model's weights and of its history."""
    write_prepared(folder)
    write_params(folder, train=train)
    done = run_stage("train", *TRAIN_PATHS, folder=folder, environment={**os.environ, **environment})
    assert done.returncode == 0, done.stderr
    return digest(folder / "data/model/model.keras", folder / "plots/history.csv")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """Digest by output and processor."""
    rows: dict[str, dict[str, str]] = {}
    pretended = {name: environment for name, (flag, environment) in PROCESSORS.items() if flag in FLAGS}
    for name, environment in pretended.items():
        folder = tmp_path_factory.mktemp("processor")
        for part in ("drawn", "float32", "bfloat16", "threads"):
            (folder / part).mkdir()
        raw, prepared = drawn(folder / "drawn", environment)
        digests = {
            "phantoms": raw,
            "prepared": prepared,
            "float32": trained(folder / "float32", environment),
            "float32, threads: 1": trained(folder / "threads", environment, threads=1),
        }
        if name in (AS_IT_IS, AVX512) and "avx512_bf16" in FLAGS:  # on a lesser one oneDNN refuses bfloat16
            digests["bfloat16"] = trained(folder / "bfloat16", environment, precision="bfloat16")
        for output, value in digests.items():
            rows.setdefault(output, {})[name] = value[:8]
    print("\n\n| output | " + " | ".join(pretended) + " |\n|---|" + "---|" * len(pretended))
    for output, values in rows.items():
        print(f"| {output} | " + " | ".join(values.get(name, "–") for name in pretended) + " |")
    return rows


def test_phantoms_and_prepared_images_are_the_same_on_all(table: dict[str, dict[str, str]]) -> None:
    assert len(set(table["phantoms"].values())) == 1
    assert len(set(table["prepared"].values())) == 1


@WITH_ALL
def test_float32_is_the_same_with_and_without_avx512_bf16_and_differs_with_avx2(
    table: dict[str, dict[str, str]],
) -> None:
    whole, avx512, avx2 = (table["float32"][name] for name in (AS_IT_IS, AVX512, AVX2))
    assert whole == avx512 != avx2


@WITH_ALL
def test_threads_and_precision_are_part_of_the_bytes(table: dict[str, dict[str, str]]) -> None:
    assert len({table[output][AS_IT_IS] for output in ("float32", "float32, threads: 1", "bfloat16")}) == 3
