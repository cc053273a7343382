"""Work on the workers of a Dask cluster: the same bytes as here, whatever happens to a worker."""

import contextlib
import operator
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mammo.core import cluster as engine
from mammo.core import elsewhere, files, identity, model_info, parallel
from mammo.core.bounded import BoundError, Worker
from mammo.core.errors import UserError
from mammo.imaging.readers import Readers
from mammo.predicting import scans

import cv2
import numpy as np
import psutil
import pytest
from clusters import Cluster, cluster, until
from conftest import ROOT
from miniature import Run, change, clone, commit, digests, git


@pytest.fixture(scope="module")
def two(first: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and two workers of a clone of their own, of the commit of `first`."""
    place = tmp_path_factory.mktemp("cluster")
    workers = clone(first.folder, place / "clone")
    with cluster(place / "dask", workers, workers) as started:
        yield started


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch, first: Run) -> None:
    """Let this process be of the commit of `first`, whose code is that of this working tree."""
    there = identity.own()._replace(commit=git(first.folder, "rev-parse", "HEAD").strip(), changed=())
    monkeypatch.setattr(identity, "own", lambda precision: there)


@contextlib.contextmanager
def loss(two: Cluster, after: float) -> Iterator[list[int]]:
    """Kill a worker so many seconds after the workers have begun; yields the process that was killed."""
    before, killed, ended = two.executed(), list[int](), threading.Event()

    def kill() -> None:
        while not ended.is_set() and two.executed() <= before:
            time.sleep(0.02)
        time.sleep(after)
        victim = min(two.processes().values())
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()
        until(lambda: len(two.workers()) == 2)  # the nanny starts another


def stage(folder: Path, where: Cluster, name: str, *paths: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, f"stages/{name}.py", *paths],
        cwd=folder,
        env={**os.environ, engine.VARIABLE: where.address},
        capture_output=True,
        text=True,
        check=False,
    )


def test_phantoms_preprocess_and_audit_give_the_same_bytes_though_a_worker_is_killed(
    two: Cluster, first: Run, workspace: Path
) -> None:
    with loss(two, 0.3) as killed:
        drawn = stage(workspace, two, "download", "data/again")
    assert drawn.returncode == 0, drawn.stderr
    assert killed and not psutil.pid_exists(killed[0])
    assert digests(workspace / "data/again") == digests(first.folder / "data/raw")
    seen = two.executed()
    decoded = stage(workspace, two, "preprocess", "data/raw", "data/prepared", "metrics/preprocess.json")
    assert decoded.returncode == 0, decoded.stderr
    assert two.executed() > seen, "the workers have decoded"
    seen = two.executed()
    paths = ("data/gate.json", "metrics/audit.json", "plots/audit.csv", "plots/shortcut.csv", "plots/audit")
    audited = stage(workspace, two, "audit", "data/prepared", *paths)
    assert audited.returncode == 0, audited.stderr
    assert two.executed() > seen, "the workers have examined and compared"
    for name in ("data/prepared", "data/gate.json", "metrics/preprocess.json", "metrics/audit.json", "plots/audit"):
        one, other = workspace / name, first.folder / name
        assert digests(one) == digests(other) if one.is_dir() else one.read_bytes() == other.read_bytes(), name


def test_files_to_predict_are_read_by_the_workers_alike(
    two: Cluster, first: Run, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = model_info.read(first.folder / "data/model")
    paths = sorted((first.folder / "data/raw").glob("t*/*/*.png"))[:12]
    with Readers() as readers:
        here = list(scans.read_ahead(paths, info, readers))
        monkeypatch.setenv(engine.VARIABLE, two.address)
        there = list(scans.read_ahead(paths, info, readers))
    for one, other in zip(here, there, strict=True):
        assert (one.path, one.warnings, one.reason) == (other.path, other.warnings, other.reason)
        assert one.image is not None and other.image is not None and (one.image == other.image).all()


def test_results_come_in_order_or_as_they_are_done_and_errors_as_they_were_raised(
    two: Cluster, own: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(engine.VARIABLE, two.address)
    assert list(parallel.spread(operator.neg, range(40))) == [-number for number in range(40)]
    assert sorted(parallel.as_done(operator.neg, range(40), "negated"))[0] == (0, 0)
    assert list(parallel.spread(operator.neg, [])) == []
    with pytest.raises(UserError, match=r"^/nowhere.json does not exist$"):
        list(parallel.spread(files.read_json, [Path("/nowhere.json")]))


# What may go wrong


def test_a_dead_address_is_told_in_one_line_within_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(engine.VARIABLE, "tcp://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"is 'tcp://127.0.0.1:9', where no scheduler answers") as told:
        list(parallel.spread(operator.neg, [1]))
    assert time.monotonic() - begun < 10
    assert "\n" not in str(told.value)


def test_a_scheduler_that_goes_half_way_is_told_in_one_line_and_a_rerun_completes(
    first: Run, own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster(tmp_path / "dask", first.folder) as started:
        monkeypatch.setenv(engine.VARIABLE, started.address)
        results = parallel.spread(time.sleep, [0.1] * 100)
        next(results)
        started.scheduler.kill()
        begun = time.monotonic()
        with pytest.raises(UserError, match="is gone") as told:
            list(results)
        assert time.monotonic() - begun < 20
        assert "\n" not in str(told.value)
    monkeypatch.delenv(engine.VARIABLE)
    assert list(parallel.spread(operator.neg, [1, 2])) == [-1, -2]


def test_a_worker_of_another_commit_is_named_with_what_differs(
    first: Run, own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = clone(first.folder, tmp_path / "other")
    (other / "stages/mammo/core/wording.py").write_text("# nothing\n")
    commit(other, "another commit")
    (other / "stages/mammo/core/tables.py").write_text("# nothing\n")
    head = git(other, "rev-parse", "HEAD")[:7]
    expected = git(first.folder, "rev-parse", "HEAD")[:7]
    with cluster(tmp_path / "dask", other) as started:
        monkeypatch.setenv(engine.VARIABLE, started.address)
        with pytest.raises(UserError) as told:
            list(parallel.spread(operator.neg, [1]))
        assert f"has commit {head} instead of {expected}" in str(told.value)
        assert "stages/mammo/core/tables.py has uncommitted changes there" in str(told.value)


def test_every_difference_is_named() -> None:
    here = identity.Identity("a" * 40, (), "3.11.9", {"numpy": "2.1", "dask": "1"}, "avx512f")
    assert identity.differences(here, here) == []
    there = identity.Identity("b" * 40, ("stages/x.py",), "3.12.1", {"numpy": "2.2"}, "avx2")
    assert identity.differences(here, there) == [
        "has commit bbbbbbb instead of aaaaaaa",
        "cannot be compared, since stages/x.py has uncommitted changes there",
        "has Python 3.12.1 instead of 3.11.9",
        "has numpy 2.2 instead of 2.1",
        "has dask not installed instead of 1",
        "computes with avx2 instead of avx512f",
    ]
    assert identity.differences(here, ModuleNotFoundError("No module named 'mammo'")) == [
        "has no mammo of this commit (ModuleNotFoundError: No module named 'mammo')"
    ]


# Processes below a worker


def test_a_file_that_takes_too_much_memory_on_a_worker_is_named_as_such(
    two: Cluster, first: Run, own: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(engine.VARIABLE, two.address)
    how = model_info.read(first.folder / "data/model").preprocess
    large = tmp_path / "large.pgm"
    cv2.imwrite(str(large), np.zeros((9000, 9000), np.uint16))
    before = two.processes()
    with pytest.raises(BoundError, match=r"large\.pgm: decoding it took more than 0 GB of memory and was ended"):
        list(parallel.spread(lambda path: Readers(memory=150_000_000).scan(path, (8, 8), how), [large]))
    assert two.processes() == before, "the workers live"


def test_a_process_below_a_worker_ends_with_it(two: Cluster, own: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(engine.VARIABLE, two.address)
    (child,) = parallel.spread(lambda _: Worker("mammo.imaging.readers", 10**9, 60)._process.pid, [0])
    parent = psutil.Process(child).ppid()
    assert parent in two.processes().values()
    os.kill(parent, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE, 5)
    until(lambda: len(two.workers()) == 2)


def test_a_whole_stage_runs_in_a_process_of_its_own_on_a_worker(
    two: Cluster, first: Run, own: None, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv(engine.VARIABLE, two.address)
    monkeypatch.chdir(workspace)
    paths = {"raw": Path("data/raw"), "prepared": Path("data/other"), "metrics": Path("other.json")}
    elsewhere.run(ROOT / "stages/preprocess.py", paths, ("prepared", "metrics"))
    assert digests(workspace / "data/other") == digests(first.folder / "data/prepared")
    assert re.search(r"^preprocess: \d+ images in data/other: ", capsys.readouterr().out)
    with pytest.raises(UserError, match=r"^data/nothing/index.csv does not exist$"):
        elsewhere.run(ROOT / "stages/preprocess.py", {**paths, "raw": Path("data/nothing")}, ("prepared", "metrics"))


@pytest.mark.proof
def test_a_stage_on_a_worker_ends_when_nobody_waits_for_it_any_more(two: Cluster, workspace: Path) -> None:
    change(workspace, data={"phantom": {"patients": 3000}})
    code = """
        import sys
        sys.path.insert(0, "stages")
        from pathlib import Path
        from mammo.core import elsewhere
        elsewhere.run(Path("stages/download.py"), {"raw": Path("data/many")}, ("raw",))
    """
    environment = {**os.environ, engine.VARIABLE: two.address}
    host = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=workspace, env=environment)

    def below() -> list[psutil.Process]:
        every = [child for pid in two.processes().values() for child in psutil.Process(pid).children()]
        return [child for child in every if "mammo.core.elsewhere" in " ".join(child.cmdline())]

    until(below)
    time.sleep(1)
    assert below(), "it is at work"
    host.kill()
    host.wait()
    until(lambda: not below(), 20)
    assert not (workspace / "data/many").exists()
