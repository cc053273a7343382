"""Killed at any moment, out of room, run twice at once: what is left, and that the next run ends in the same bytes.

`pytest -m proof -s tests/test_interruptions.py` prints the table of 36 kills (about 20 minutes).
"""

import contextlib
import hashlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mammo.core import dataset
from mammo.core.randomness import generator
from mammo.learning import checkpoint

import cv2
import numpy as np
import psutil
import pytest
import yaml
from conftest import ROOT, TRAIN_PATHS, copy_inputs, write_params
from miniature import STAGES, Run, change, clone, commit, dvc, git, ran, run

SLOW_STAGE = f"""
    import sys, time
    from pathlib import Path

    def wait_for(name):
        while not Path(name).exists():
            time.sleep(0.01)

    if Path("hold").exists():  # before it has begun, as during a long import
        Path("held").touch()
        wait_for("go")

    sys.path.insert(0, {str(ROOT / "stages")!r})
    from mammo.core import files, stage

    def main(out: Path) -> None:
        Path("began").touch()
        wait_for("go")
        files.write_text(out, "whole")

    stage.run(main)
"""


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    """Wait for `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def environment() -> dict[str, str]:
    """The one of this process, with the `python` and `dvc` of the tests first on the path."""
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def running_in(folder: Path) -> list[psutil.Process]:
    """Processes that work in `folder`, dead ones left out."""
    found = []
    for process in psutil.process_iter(["cwd", "status"]):
        if process.info["cwd"] == str(folder.resolve()) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def kill_all_in(folder: Path) -> None:
    for process in running_in(folder):
        process.kill()


@pytest.fixture
def slow(tmp_path: Path) -> Path:
    """A folder with a stage that waits for the file `go`."""
    (tmp_path / "slow.py").write_text(textwrap.dedent(SLOW_STAGE))
    return tmp_path


# A stage and the dvc that started it


def begin_dvc(folder: Path, command: str) -> subprocess.Popen:
    """`dvc repro` of one stage, `command`, in a process group of its own."""
    subprocess.run(["dvc", "init", "--no-scm", "--quiet"], cwd=folder, env=environment(), check=True)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"slow": {"cmd": command, "outs": ["out"]}}}))
    return subprocess.Popen(["dvc", "repro"], cwd=folder, env=environment(), start_new_session=True)


@pytest.mark.parametrize("command", ["python slow.py out", "python slow.py out; true"], ids=["alone", "below a shell"])
def test_a_stage_ends_with_the_dvc_that_started_it(slow: Path, command: str) -> None:
    started = begin_dvc(slow, command)
    try:
        until((slow / "began").exists)
        started.kill()
        started.wait()
        until(lambda: not running_in(slow), seconds=20)
        assert not (slow / "out").exists()
    finally:
        kill_all_in(slow)


def test_a_stage_whose_dvc_was_gone_before_it_began_does_not_begin(slow: Path) -> None:
    (slow / "hold").touch()
    started = begin_dvc(slow, "python slow.py out")
    try:
        until((slow / "held").exists)
        started.kill()
        started.wait()
        (slow / "go").touch()
        until(lambda: not running_in(slow), seconds=20)
        assert not (slow / "began").exists()
        assert not (slow / "out").exists()
    finally:
        kill_all_in(slow)


def test_a_stage_started_by_hand_outlives_its_shell(slow: Path) -> None:
    shell = subprocess.Popen(["sh", "-c", "python slow.py out & wait"], cwd=slow, env=environment())
    try:
        until((slow / "began").exists)
        shell.kill()
        shell.wait()
        time.sleep(0.5)  # in which a stage of dvc's would have ended
        (slow / "go").touch()
        until((slow / "out").exists)
        assert (slow / "out").read_text() == "whole"
    finally:
        kill_all_in(slow)


def test_a_second_stage_in_a_workspace_waits_for_the_first_and_says_so(slow: Path) -> None:
    one = subprocess.Popen([sys.executable, "slow.py", "one"], cwd=slow)
    until((slow / "began").exists)
    (slow / "began").unlink()
    (slow / "metrics").mkdir()
    (slow / "metrics/test.json").touch()  # of the first, as far as the second can know
    command = [sys.executable, "slow.py", "two"]
    try:
        with subprocess.Popen(command, cwd=slow, stdout=subprocess.PIPE, text=True) as two:
            assert two.stdout is not None
            assert two.stdout.readline() == f"slow: waiting for slow (process {one.pid}), which still runs here\n"
            assert (slow / "metrics/test.json").exists()
            assert not (slow / "began").exists()
            (slow / "go").touch()
            assert [one.wait(timeout=60), two.wait(timeout=60)] == [0, 0]
        assert [(slow / name).read_text() for name in ("one", "two")] == ["whole", "whole"]
    finally:
        kill_all_in(slow)


@pytest.mark.proof
def test_no_worker_outlives_a_killed_download_and_the_next_one_is_whole(tmp_path: Path) -> None:
    command = [sys.executable, ROOT / "stages/download.py", "data/raw"]
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    for folder in (undisturbed, killed):
        (folder / "own").mkdir(parents=True)
        write_params(folder, data={"source": "phantom", "phantom": {"patients": 20, "size": 96}})
    subprocess.run(command, cwd=undisturbed, check=True)
    stage = subprocess.Popen(command, cwd=killed)
    try:
        until(lambda: any((killed / "data").rglob("*.png")))
        stage.kill()
        stage.wait()
        until(lambda: not running_in(killed), seconds=20)
    finally:
        kill_all_in(killed)
    assert not (killed / "data/raw").exists()
    subprocess.run(command, cwd=killed, check=True)
    assert digests(killed / "data/raw") == digests(undisturbed / "data/raw")
    assert sorted(path.name for path in (killed / "data").iterdir()) == ["raw", "state"]


EVALUATE = ("data/prepared", "data/model", "plots/shortcut.csv", "plots/history.csv", "metrics", "plots")


@pytest.mark.proof  # half a minute of processor time; the 36 kills below have all stages
@pytest.mark.parametrize(
    ("stage", "paths"), [("evaluate", EVALUATE), ("report", ("data/model", "metrics", "plots", "report"))]
)
def test_a_killed_evaluate_or_report_leaves_whole_files_and_the_next_one_the_same(
    workspace: Path, stage: str, paths: tuple[str, ...]
) -> None:
    whole = outcome(workspace)
    declared = yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"][stage]
    every = [*declared["outs"], *declared.get("metrics", [])]
    outs = [next(iter(out)) if isinstance(out, dict) else out for out in every]
    for out in outs:  # as DVC removes them
        shutil.rmtree(workspace / out) if (workspace / out).is_dir() else (workspace / out).unlink()
    command = [sys.executable, ROOT / f"stages/{stage}.py", *paths]
    process = subprocess.Popen(command, cwd=workspace)
    try:
        until(lambda: process.poll() is not None or any((workspace / out).exists() for out in outs))
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it had ended before it was killed"
    finally:
        kill_all_in(workspace)
    left = {name: digest for name, digest in digests(workspace).items() if name in whole and name != "dvc.lock"}
    assert {name for name, digest in left.items() if whole[name] != digest} == set()
    subprocess.run(command, cwd=workspace, check=True, stdout=subprocess.DEVNULL)
    assert differing(outcome(workspace), whole) == []
    assert list(workspace.rglob(".*.partial")) == []


def test_a_clock_that_was_set_back_hides_no_change(workspace: Path) -> None:
    future = time.time() + 400 * 86400
    for path in workspace.rglob("*"):
        if path.is_file() and ".git" not in path.parts and ".dvc" not in path.parts:
            os.utime(path, (future, future))
    assert ran(dvc(workspace, "repro")) == []
    style = workspace / "stages/mammo/reporting/run.py"
    style.write_text(style.read_text().replace('"""', '""" ', 1))
    past = time.time() - 400 * 86400
    os.utime(style, (past, past))
    assert ran(dvc(workspace, "repro", "--dry"))[-1:] == ["report"]


def test_git_sees_neither_state_nor_pieces() -> None:
    if subprocess.run(["git", "rev-parse"], cwd=ROOT, capture_output=True).returncode != 0:
        pytest.skip("not in a git repository")
    names = ["data/state/lock", "data/state/state.npz", "data/state/.state.npz.partial"]
    names += ["data/.raw.partial/x", "plots/.roc.png.partial", "metrics/.test.json.partial"]
    ignored = subprocess.run(["git", "check-ignore", *names], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.split() == names


# No room left


def small_disk(folder: Path, size: str) -> list[str]:
    """What to put before a command for which `folder` is a disk of `size`; skips where that cannot be had."""
    folder.mkdir(parents=True)
    mount = f'mount -t tmpfs -o size={size} tmpfs "{folder}" && "$@"; code=$?; find "{folder}" -type f; exit $code'
    disk = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount, "-"]
    if shutil.which("unshare") is None or subprocess.run([*disk, "true"], capture_output=True).returncode != 0:
        pytest.skip("this machine lets no user mount a small disk")
    return disk


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """40 images of 64×64 to be preprocessed, 160 KiB as an array."""
    random = np.random.default_rng(1)
    entries = []
    for position in range(40):
        name = f"train/{position % 2}/{position:03d}_CC.png"
        path = tmp_path / "data/raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", random.integers(0, 256, (64, 64), np.uint8))[1].tobytes())
        entries.append(dataset.Entry(name, position % 2, "", f"{position:03d}", ""))
    dataset.write_index(tmp_path / "data/raw", entries)
    write_params(tmp_path, preprocess={"size": [64, 64]})
    return tmp_path


def test_preprocessing_onto_a_full_disk_is_told_in_one_line_and_leaves_nothing(raw: Path) -> None:
    disk = small_disk(raw / "small", "100k")
    command = [sys.executable, ROOT / "stages/preprocess.py", "data/raw", "small/prepared", "metrics/preprocess.json"]
    done = subprocess.run([*disk, *command], cwd=raw, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "preprocess: small/prepared could not be written: No space left on device\n"
    assert not (raw / "metrics/preprocess.json").exists()


def test_a_state_that_finds_no_room_leaves_the_one_before(tmp_path: Path) -> None:
    disk = small_disk(tmp_path / "state", "100k")
    code = f"""
        import sys
        sys.path.insert(0, {str(ROOT / "stages")!r})
        from pathlib import Path
        import numpy as np
        from mammo.learning import checkpoint
        from mammo.core.errors import UserError
        checkpoint.store(Path("state"), "key", {{"epoch": 1}}, [np.arange(5000)])
        try:
            checkpoint.store(Path("state"), "key", {{"epoch": 2}}, [np.arange(9000)])
        except UserError as error:
            print(error)
        notes, arrays = checkpoint.load(Path("state"), "key")
        print(notes["epoch"], arrays[0].sum())
    """
    command = [*disk, sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "state/state.npz could not be written: No space left on device",
        f"1 {sum(range(5000))}",
        str(tmp_path / "state/state.npz"),
    ]


def test_training_without_room_for_its_state_is_told_in_one_line_and_leaves_nothing(
    trained: Path, tmp_path: Path
) -> None:
    copy_inputs(trained, tmp_path)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))

    command = [sys.executable, ROOT / "stages/train.py", *TRAIN_PATHS]
    done = subprocess.run(command, cwd=tmp_path, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "train: data/state/state.npz could not be written: File too large\n"
    left = {path.name for path in (tmp_path / "data").rglob("*")}
    assert left == {"prepared", "images.npy", "index.csv", "about.json", "gate.json", "state", "lock"}


def test_a_damaged_state_is_told_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint.store(tmp_path, "key", {}, [np.arange(1000.0)])
    whole = (tmp_path / "state.npz").read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    for damaged in (b"", whole[:100], whole[:-1000], bytes(flipped)):
        (tmp_path / "state.npz").write_bytes(damaged)
        assert checkpoint.load(tmp_path, "key") is None
        assert "state.npz cannot be read" in capsys.readouterr().out
    (tmp_path / "state.npz").write_bytes(whole)
    assert checkpoint.load(tmp_path, "key") is not None


# The same bytes


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below `folder`."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def outcome(workspace: Path) -> dict[str, str]:
    """SHA-256 of dvc.lock and of every output, metric and plot of every stage."""
    found = {"dvc.lock": hashlib.sha256((workspace / "dvc.lock").read_bytes()).hexdigest()}
    for stage in yaml.safe_load((workspace / "dvc.yaml").read_text())["stages"].values():
        for out in [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]:
            path = workspace / (next(iter(out)) if isinstance(out, dict) else out)
            assert path.exists(), f"{path} is missing"
            for file in digests(path) if path.is_dir() else [""]:
                found[str((path / file).relative_to(workspace))] = hashlib.sha256(
                    (path / file).read_bytes()
                ).hexdigest()
    return found


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


@dataclass
class Straight:
    """An uninterrupted run, stage by stage."""

    before: dict[str, Path]
    """Copies of the workspace as it was before each stage, with no later result in any cache."""
    duration: dict[str, float]
    """Seconds from the start of the stage's process to the end of its `dvc`."""
    outcome: dict[str, str]


@pytest.fixture(scope="module")
def straight(first: Run, tmp_path_factory: pytest.TempPathFactory) -> Straight:
    place = tmp_path_factory.mktemp("straight")
    workspace = clone(first.folder, place / "clone")
    change(workspace, train={"epochs": 6, "patience": 6})
    git(workspace, "rm", "--quiet", "-r", "dvc.lock", "metrics/test.json")
    commit(workspace, "more epochs")
    before, duration = {}, {}
    for stage in STAGES:
        before[stage] = Path(shutil.copytree(workspace, place / f"before-{stage}", symlinks=True))
        started = begin_repro(workspace, stage)
        process_of(stage, started)
        begin = time.monotonic()
        assert started.wait() == 0
        duration[stage] = time.monotonic() - begin
    return Straight(before, duration, outcome(workspace))


def begin_repro(workspace: Path, *stages: str) -> subprocess.Popen:
    """`dvc repro` in a process group of its own; what it says goes to `repro.log` beside the workspace."""
    own = {"DVC_SITE_CACHE_DIR": str(workspace / ".dvc/tmp/site")}
    with workspace.with_name(f"{workspace.name}.log").open("a") as log:
        return subprocess.Popen(
            ["dvc", "repro", *stages],
            cwd=workspace,
            env=environment() | own,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def process_of(stage: str, repro: subprocess.Popen) -> psutil.Process:
    """The process of a stage, once `dvc repro` has come to it."""
    found: list[psutil.Process] = []

    def look() -> bool:
        assert repro.poll() is None, f"dvc ended before {stage} began"
        for process in psutil.Process(repro.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if f"stages/{stage}.py" in process.cmdline()[1:2]:
                    found.append(process)
        return bool(found)

    until(look)
    return found[0]


def kill(workspace: Path, what: str, stage: str, moment: float, after_an_epoch: bool) -> bool:
    """Kill `what` of a `dvc repro` so many seconds after `stage` has begun; False where it had ended before."""
    repro = begin_repro(workspace)
    process = process_of(stage, repro)
    if after_an_epoch:
        until(lambda: (workspace / "data/state/state.npz").exists() or repro.poll() is not None)
    time.sleep(moment)
    lock = workspace / "dvc.lock"
    hit = not (lock.exists() and f"  {stage}:" in lock.read_text())  # what is recorded has ended
    try:
        if hit and what == "stage":
            hit = process.status() != psutil.STATUS_ZOMBIE
            process.kill()
        elif hit and what == "dvc":
            repro.kill()
        else:
            os.killpg(repro.pid, signal.SIGKILL)
    except psutil.NoSuchProcess:
        hit = False
    if not hit:
        repro.kill()
    repro.wait()
    return hit


@pytest.mark.proof
def test_kills_at_random_moments_change_no_byte(straight: Straight, tmp_path: Path) -> None:
    print("\n\n| killed | stage | s after its start | went on | `dvc repro` again | outputs identical |")
    print("|---|---|---:|---|---:|---:|")
    identical = 0
    kills = [(what, stage, turn) for stage in STAGES for what in ("dvc", "stage", "group") for turn in (0, 1)]
    for number, (what, stage, turn) in enumerate(kills):
        random = generator(1, "kill", number)
        longest = straight.duration[stage]
        after_an_epoch = stage == "train" and turn == 1
        if after_an_epoch:
            longest /= 4
        while True:  # on a machine whose speed changes, a stage may have ended before its moment
            workspace = Path(shutil.copytree(straight.before[stage], tmp_path / "workspace", symlinks=True))
            moment = float(random.uniform(0, longest))
            if kill(workspace, what, stage, moment, after_an_epoch):
                break
            kill_all_in(workspace)
            shutil.rmtree(workspace)
            longest *= 0.7
        log = workspace.with_name("workspace.log")
        log.write_text("")
        tries = 1
        while begin_repro(workspace).wait() != 0:
            tries += 1
            assert tries <= 3, log.read_text()
        went_on = re.search(r"resuming after epoch (\d+)", log.read_text())
        found = outcome(workspace)
        differs = differing(found, straight.outcome)
        identical += not differs
        state = f"after epoch {went_on[1]}" if went_on else "anew"
        of = f"{len(found) - len(differs)} of {len(straight.outcome)}"
        epoch = " the first epoch" if after_an_epoch else ""
        print(f"| {what} | {stage} | {moment:.2f}{epoch} | {state} | {tries}× | {of} |", flush=True)
        assert not running_in(workspace)
        assert not [path for path in workspace.rglob(".*.partial") if path.exists()]
        assert not (workspace / "data/state/state.npz").exists()
        shutil.rmtree(workspace)
    print(f"\n{identical} of {len(kills)} byte-identical to the uninterrupted run, {len(straight.outcome)} files each")
    assert identical == len(kills) == 6 * len(STAGES)


@pytest.mark.proof
@pytest.mark.parametrize("how", ["again", "one core", "another hash seed"])
def test_a_clean_run_gives_the_same_bytes(straight: Straight, tmp_path: Path, how: str) -> None:
    workspace = Path(shutil.copytree(straight.before["download"], tmp_path / "workspace", symlinks=True))
    one_core = {min(os.sched_getaffinity(0))}
    command = ["taskset", "--cpu-list", str(*one_core), "dvc"] if how == "one core" else ["dvc"]
    extra = {"PYTHONHASHSEED": "7"} if how == "another hash seed" else {}
    run(workspace, *command, "repro", environment={**os.environ, **extra})
    differs = differing(outcome(workspace), straight.outcome)
    print(f"\n{how}: {len(straight.outcome) - len(differs)} of {len(straight.outcome)} files byte-identical")
    assert differs == []


@pytest.mark.proof
def test_a_forced_run_in_a_fresh_clone_leaves_nothing_changed(first: Run, tmp_path: Path) -> None:
    workspace = clone(first.folder, tmp_path / "fresh")
    assert ran(dvc(workspace, "repro", "--force")) == STAGES
    assert git(workspace, "status", "--porcelain") == ""
    assert outcome(workspace) == outcome(first.folder)
