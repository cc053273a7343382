"""Every table of bench/ in miniature, in one process: `python tests/bench_miniature.py FOLDER PROJECT`.

FOLDER is empty, PROJECT a clone in which the pipeline has run. The scripts of bench/ and stages/ run as they stand,
with their own command lines, but for those that run in another Python or are no Python: only what starts a process per
work is replaced, because importing TensorFlow twenty times would take minutes. Memory is of this process, and no
number means anything.
"""

import contextlib
import io
import itertools
import os
import runpy
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))

from mammo.core import parallel, settings
from mammo.learning import networks

import dicom
import duplicates
import material
import measure
import predict
import recipe_times
import run
import scale
import scores

IMAGES = 54
INSTEAD = {
    "data": {"phantom": {"patients": 18, "spread": 0.0, "plant": {"shortcut": 1.0}}},
    "preprocess": {"size": [64, 64]},
    "train": {"batch": 16},
    "evaluate": {"resamples": 200},
}
"""A label in the exposure is learned from a few images in a few epochs; the others' default is kept."""
PEAKS = itertools.count(measure.anonymous(os.getpid()), 2**20)  # grows, as memory with the number of images


class Here:
    """A `measure.Worker` whose work is done in this process."""

    def __init__(self, *command: object, cwd: Path) -> None:
        served: list[tuple[Callable[[], Any], dict[str, Any]]] = []
        measure.serve = lambda work, **about: served.append((work, about))  # the script imports it when it runs
        execute(command, cwd)
        ((self.work, self.about),) = served

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *_: object) -> None: ...

    def __call__(self) -> float:
        begun = time.perf_counter()
        self.work()
        return time.perf_counter() - begun


def worker(*command: object, cwd: Path) -> Any:
    """A `measure.Worker`, of its own process only where the command is for another Python than this."""
    return (Here if command[0] == sys.executable else measure.Worker)(*command, cwd=cwd)


def watched(command: Sequence[object], cwd: Path, may_fail_with: str = "", **options: Any) -> tuple[float, int]:
    """`measure.watched` in this process, but for commands that are no Python."""
    if command[0] != sys.executable:
        return measure.watched(command, cwd, may_fail_with, **options)
    begun = time.perf_counter()
    try:
        execute(command, cwd)
    except RuntimeError as error:
        if not (may_fail_with and may_fail_with in str(error)):
            raise
    return time.perf_counter() - begun, next(PEAKS)


def execute(command: Sequence[object], cwd: Path) -> None:
    """Run `PYTHON SCRIPT ARGUMENTS…` or `PYTHON -c CODE ARGUMENTS…` in the folder `cwd`.

    Raises:
        RuntimeError: it failed, as for a process.

    """
    _, script, *arguments = map(str, command)
    code = arguments.pop(0) if script == "-c" else ""
    before, sys.argv = sys.argv, [script, *arguments]
    output = io.StringIO()
    try:
        with contextlib.chdir(cwd), contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            exec(code, {}) if code else runpy.run_path(script, run_name="__main__")
    except BaseException as error:
        if not isinstance(error, SystemExit) or error.code:
            raise RuntimeError(measure.failure(command, output.getvalue() + traceback.format_exc())) from error
    finally:
        sys.argv = before


def main(folder: Path, project: Path) -> None:
    """Print all tables."""
    parallel.cores = lambda: 1  # phantoms too are drawn in this process
    material.SIZE, scale.SIZE, scale.DRAWN = 96, 96, 8
    dicom.HEIGHT, dicom.WIDTH = 512, 416
    predict.MODEL, predict.STARTS, predict.WHOLES, predict.SINGLES = project / "data/model", 1, 1, 1
    scores.IMAGES, scores.PATIENTS = 400, 100
    recipe_times.NAMES, recipe_times.ROUNDS = ["baseline", "compact"], 1
    run.EPOCHS, run.Worker = 3, worker
    run.watched = scale.watched = watched
    read = settings.read
    networks.use_threads(read(measure.ROOT / "params.yaml").train.threads)
    settings.read = lambda path=settings.PARAMS, instead=None: read(
        path, instead or (None if path == settings.PARAMS else INSTEAD)
    )
    bench = run.Bench(folder, rounds=1, most=IMAGES)
    bench.project = project

    def rows() -> bool:
        rows, failed = run.measured(bench, list(run.ROWS))
        print(run.table(rows, measure.heading(bench.images[1])))
        return not failed

    failed = False
    others = (
        lambda: scale.main([IMAGES]),
        lambda: predict.main(20, "no-such-commit"),
        scores.main,
        lambda: duplicates.main([200]),
        dicom.main,
        recipe_times.main,
    )
    for table in (rows, *others):
        try:
            failed |= table() is False
        except Exception:  # the other tables are printed all the same
            traceback.print_exc()
            failed = True
        print(flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:]))
