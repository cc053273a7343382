"""Processes of stages: one at a time in a workspace, ended together with the `dvc` that started them."""

import contextlib
import ctypes
import fcntl
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mammo.core.errors import UserError

if TYPE_CHECKING:
    import psutil

PR_SET_PDEATHSIG = 1  # of prctl(2)


@contextlib.contextmanager
def alone(name: str, path: Path) -> Iterator[None]:
    """Lock the workspace: a stage that is started while another one runs waits until that one ends.

    DVC's own lock is not enough: it is released when `dvc` is killed, while the stage may continue.

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
        with contextlib.suppress(OSError):  # full disk: the name is needed only for the message above
            lock.truncate(0)
            lock.write(f"{name} (process {os.getpid()})".encode())
        yield


def end_with_parent() -> None:
    """Let the kernel kill this process as soon as the thread that started it has ended, even amid work in C.

    Other systems than Linux have no such thing; there a process must notice it by itself, e.g. when its input ends.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_with_dvc(name: str) -> None:
    """End this process as soon as the `dvc` that started it has ended.

    Killing `dvc` leaves its stage running. The next `dvc repro` would remove or check out the outputs of this orphan
    while it still writes them, and its results would not be recorded; therefore it is ended as well. DVC sets the
    variable DVC_STAGE for its stages; a stage that was started by hand, without it, is not affected.
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


def _dvc() -> "psutil.Process | None":
    """Return the `dvc` process that started this stage; None if it has already ended.

    It is the nearest ancestor that is not part of the stage. For an orphan, that is init or another process that
    adopts orphans, which is not in the process group that `dvc` shares with its stages.
    """
    import psutil  # takes time to load, and the command `mammo` needs none of it

    try:
        above = psutil.Process().parent()
        while above is not None and "DVC_STAGE" in above.environ():
            above = above.parent()
    except psutil.NoSuchProcess:
        return None
    except psutil.AccessDenied:  # another user's process, so not part of the stage
        pass
    try:
        return above if above is not None and os.getpgid(above.pid) == os.getpgrp() else None
    except OSError:
        return None
