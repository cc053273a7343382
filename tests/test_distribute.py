"""`mammo distribute`: folds side by side, with the results and the dvc.lock of a serial `dvc repro`."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from mammo.core import distribution

import psutil
import pytest
import yaml
from clusters import until
from miniature import ROOT, dvc, git, run, signed

STAGES = {
    "fold": {
        "matrix": {"variant": ["a", "b"], "fold": [0, 1]},
        "cmd": "python fold.py ${item.variant} ${item.fold}",
        "deps": ["fold.py"],
        "outs": ["work/${item.variant}/${item.fold}"],
    },
    "summarise": {"cmd": "cat work/*/* > all", "deps": ["work"], "outs": ["all"]},
}
FOLD = """
import pathlib, sys, time
variant, fold = sys.argv[1:]
if variant + fold == pathlib.Path("fails").read_text():
    sys.exit("no such luck")
time.sleep(float(pathlib.Path("seconds").read_text()) * (3 if variant + fold == "a0" else 1))
out = pathlib.Path("work", variant, fold)
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(variant + fold)
"""
"""The first of them takes longest, so that it ends last where several run."""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A DVC project with a cross-validation whose folds sleep."""
    folder = tmp_path / "cv"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    signed(folder)
    dvc(folder, "init", "--quiet")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}, sort_keys=False))
    (folder / "fold.py").write_text(FOLD)
    (folder / ".gitignore").write_text("/work/\n/all\n")  # else DVC adds to files in work/, in the order of the ends
    (folder / "seconds").write_text("0.5")
    (folder / "fails").write_text("none")
    (folder.parent / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "-m", "a project")
    return folder


def distribute(folder: Path, *options: str, fails: bool = False) -> "subprocess.CompletedProcess[str]":
    code = "import sys; from mammo.commands import main; sys.exit(main())"
    there = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
    return run(folder, sys.executable, "-c", code, "distribute", *options, fails=fails, environment=there)


def outcome(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "dvc.lock").read_bytes(), (folder / "all").read_bytes()


def test_folds_side_by_side_give_the_lock_of_a_serial_run_though_one_failed_before(project: Path) -> None:
    dvc(project, "repro")
    serial = outcome(project)
    (project / "dvc.lock").unlink()
    dvc(project, "gc", "--workspace", "--force")  # so that nothing comes from a cache
    for path in (project / ".dvc/cache/runs", project / "work", project / "all"):
        run(project, "rm", "-rf", str(path))
    (project / "fails").write_text("b0")
    failed = distribute(project, "--jobs", "2", fails=True)
    assert failed.returncode == 1
    assert re.search(r"^mammo distribute: fold@b-0 failed:$", failed.stderr, re.MULTILINE)
    assert "no such luck" in failed.stderr and "Traceback" not in failed.stderr
    first = list(yaml.safe_load((project / "dvc.lock").read_text())["stages"])
    assert {"fold@a-0", "fold@a-1"} <= set(first) and first[0] == "fold@a-1"
    (project / "fails").write_text("none")
    done = distribute(project, "--jobs", "2")
    begun = re.findall(r"^(\S+): begun$", done.stdout, re.MULTILINE)
    assert set(begun) == {"fold@b-0", "fold@b-1", "summarise"} - set(first)
    assert outcome(project) == serial
    assert "Data and pipelines are up to date." in dvc(project, "status")
    lock = project / "dvc.lock"
    (project / "fails").write_text("b0")  # were it run again
    text = lock.read_text()
    lock.write_text(text[: text.index("fold@b-0:") + len("fold@b-0:")])  # DVC was killed while it wrote this
    mended = distribute(project, "--jobs", "2")
    assert "dvc.lock was cut off and is taken from git" in mended.stdout and "fold@a-0: done" in mended.stdout
    assert outcome(project) == serial
    git(project, "add", "dvc.lock")
    git(project, "commit", "--quiet", "-m", "all folds")
    lock.write_bytes(b"")
    assert ": begun" not in distribute(project, "--jobs", "2").stdout
    assert outcome(project) == serial
    lock.write_text(f"<<<<<<< HEAD\n{text}=======\n>>>>>>> other\n")
    assert "dvc.lock" in distribute(project, fails=True).stderr
    assert lock.read_text().startswith("<<<<<<< HEAD\n")


def recorded(lock: Path) -> set[str]:
    """Return the stages that dvc.lock holds; none while DVC writes it."""
    try:
        return set(yaml.safe_load(lock.read_text())["stages"])
    except (OSError, TypeError, yaml.YAMLError):
        return set()


@pytest.mark.proof
def test_an_interrupted_run_leaves_no_process_and_goes_on_from_the_folds_that_were_finished(project: Path) -> None:
    (project / "seconds").write_text("1.5")
    code = "import sys; from mammo.commands import main; sys.exit(main())"
    there = {**os.environ, "PYTHONPATH": str(ROOT / "stages"), "DVC_SITE_CACHE_DIR": str(project / ".dvc/tmp/site")}
    started = subprocess.Popen([sys.executable, "-c", code, "distribute", "--jobs", "2"], cwd=project, env=there)
    lock = project / "dvc.lock"
    until(lambda: recorded(lock))
    below = psutil.Process(started.pid).children(recursive=True)
    started.send_signal(signal.SIGKILL)
    started.wait()
    until(lambda: not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 20)
    finished = recorded(lock)
    assert finished
    (project / "seconds").write_text("0")
    done = distribute(project, "--jobs", "2")
    assert not finished & set(re.findall(r"^(\S+): begun$", done.stdout, re.MULTILINE))
    assert (project / "all").read_text() == "a0a1b0b1"


def test_without_a_cluster_as_many_run_as_the_cores_allow(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = yaml.safe_load((ROOT / "params.yaml").read_text())["train"]["threads"]
    monkeypatch.setattr("mammo.core.parallel.cores", lambda: 4 * threads)
    assert distribution.side_by_side(project.parent / "params.yaml") == 4
    monkeypatch.setattr("mammo.core.parallel.cores", lambda: 1)
    assert distribution.side_by_side(project.parent / "params.yaml") == 1
