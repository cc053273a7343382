"""How every stage script starts and fails."""

import argparse
import contextlib
import fcntl
import inspect
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
from tqdm import tqdm

from mammo.errors import UserError

HEADLINE = Path("metrics/test.json")
STATE = Path("data/state")  # ignored by git and by DVC: the lock of the workspace, the state of a training
Item = TypeVar("Item")


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "images") -> Iterable[Item]:
    """`items` with a progress bar on standard error; silent where that is no terminal."""
    return tqdm(items, desc=what, total=total, unit=" " + unit, disable=None, leave=False, dynamic_ncols=True)


def cores() -> int:
    """Number of cores this process may use; what is made on them never depends on it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(main: Callable[..., Any], reads_scores: bool = False) -> None:
    """Run a stage: its parameters are the paths on the command line, its docstring the help.

    A `UserError` ends the process with one line on standard error and exit code 1, wrong usage with 2. The headline
    scores of the run before are removed first: a stage runs because something before them changed, so they no longer
    describe this workspace, and evaluate writes them anew. Only a stage after it, which `reads_scores`, leaves them.
    """
    name = Path(sys.argv[0]).stem
    parser = argparse.ArgumentParser(description=inspect.getdoc(main))
    for parameter in inspect.signature(main).parameters.values():
        parser.add_argument(parameter.name, type=Path)
    paths = vars(parser.parse_args())
    try:
        _end_with_dvc(name)
        with _alone(name, STATE / "lock"):
            if not reads_scores:
                HEADLINE.unlink(missing_ok=True)
            main(**paths)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        sys.exit(130)


def end_with_parent() -> None:
    """Called in a worker process: it ends when the stage is killed, instead of writing on and waiting for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _alone(name: str, path: Path) -> Iterator[None]:
    """Hold the workspace: a stage that is started while another runs in it waits for its end.

    DVC's own lock is no help: it ends with the `dvc` that held it, and its stage may live on.

    Raises:
        UserError: the lock cannot be written.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.open("a+b", buffering=0)
    except OSError as error:
        raise UserError(f"{path} could not be written: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            print(f"{name}: waiting for {lock.read().decode() or 'a stage'}, which still runs here", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError):  # on a full disk: the name is for the message above alone
            lock.truncate(0)
            lock.write(f"{name} (process {os.getpid()})".encode())
        yield


def _end_with_dvc(name: str) -> None:
    """End this process at once when the `dvc` that started it is gone.

    Killing `dvc` leaves its stage running, and the next `dvc repro` would remove the outputs of that orphan, or take
    them from its cache, while it still writes. Nobody would record what it makes, so it ends as if it had been killed
    too. DVC names its stages in the environment; one that was started by hand goes on whatever becomes of its shell.
    """
    if "DVC_STAGE" not in os.environ:
        return
    dvc = _dvc()

    def end_after() -> None:
        if dvc is not None:
            dvc.wait()
        with contextlib.suppress(OSError):  # standard error may have ended with dvc
            os.write(2, f"{name}: dvc, which started this stage, is gone: ending\n".encode())
        os._exit(1)

    if dvc is None:
        end_after()
    threading.Thread(target=end_after, daemon=True).start()


def _dvc() -> psutil.Process | None:
    """The `dvc` above this process and the shell between them, if there is one; None when it is gone already.

    It is the nearest process above that is not itself part of the stage. An orphan's is init or whatever else adopts
    orphans, and that is outside the process group which `dvc` shares with its stages.
    """
    try:
        above = psutil.Process().parent()
        while above is not None and "DVC_STAGE" in above.environ():
            above = above.parent()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # not ours, so not part of the stage
        pass
    try:
        return above if above is not None and os.getpgid(above.pid) == os.getpgrp() else None
    except OSError:
        return None
