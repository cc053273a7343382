"""Every row of every table of bench/ can be measured: in miniature, one round, whatever the numbers are."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT
from miniature import Run

sys.path.insert(0, str(ROOT / "bench"))

import measure
import scale
from run import PEERS, meets

NUMBER = r"-?\d[\d,.]*"
SLEEP = "import time; print('asleep', flush=True); time.sleep(600)"


@pytest.fixture(scope="module")
def tables(first: Run, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What all scripts of bench/ print, and on what they stumbled."""
    command = [sys.executable, ROOT / "tests/bench_miniature.py", tmp_path_factory.mktemp("bench"), first.folder]
    inherited = {name: value for name, value in os.environ.items() if name != "MAMMOGRAMS"}
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_GLOBAL_CONFIG_DIR": str(first.folder / ".dvc/tmp/config"),
        "DVC_SITE_CACHE_DIR": str(first.folder / ".dvc/tmp/site"),
        "TORCHDYNAMO_DISABLE": "1",  # PyTorch's compiler takes longer than all the rest
    }
    done = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def cells(tables: str, *beginnings: str) -> list[str]:
    """The numbers and words of the one line of a table whose first cells begin so."""
    rows = [line.strip("| ").split(" | ") for line in tables.splitlines() if line.startswith("| ")]
    found = [row for row in rows if all(cell.startswith(text) for cell, text in zip(row, beginnings, strict=False))]
    assert len(found) == 1, f"{beginnings} in\n{tables}"
    return found[0]


def show(row: list[str], *patterns: str) -> bool:
    """Whether the cells after the first are of these patterns, `#` standing for a number."""
    return len(row) == len(patterns) + 1 and all(
        re.fullmatch(pattern.replace("#", NUMBER), cell.strip())
        for cell, pattern in zip(row[1:], patterns, strict=True)
    )


RATE, RATIO, MET = "# images/s", r"# \(n = 1\)", r"yes|\*\*no\*\*"


@pytest.mark.parametrize("peer", ["notebook's way", "grey decoding at full size alone"])
def test_preprocessing(tables: str, peer: str) -> None:
    assert show(cells(tables, "preprocessing", "", peer), RATE, f"{re.escape(peer)}.*: {RATE}", RATIO, "≥ #×", MET)


def test_effect_of_scaled_decoding(tables: str) -> None:
    row = cells(tables, "effect of scaled decoding on the pixels of 54 images")
    assert show(row[:3], "mean #, 99 % below #, maximum #", "grey levels of 255 from full-size decoding")


@pytest.mark.parametrize("peer", ["notebook's way", "PyTorch without augmentation", "train_on_batch"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_epoch(tables: str, precision: str, peer: str) -> None:
    if precision == "bfloat16" and not measure.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    if peer.startswith("PyTorch") and not PEERS.exists():
        pytest.skip("PyTorch is not in .venv-bench; `make bench` installs it")
    row = cells(tables, f"training epoch with augmentation, {precision}", "", peer)
    assert show(row, RATE, f"{peer}.*: {RATE}", RATIO, "≥ #×", MET)
    assert peer.startswith("notebook") or precision in row[2]  # the peer computes in the same precision


@pytest.mark.parametrize(("work", "unit"), [("peak anonymous memory", "GB"), ("its growth per image", "kB")])
def test_memory(tables: str, work: str, unit: str) -> None:
    assert show(cells(tables, work), f"# {unit}", f"notebook's way: # {unit}", "#", "≤ 1/#", MET)


@pytest.mark.parametrize("peer", ["one stage, one small file", "one stage that copies the same images"])
def test_repro(tables: str, peer: str) -> None:
    row = cells(tables, "`dvc repro` with nothing to do", "", peer)
    assert show(row, "# s", f"{peer}: # s", r"# \(#–#, n = 2\)", "≤ #×", MET)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_pipeline(tables: str, precision: str) -> None:
    if precision == "bfloat16" and not measure.has_bfloat16():
        pytest.skip("this processor has no instructions for bfloat16")
    row = cells(tables, f"preprocess, train 3 epochs, evaluate; 54 images, {precision}")
    assert show(row, "# s", "notebook's way, scored with intervals over patients: # s", RATIO, "≥ #×", MET)


def test_scale(tables: str) -> None:
    assert show(cells(tables, "54"), *["#"] * 6)


def test_a_million_images_are_extrapolated() -> None:
    numbers = [1000, 2000, 3000]
    linear = [(number / 1000, 1e9 + 2000 * number) for number in numbers]  # 1 ms and 2 kB per image
    slower = [(number / 100, 1e9 + 1000 * number) for number in numbers]
    stages = zip(linear, slower, linear, strict=True)
    *_, fit, slopes = scale.table(numbers, [dict(zip(scale.STAGES, each, strict=True)) for each in stages])
    assert fit == "| 1,000,000, by the fit | 0.3 h | 3.0 | 2.8 h | 2.0 | 0.3 h | 3.0 |"
    assert slopes == "\nmemory per further image: preprocess 2.00 kB, audit 1.00 kB, train 2.00 kB"


def test_predict(tables: str) -> None:
    for work, shown, bar in (("one image, cold", "# s", "≥ 10×, ≤ 0.5 s"), ("its memory", "# MB", "≤ 200 MB")):
        assert show(cells(tables, work), shown, "not in this clone", "", bar)
    assert show(cells(tables, "20 images, with loading"), "# s", "not in this clone", "", "≥ 1×")


def test_scores(tables: str) -> None:
    row = cells(tables, "400 test images, all scores, curves and intervals, 2,000 resamples")
    assert show(row, r"# s \(# s of processor time\), # MB", "under 60 s")


def test_duplicates(tables: str) -> None:
    row = cells(tables, "200")
    assert show(row, *"#" * 6, r"\d\.\d+", "1 of 1", "1 of 1", "0 of 0", "0 of 0", "0", r"yes, 2")


@pytest.mark.parametrize("size", ["224×224", "1024×832"])
def test_dicom(tables: str, size: str) -> None:
    row = cells(tables, "JPEG 2000", size)
    assert show(row, size, "#", "#|–", "#|–", "#", "#|–", "#|–", "#", "#|–")


def test_every_table_names_processor_date_and_commit(tables: str) -> None:
    above = re.findall(r"^([^|\n]+)\n\n\|", tables, re.MULTILINE)
    assert len(above) == 7
    assert all(
        re.match(r".+, \d+ cores, \w+; \d{4}-\d\d-\d\d; commit (\w{7,}\+?|unknown)(; |$)", line) for line in above
    )


@pytest.mark.parametrize(
    ("ratio", "bar", "met"),
    [(1.2, "≥ 1.2×", "yes"), (1.1999, "≥ 1.2×", "**no**"), (1 / 3, "≤ 1/3", "yes"), (0.34, "≤ 1/3", "**no**")],
)
def test_a_ratio_is_held_against_its_bar(ratio: float, bar: str, met: str) -> None:
    assert meets(ratio, bar) == met


# Processes


def test_a_worker_does_its_work_when_called(tmp_path: Path) -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import measure, time; "
    code += "measure.serve(lambda: time.sleep(0.05), n=3)"
    with measure.Worker(sys.executable, "-c", code, ROOT / "bench", cwd=tmp_path) as worker:
        assert worker.about == {"n": 3}
        assert [worker() >= 0.05, worker() >= 0.05] == [True, True]


def test_a_worker_that_fails_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no such file"):
        measure.Worker(sys.executable, "-c", "raise SystemExit('no such file')", cwd=tmp_path)
    code = "print('{}', flush=True); input(); raise SystemExit('out of memory')"
    with (
        measure.Worker(sys.executable, "-c", code, cwd=tmp_path) as worker,
        pytest.raises(RuntimeError, match="out of"),
    ):
        worker()


def test_no_process_outlives_a_row_that_fails(tmp_path: Path) -> None:
    """Neither the command nor what it started, though both would go on for minutes."""
    code = (
        f"import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', {SLEEP!r}]).pid, flush=True); input()"
    )
    with (
        pytest.raises(RuntimeError, match="the row failed"),
        measure.started((sys.executable, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
    ):
        child = int(process.stdout.readline())
        raise RuntimeError("the row failed")
    assert process.poll() is not None
    for _ in range(500):  # the orphan is reaped by whatever adopts it
        status = Path(f"/proc/{child}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.01)
    pytest.fail("the child lives on")


def test_seconds_and_peak_memory_of_a_command(tmp_path: Path) -> None:
    code = "import time; x = bytearray(b'x' * 50_000_000); time.sleep(0.3); del x; time.sleep(0.1)"
    seconds, peak = measure.watched((sys.executable, "-c", code), tmp_path)
    assert seconds >= 0.4
    assert 50e6 < peak < 150e6


def test_a_command_may_fail_in_one_way_alone(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemExit('COLLAPSED')")
    assert measure.watched(command, tmp_path, may_fail_with="COLLAPSED")[0] > 0
    with pytest.raises(RuntimeError, match=r"(?s)failed:.*COLLAPSED"):
        measure.watched(command, tmp_path)


@pytest.mark.parametrize("recipe", ["baseline", "compact"])
def test_networks_of_recipes(tables: str, recipe: str) -> None:
    assert show(cells(tables, f"`{recipe}`"), "#", "# MB", "# ms", RATIO)
