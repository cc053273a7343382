"""What a cluster computes at full size: real mammograms with a worker killed half-way, cross-validation, experiments.

`MAMMOGRAMS=… pytest -m proof -s tests/test_engine_proof.py` prints the times.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from mammo.core import cluster as engine

import psutil
import pytest
import yaml
from clusters import Cluster, cluster, until
from documents import block, shell
from miniature import Run, asked, change, clone, commit, digests, dvc, git, run
from test_distribute import recorded

pytestmark = pytest.mark.proof

SIDE_BY_SIDE = block("Folds side by side")


def on(where: Cluster, clone: Path) -> dict[str, str]:
    """An environment that names the cluster, in which `mammo` is that of the clone."""
    return {**os.environ, engine.VARIABLE: where.address, "PYTHONPATH": str(clone / "stages")}


def small_cross_validation(folder: Path) -> Path:
    """Two folds of one variant and of one that starts from weights learned on phantoms, with two epochs each."""
    path = folder / "cv/params.yaml"
    content = yaml.safe_load(path.read_text())
    content["folds"]["number"] = 2
    content["variants"] = {"compact": {**content["variants"]["compact"], "compared_with": "shortcut"}}
    content["ensembles"] = {}
    for name in ("compact", "pretrained"):
        recipe = folder / f"recipes/{name}.yaml"
        settings = yaml.safe_load(recipe.read_text())
        settings["train"].update({"epochs": 2, "average": 1})
        settings["preprocess"]["size"] = [64, 48]
        recipe.write_text(yaml.safe_dump(settings, sort_keys=False))
    phantoms = content["pretraining"]["phantom"] | {"patients": 40, "size": 96}
    content["pretraining"] |= {"epochs": 2, "phantom": phantoms}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    pipeline = folder / "cv/dvc.yaml"
    pipeline.write_text(pipeline.read_text().replace("[0, 1, 2, 3, 4]", "[0, 1]"))
    git(folder, "rm", "--quiet", "--cached", "cv/dvc.lock")
    (folder / "cv/dvc.lock").unlink()
    change(folder, train={"threads": 1})
    commit(folder, "a small cross-validation")
    return folder


def outcome(folder: Path) -> dict[str, str]:
    found = digests(folder / "cv/work") | digests(folder / "cv/plots") | digests(folder / "cv/metrics")
    return {**found, "lock": (folder / "cv/dvc.lock").read_text()}


def test_cross_validation_side_by_side_gives_the_bytes_of_a_serial_one(first: Run, tmp_path: Path) -> None:
    source = small_cross_validation(Path(shutil.copytree(first.folder, tmp_path / "serial", symlinks=True)))
    copies = [Path(shutil.copytree(source, tmp_path / name, symlinks=True)) for name in ("cores", "cluster")]
    seconds = {}
    begun = time.monotonic()
    dvc(source / "cv", "repro")
    seconds["serial dvc repro"] = time.monotonic() - begun
    begun = time.monotonic()
    shell(copies[0], SIDE_BY_SIDE)
    seconds["mammo distribute, two cores"] = time.monotonic() - begun
    assert outcome(copies[0]) == outcome(source)
    workers = clone(source, tmp_path / "workers")
    with cluster(tmp_path / "dask", workers, workers) as two:
        started = subprocess.Popen(["mammo", "distribute"], cwd=copies[1] / "cv", env=on(two, copies[1]))
        lock = copies[1] / "cv/dvc.lock"
        until(lambda: recorded(lock), 200)
        started.send_signal(signal.SIGKILL)
        started.wait()
        finished = recorded(lock)
        victim = min(two.processes().values())
        below = psutil.Process(victim).children(recursive=True)
        os.kill(victim, signal.SIGKILL)
        until(lambda: not [one for one in below if one.is_running() and one.status() != psutil.STATUS_ZOMBIE], 20)
        begun = time.monotonic()
        done = run(copies[1] / "cv", "mammo", "distribute", environment=on(two, copies[1]))
        seconds["mammo distribute, two workers, killed and started again"] = time.monotonic() - begun
        assert not [name for name in finished if f"{name}: begun" in done.stdout]
        assert two.executed() > 0
    assert outcome(copies[1]) == outcome(source)
    print("\n\n| cross-validation in miniature | seconds |\n|---|---:|")
    print("\n".join(f"| {what} | {took:.0f} |" for what, took in seconds.items()))


def test_queued_experiments_train_on_the_workers(first: Run, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(first.folder, tmp_path / "project", symlinks=True))
    workers = clone(first.folder, tmp_path / "workers")
    for epochs in (1, 2):
        dvc(folder, "exp", "run", "--queue", "-S", f"train.epochs={epochs}")
    with cluster(tmp_path / "dask", workers, workers) as two:
        run(folder, "mammo", "distribute", environment=on(two, folder))
        assert two.executed() > 0, "the trainings"
    (shown,) = [entry for entry in asked(folder, "exp", "show") if entry.get("experiments")]
    epochs = {
        revision["data"]["params"]["params.yaml"]["data"]["train"]["epochs"]
        for experiment in shown["experiments"]
        for revision in experiment["revs"]
        if revision["data"]["metrics"]["metrics/test.json"]["data"]
    }
    assert epochs == {1, 2}


def half_way(two: Cluster, before: int, started: subprocess.Popen) -> bool:
    return two.executed() > before + 3 or started.poll() is not None


def test_real_mammograms_give_the_same_bytes_though_a_worker_is_killed(
    first: Run, mammograms: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(first.folder, tmp_path / "project", symlinks=True))
    workers = clone(first.folder, tmp_path / "workers")
    change(folder, data={"source": "folder", "folder": str(mammograms)}, preprocess={"size": [224, 224]})
    stages = {
        "download": ("data/raw",),
        "preprocess": ("data/raw", "data/prepared", "metrics/preprocess.json"),
        "audit": ("data/prepared", "gate.json", "metrics/audit.json", "audit.csv", "shortcut.csv", "pictures"),
    }
    some = [str(path) for path in sorted(mammograms.rglob("*.jpg"))[:400]]
    predict = ("mammo", "predict", *some, "--despite-phantoms", "--csv", "predicted.csv")

    def outputs() -> dict[str, bytes | dict[str, str]]:
        names = [name for paths in stages.values() for name in paths if name != "data/raw"] + ["predicted.csv"]
        return {
            name: digests(folder / name) if (folder / name).is_dir() else (folder / name).read_bytes() for name in names
        }

    print("\n\n| stage | threads, s | two workers, one killed, s |\n|---|---:|---:|")
    took: dict[str, list[float]] = {}
    with cluster(tmp_path / "dask", workers, workers) as two:
        results = []
        for environment in (dict(os.environ), on(two, folder)):
            for name, paths in [*stages.items(), ("predict", predict)]:
                command = predict if name == "predict" else (sys.executable, f"stages/{name}.py", *paths)
                begun, before = time.monotonic(), two.executed()
                started = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
                if engine.VARIABLE in environment and name != "download":
                    until(partial(half_way, two, before, started))
                    assert started.poll() is None, "ended before the kill"
                    os.kill(min(two.processes().values()), signal.SIGKILL)
                assert started.wait() in (0, 3), name
                took.setdefault(name, []).append(time.monotonic() - begun)
                until(lambda: len(two.workers()) == 2)
            results.append(outputs())
    for name, (one, other) in took.items():
        print(f"| {name} | {one:.1f} | {other:.1f} |")
    assert results[0] == results[1]
