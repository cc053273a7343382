"""What becomes of a stage's process: one at a time in a workspace, and none outlives the `dvc` that started it."""

import contextlib
import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from mammo.core.errors import UserError

import psutil


@contextlib.contextmanager
def alone(name: str, path: Path) -> Iterator[None]:
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


def end_with_dvc(name: str) -> None:
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
    """Return the `dvc` above this process and the shell between them; None when it is gone already.

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
