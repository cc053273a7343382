"""The work of a whole stage in a process of its own on a worker of the cluster.

TensorFlow's threads and its determinism are set once per process, so a training needs one of its own. It reads the
project's folder, which the worker must see under the same path, writes to a folder of the worker, and ends with the
worker, or when nobody waits for it any more. What it wrote is sent back and written by the process that submitted it.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mammo.core import cluster, files, identity, process, processor
from mammo.core.errors import UserError, lack_of_memory

POLL = 0.2  # seconds between two looks at the process
SETTINGS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
    "PYTHONHASHSEED",
    *processor.LIMITS,
)
"""Variables that may decide how a process computes; Dask sets some of them for its workers."""
Content = bytes | dict[str, bytes]
"""A file, or the files of a folder by their paths below it."""


def run(script: Path, paths: Mapping[str, Path], written: Sequence[str], precision: str = "float32") -> None:
    """Run `main` of a script of this clone on a worker, and write what it wrote.

    Args:
        script: the script.
        paths: the arguments of its `main`.
        written: names of those that it writes.
        precision: in which it computes.

    Raises:
        UserError: what `main` raised, or there is no cluster that computes the same bytes.

    """
    given = {name: path.as_posix() for name, path in paths.items()}
    variables = {name: os.environ[name] for name in SETTINGS if name in os.environ}
    there = script.resolve().relative_to(identity.CLONE).as_posix()
    with cluster.connected(precision) as workers:
        work = partial(_run, there, os.fspath(Path.cwd()), tuple(written), variables)
        ((_, (output, contents)),) = workers.done(work, [given])
    print(output, end="", flush=True)
    for name, content in contents.items():
        _write(paths[name], content)


def _write(path: Path, content: Content) -> None:
    with files.written(path) as beside:
        if isinstance(content, bytes):
            beside.write_bytes(content)
            return
        beside.mkdir()
        for name, inside in content.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            (beside / name).write_bytes(inside)


def _run(
    script: str, folder: str, written: Sequence[str], variables: Mapping[str, str], paths: Mapping[str, str]
) -> tuple[str, dict[str, Content]]:
    """Start the process on the worker, wait for it, and return what it printed and wrote."""
    if not Path(folder).is_dir():
        raise UserError(f"{folder} is not on the worker: its file system must be shared under the same path")
    with tempfile.TemporaryDirectory(prefix="mammo_") as own:
        targets = {name: Path(own, "out", *_below(paths[name])) for name in written}
        for target in targets.values():
            target.parent.mkdir(parents=True, exist_ok=True)
        told = Path(own, "told.json")
        request = {
            "script": script,
            "paths": {**paths, **{name: str(target) for name, target in targets.items()}},
            "error": str(told),
        }
        clone = identity.CLONE
        ahead = [str(clone / "stages"), str(clone / Path(script).parent)]
        code = f"import sys; sys.path[:0] = {ahead!r}; from mammo.core.elsewhere import main; main()"
        kept = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, cluster.VARIABLE)}
        with Path(own, "output").open("w+", encoding="utf-8") as output:
            child = subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(request)],
                cwd=folder,
                stdin=subprocess.PIPE,  # its end tells that this process has ended
                stdout=output,
                stderr=subprocess.STDOUT,
                env=kept | dict(variables),
            )
            try:
                _wait(child)
            finally:
                child.kill()
                child.wait()
            output.seek(0)
            said = output.read()
        if told.is_file():
            raise UserError(_as_named(files.read_json(told)["error"], targets, paths))
        if child.returncode:
            raise UserError(f"{script} ended with {child.returncode} on a worker: {said[-2000:]}")
        return _as_named(said, targets, paths), {
            name: _read(target) for name, target in targets.items() if target.exists()
        }


def _as_named(text: str, targets: Mapping[str, Path], paths: Mapping[str, str]) -> str:
    """Return what the process said with the paths as they are named here."""
    for name, target in targets.items():
        text = text.replace(str(target), paths[name])
    return text


def _below(path: str) -> list[str]:
    return [part for part in Path(path).parts if part not in ("..", "/")]


def _wait(child: "subprocess.Popen[bytes]") -> None:
    """Wait for the process; return early if nobody waits for this task any more."""
    from distributed import get_worker

    worker = get_worker()
    key = worker.get_current_task()
    while child.poll() is None:
        task = worker.state.tasks.get(key)
        if task is None or task.state not in ("executing", "long-running"):
            return
        time.sleep(POLL)


def _read(path: Path) -> Content:
    if path.is_file():
        return path.read_bytes()
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def main() -> None:
    """Run the stage in the process that a worker has started for it, and end with that worker."""
    process.end_with_parent()

    def watch() -> None:
        os.read(0, 1)  # nothing is sent: this returns at the end
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    request: dict[str, Any] = json.loads(sys.argv[1])
    script = importlib.import_module(Path(request["script"]).stem)
    try:
        script.main(**{name: Path(path) for name, path in request["paths"].items()})
    except UserError as error:
        files.write_json(Path(request["error"]), {"error": str(error)})
        sys.exit(1)
    except Exception as error:
        if line := lack_of_memory(error):
            files.write_json(Path(request["error"]), {"error": line})
            sys.exit(1)
        raise
