"""What users of DVC do beyond `dvc repro`: grids and queues, curves of a running training, remotes, pull requests."""

import contextlib
import csv
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from conftest import ROOT
from documents import block, shell
from miniature import Run, asked, change, clone, commit, digests, dvc, git, ran, restored, run
from test_interruptions import begin_repro, until
from test_pipeline import committed, photographs

GRID = block("Experiments")
COMPARING = block("Comparing")
FOLDER, SECOND_CLONE, S3 = (block("Sharing data and models", number) for number in range(3))


# A grid


def processes_inside(folder: Path) -> list[psutil.Process]:
    """Processes that work in `folder` or below it, dead ones left out."""
    found = []
    for process in psutil.process_iter(["cwd", "status", "cmdline"]):
        inside = process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(folder.resolve())
        if inside and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


def stop_queue(folder: Path) -> None:
    """End the queue's workers, which would stay for ten seconds after the last experiment."""
    run(folder, "dvc", "queue", "stop", "--kill")
    until(lambda: not processes_inside(folder), seconds=30)


@contextlib.contextmanager
def queue_that_ends(folder: Path) -> Iterator[None]:
    """End workers of DVC's queue that have nothing left to do.

    Of two workers, one may miss the message that ends it (DVC 3.67.1): `dvc exp run --run-all` then waits for ever.
    """
    over = threading.Event()

    def idle() -> bool:
        logs = [log.read_text() for log in folder.glob(".dvc/tmp/exps/celery/*.out")]
        received, done = (sum(log.count(word) for log in logs) for word in ("] received", "] succeeded in"))
        return bool(logs) and received == done and all("shutting down due to empty queue" in log for log in logs)

    def watch() -> None:
        while not over.wait(10):
            if idle() and not over.wait(10):
                for process in processes_inside(folder):
                    if "queue-worker" in process.info["cmdline"]:
                        process.terminate()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


class Grid:
    """A clone in which README's grid has run, and what its commands wrote."""

    def __init__(self, first: Run, folder: Path) -> None:
        self.folder = Path(shutil.copytree(first.folder, folder, symlinks=True))
        try:
            with queue_that_ends(self.folder):
                self.output = shell(self.folder, GRID)
        finally:
            stop_queue(self.folder)
        (head,) = [revision for revision in asked(self.folder, "exp", "show") if revision["name"] == "main"]
        self.experiments = {one["revs"][0]["name"]: one["revs"][0] for one in head["experiments"]}


@pytest.fixture(scope="module")
def grid(first: Run, tmp_path_factory: pytest.TempPathFactory) -> Grid:
    return Grid(first, tmp_path_factory.mktemp("grid") / "clone")


def test_a_grid_is_one_table_and_two_of_it_are_compared(grid: Grid) -> None:
    assert set(grid.experiments) == {"rate-1", "rate-2"}
    for name, rate in (("rate-1", 0.001), ("rate-2", 0.0003)):
        shown = grid.experiments[name]["data"]
        assert shown["params"]["params.yaml"]["data"]["train"]["learning_rate"] == rate
        scores = json.loads(committed(grid.folder, grid.experiments[name]["rev"], "metrics/test.json"))
        assert shown["metrics"]["metrics/test.json"]["data"] == scores
        (row,) = re.findall(rf"\[{name}\] .*", grid.output)
        picked = json.loads(committed(grid.folder, grid.experiments[name]["rev"], "metrics/train.json"))
        assert f"{picked['valid']['roc_auc']['value']:.5g}" in row and str(rate) in row
    assert re.search(r"^A: rate-1 \(commit .*\nB: rate-2 \(commit ", grid.output, re.MULTILINE)
    assert re.search(r"^ROC AUC  +[01]\.\d{3}", grid.output, re.MULTILINE)


def test_what_a_grid_repeats_is_not_trained_again(grid: Grid) -> None:
    assert ran(grid.output).count("train") == 1  # for rate-2; rate-1 is the rate of main
    for name in ("dvc.lock", "metrics/test.json", "plots/predictions.csv"):
        assert committed(grid.folder, grid.experiments["rate-1"]["rev"], name) == committed(grid.folder, "main", name)


def test_an_applied_experiment_is_up_to_date_and_a_branch_of_it_the_same(grid: Grid) -> None:
    assert yaml.safe_load((grid.folder / "params.yaml").read_text())["train"]["learning_rate"] == 0.0003
    assert dvc(grid.folder, "status").strip() == "Data and pipelines are up to date."
    assert git(grid.folder, "branch", "--format=%(refname:short)").split() == ["lower-rate", "main"]
    assert git(grid.folder, "diff", "--name-only", "lower-rate") == ""
    assert git(grid.folder, "diff", "--name-only", "main", "--", "metrics/test.json").strip() == "metrics/test.json"


@pytest.mark.proof
def test_two_jobs_train_at_the_same_time_and_give_the_bytes_of_one(workspace: Path, tmp_path: Path) -> None:
    """Each in its own copy, so that neither waits for the lock of the other's workspace."""
    other = Path(shutil.copytree(workspace, tmp_path / "other", symlinks=True))
    dvc(workspace, "exp", "run", "--queue", "--name", "seed", "-S", "train.seed=2,3", "-S", "train.epochs=20")

    def trainings() -> int:
        return sum("stages/train.py" in process.info["cmdline"] for process in processes_inside(workspace))

    try:
        with queue_that_ends(workspace), ThreadPoolExecutor(1) as beside:
            jobs = beside.submit(dvc, workspace, "exp", "run", "--run-all", "--jobs", "2")
            until(lambda: trainings() == 2 or jobs.done())
            assert not jobs.done()
            assert "which still runs here" not in jobs.result()
    finally:
        stop_queue(workspace)
    dvc(other, "exp", "run", "-S", "train.seed=2", "-S", "train.epochs=20")
    dvc(workspace, "exp", "apply", "seed-1")
    assert (workspace / "dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()


@pytest.fixture
def after_grid(grid: Grid, tmp_path: Path) -> Path:
    """A copy of the clone in which the grid has run, with main checked out."""
    folder = Path(shutil.copytree(grid.folder, tmp_path / "workspace", symlinks=True))
    git(folder, "checkout", "--quiet", "--force", "main")
    return folder


@pytest.mark.proof
def test_a_branch_is_run_and_compared_with_main(after_grid: Path) -> None:
    output = shell(after_grid, COMPARING)
    assert "evaluate" in ran(output) and "train" not in ran(output)
    assert restored(output) == ["train"]  # the grid had this rate
    assert git(after_grid, "log", "--format=%s", "main..other-rate") == "Learning rate 0.0003\n"
    assert git(after_grid, "status", "--porcelain") == ""
    assert re.search(r"^metrics/calibration.json +brier.value ", output, re.MULTILINE)
    page = (after_grid / "dvc_plots/index.html").read_text()
    assert '"rev": "main"' in page and '"rev": "workspace"' in page
    assert re.search(r"^A: main \(commit \w{7} of .*\)\nB: workspace$", output, re.MULTILINE)
    assert '<script type="application/json" id="commits">{"main": "commit ' in page


@pytest.mark.proof
def test_a_copy_has_own_images_only_where_they_are_named_by_an_absolute_path(workspace: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(photographs(tmp_path / "archive.zip")) as content:
        content.extractall(workspace / "data/own")
    apart = ("exp", "run", "--temp", "download")
    change(workspace, data={"source": "folder"})
    dvc(workspace, "repro", "download")
    commit(workspace, "own images, which git ignores")
    assert "data/own (data.folder) holds neither labels.csv" in dvc(workspace, *apart, fails=True)

    change(workspace, data={"folder": str(shutil.move(workspace / "data/own", tmp_path / "mammograms"))})
    assert ran(dvc(workspace, "repro", "download")) == ["download"]
    commit(workspace, "own images, which stay where they are")
    assert ran(dvc(workspace, *apart)) == []
    shutil.rmtree(tmp_path / "mammograms")  # as on another machine
    assert ran(dvc(workspace, "repro", "--allow-missing", "download")) == []


# Curves of a running training


def test_curves_grow_while_training_runs(workspace: Path) -> None:
    change(workspace, train={"epochs": 500, "patience": 500})
    history = workspace / "plots/history.csv"

    def rows() -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(history.read_text()))) if history.exists() else []

    def drawn() -> list[dict[str, str]]:
        charts = asked(workspace, "plots", "show")["data"]
        assert "ROC curve" in charts  # of the run before
        (plot,) = charts["plots/history.csv"]
        return [{key: point[key] for key in rows()[0]} for point in plot["content"]["data"]["values"]]

    history.unlink()
    training = begin_repro(workspace, "train")
    try:
        until(lambda: len(rows()) >= 2)
        seen = drawn()
        until(lambda: len(rows()) > len(seen))
        later = drawn()
        assert training.poll() is None
        assert 2 <= len(seen) < len(later)
        assert later == rows()[: len(later)] and seen == later[: len(seen)]
    finally:
        os.killpg(training.pid, signal.SIGKILL)
        training.wait()
        until(lambda: not processes_inside(workspace), seconds=30)


# Remotes


def second_clone(folder: Path, place: Path, environment: dict[str, str] | None = None) -> None:
    """README's commands in a second clone: everything comes from the remote, and nothing is left to run."""
    second = clone(folder, place)
    assert not (second / "data/model").exists()
    output = shell(second, SECOND_CLONE, environment)
    assert ran(output) == restored(output) == []
    assert "Data and pipelines are up to date." in output
    assert git(second, "status", "--porcelain") == ""
    assert digests(second / "data") == digests(folder / "data")


def test_a_second_clone_takes_everything_from_a_folder_and_runs_nothing(workspace: Path, tmp_path: Path) -> None:
    shell(workspace, FOLDER)
    assert git(workspace, "status", "--porcelain") == ""
    second_clone(workspace, tmp_path / "second")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """The address of an S3 server on this machine with the empty bucket `bucket`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def answers() -> bool:
        assert server.poll() is None, "the server has ended"
        with socket.socket() as knock:
            return knock.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(answers, seconds=60)
        urllib.request.urlopen(urllib.request.Request(f"{address}/bucket", method="PUT")).close()
        yield address
    finally:
        server.terminate()
        server.wait(20)


@pytest.mark.proof
def test_a_second_clone_takes_everything_from_s3_and_runs_nothing(workspace: Path, tmp_path: Path, s3: str) -> None:
    install, *commands = S3
    assert install == "pip install dvc-s3"  # tests/requirements.txt has it
    commands = [command.replace("https://s3.example.org", s3) for command in commands]
    assert s3 in " ".join(commands)
    keys = {"AWS_ACCESS_KEY_ID": "of-a-test", "AWS_SECRET_ACCESS_KEY": "of-a-test"}
    (tmp_path / "empty").touch()
    nobodys = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), str(tmp_path / "empty"))
    others = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = others | keys | nobodys | {"NO_PROXY": "127.0.0.1"}
    shell(workspace, [*commands, "dvc push"], environment)
    commit(workspace, "Data and models are in S3")
    assert "of-a-test" not in (workspace / ".dvc/config").read_text()
    second_clone(workspace, tmp_path / "second", environment)


# Pull requests

WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())


def steps(job: str) -> dict[str, dict[str, Any]]:
    """The steps of a job by name, or by what they use or run where they have none."""
    return {step.get("name") or step.get("uses") or step["run"]: step for step in WORKFLOW["jobs"][job]["steps"]}


def compared(grid: Grid, folder: Path, base: str) -> tuple[str, str]:
    """What the workflow would comment, and its summary, for the branch `lower-rate` of `grid`.

    The clone is as actions/checkout leaves it: all branches are known as those of `origin`, a commit is checked out.
    """
    git(grid.folder, "init", "--quiet", str(folder))
    git(folder, "remote", "add", "origin", str(grid.folder))
    git(folder, "fetch", "--quiet", "origin")
    git(folder, "checkout", "--quiet", "--detach", "origin/lower-rate")
    summary = folder.parent / "summary.md"
    environment = {**os.environ, "BASE": base, "GITHUB_STEP_SUMMARY": str(summary)}
    run(folder, "bash", "-e", "-c", steps("compare")["Compare"]["run"], environment=environment)
    return (folder / "comparison.md").read_text(), summary.read_text()


def test_a_pull_request_is_compared_with_the_branch_it_goes_to(grid: Grid, tmp_path: Path) -> None:
    comment, summary = compared(grid, tmp_path / "checkout", "main")
    assert comment == summary
    said = run(grid.folder, "mammo", "compare", "main", "lower-rate", "--markdown").stdout
    assert comment == said.replace("lower-rate", "HEAD")
    assert comment.startswith("**The ROC AUC")


def test_why_a_pull_request_cannot_be_compared_is_what_is_commented(grid: Grid, tmp_path: Path) -> None:
    comment, _ = compared(grid, tmp_path / "checkout", "no-such-branch")
    assert comment.startswith("    mammo compare: no-such-branch is not a revision of this repository")


def test_the_workflow_tests_every_push_and_may_write_nothing_but_a_comment() -> None:
    triggers = WORKFLOW[True]  # YAML 1.1 takes the key `on` for a truth value
    assert set(triggers) == {"push", "pull_request"}
    assert WORKFLOW["permissions"] == {"contents": "read"}
    rights = {name: job["permissions"] for name, job in WORKFLOW["jobs"].items() if "permissions" in job}
    assert rights == {"comment": {"pull-requests": "write"}}
    assert "make test" in steps("test")
    for job in ("test", "compare"):
        (checkout,) = [step for name, step in steps(job).items() if name.startswith("actions/checkout@")]
        assert checkout["with"]["fetch-depth"] == 0 and checkout["with"]["persist-credentials"] is False
    for job in WORKFLOW["jobs"]:
        for step in steps(job).values():
            assert "${{" not in step.get("run", "")  # a branch's name would be run as code
    assert WORKFLOW["jobs"]["comment"]["needs"] == "compare"
    assert "head.repo.full_name == github.repository" in WORKFLOW["jobs"]["comment"]["if"]
    comment = steps("comment")["Comment"]
    assert "--edit-last --create-if-none" in comment["run"]
    assert not re.findall(r"\$(?!NUMBER)\w+", comment["run"])


def test_the_workflow_installs_what_the_makefile_does() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in steps("compare")["Install"]["run"].splitlines():
        assert re.search(rf"pip install .*{re.escape(line.removeprefix('pip install '))}$", makefile, re.MULTILINE)
