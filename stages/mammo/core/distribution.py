"""The stages of a DVC project side by side, with the results and the dvc.lock of a serial `dvc repro`."""

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from mammo.core import cluster, files, identity, parallel, process, settings
from mammo.core.errors import UserError

import yaml

POLL = 0.2  # seconds between two looks at the running stages
LOCK = Path("dvc.lock")


class Step(NamedTuple):
    """A stage that is to be run."""

    name: str
    """As `dvc repro` names it, e.g. `fold@baseline-0`."""
    after: frozenset[str]
    """Stages whose results it reads."""


class Running(NamedTuple):
    """A `dvc repro` that runs one stage."""

    step: Step
    process: "subprocess.Popen[str]"
    output: IO[str]
    begun: float


def side_by_side(pipeline: Path) -> int:
    """Return how many stages can run at a time: as many as the cluster has workers, or as the cores allow.

    Args:
        pipeline: params.yaml, whose `train.threads` each takes of the cores.

    Raises:
        UserError: no scheduler answers, or a worker differs from this process.

    """
    train = settings.read(pipeline).train
    if cluster.address():
        with cluster.connected(train.precision) as workers:
            return workers.number
    return max(1, parallel.cores() // train.threads)


def reproduce(jobs: int) -> None:
    """Run all stages of dvc.yaml here that are not up to date, at most `jobs` at a time; then check by `dvc repro`.

    Each stage is run by DVC itself, which records it in dvc.lock as soon as it has ended, so that an interrupted run
    goes on after it. At the end the stages stand in dvc.lock in the order in which `dvc repro` alone would have run
    them, and `dvc repro` finds all of them up to date.

    Raises:
        UserError: a stage failed. Those that ran beside it have been waited for.

    """
    _mend_lock()
    steps, changed = _planned()
    left = [step for step in steps if step.name in changed]
    running: list[Running] = []
    failed: list[str] = []
    try:
        while running or (left and not failed):
            waiting = {step.name for step in left} | {one.step.name for one in running}
            ready = [step for step in left if not step.after & waiting]
            for step in ready[: max(0, jobs - len(running))] if not failed else []:
                left.remove(step)
                running.append(_begun(step))
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                failed += _ended(one)
            time.sleep(POLL)
    finally:
        for one in running:
            one.process.terminate()
    if failed:
        raise UserError("\n".join(failed))
    _order([step.name for step in steps])
    done = subprocess.run(["dvc", "repro"], check=False)
    if done.returncode:
        raise UserError("dvc repro failed; what it said stands above")


def _planned() -> tuple[list[Step], set[str]]:
    """Return the stages in the order in which `dvc repro` runs them, and the names of those that are not up to date."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        with Repo() as repo:
            graph = get_active_graph(repo.index.graph)
            planned = plan_repro(graph, collect_stages(repo, ["dvc.yaml"]))
            steps = [
                Step(stage.addressing, frozenset(other.addressing for other in graph.successors(stage)))
                for stage in planned
            ]
            changed = set(repo.status())
    except DvcException as error:
        raise UserError(f"dvc.yaml could not be read: {' '.join(str(error).split())}") from error
    for step in steps:  # what reads the results of a stage that changes may change as well
        if step.after & changed:
            changed.add(step.name)
    return steps, changed


def _begun(step: Step) -> Running:
    """Start a stage, which ends with this process."""
    output = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115, closed by `_ended`
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", step.name]
    child = subprocess.Popen(
        command, stdout=output, stderr=subprocess.STDOUT, text=True, preexec_fn=process.end_with_parent
    )
    print(f"{step.name}: begun", flush=True)
    return Running(step, child, output, time.monotonic())


def _ended(one: Running) -> list[str]:
    """Say that a stage has ended; return its error message, if it has failed."""
    name, seconds = one.step.name, time.monotonic() - one.begun
    one.output.seek(0)
    said = one.output.read().strip()
    one.output.close()
    if one.process.returncode:
        print(f"{name}: failed after {seconds:.0f} s", flush=True)
        return [f"{name} failed:\n{said}"]
    print(f"{name}: done in {seconds:.0f} s", flush=True)
    return []


def _mend_lock() -> None:
    """Put git's dvc.lock, or none, in the place of one that was cut off: DVC was killed while it wrote it.

    DVC's cache of runs knows what has finished since, and brings its results back without running it again. One with
    git's marks of a conflict is left for its user to merge; DVC says what is wrong with it.
    """
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import ParseError, load_yaml
    from voluptuous import Invalid

    if not LOCK.is_file() or re.search("^<<<<<<< ", LOCK.read_text(), re.MULTILINE):
        return
    try:
        COMPILED_LOCKFILE_SCHEMA(load_yaml(str(LOCK)))
    except (ParseError, Invalid):
        print(f"{LOCK} was cut off and is taken from git; what has finished since comes back from DVC's cache")
        if committed := _committed_lock():
            files.write_text(LOCK, committed)
        else:
            LOCK.unlink()


def _committed_lock() -> str:
    """Return git's dvc.lock; an empty text if it has none."""
    return identity.git("show", f"HEAD:./{LOCK}", folder=Path())


def _order(planned: Sequence[str]) -> None:
    """Put the stages of dvc.lock in the order of a serial run: first those that git's has, then those that it added."""
    from dvc.utils.serialize import dump_yaml, load_yaml

    if not LOCK.is_file():
        return
    content: Mapping[str, Any] = load_yaml(str(LOCK))
    recorded = content.get("stages", {})
    before = (yaml.safe_load(_committed_lock()) or {}).get("stages", {})
    order = dict.fromkeys([name for name in (*before, *planned, *recorded) if name in recorded])
    if list(order) != list(recorded):
        dump_yaml(str(LOCK), {**content, "stages": {name: recorded[name] for name in order}})


def experiments(jobs: int) -> None:
    """Run all queued experiments, at most `jobs` at a time, by `dvc exp run --run-all`.

    Raises:
        UserError: that failed.

    """
    done = subprocess.run(["dvc", "exp", "run", "--run-all", "--jobs", str(jobs)], check=False)
    if done.returncode:
        raise UserError("dvc exp run failed; what it said stands above")


def main(jobs: int = 0) -> None:
    """Distribute cross-validation in its folder, or queued experiments in that of the pipeline.

    Args:
        jobs: stages or experiments at a time; 0 for as many as there are workers, or as the cores allow.

    Raises:
        UserError: this is neither folder, or something failed.

    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the stages are ended
    if not Path("dvc.yaml").is_file():
        raise UserError("there is no dvc.yaml here: run this in cv/, or in the project's folder for queued experiments")
    folds = Path("fold.py").is_file()
    at_a_time = jobs or side_by_side(Path("../params.yaml" if folds else "params.yaml"))
    if folds:
        reproduce(at_a_time)
    else:
        experiments(at_a_time)
