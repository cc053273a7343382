"""A pinned Kaggle set through kagglehub, with what its client lacks: a deadline, retries, and plain words.

kagglehub runs in a child process (`python -m mammo.sources.kaggle OWNER/NAME/versions/N`), watched for growth of its
cache: its first request has no time-out, so a silent server would hold it for ever. Environment variables, for bad
lines and for tests:

- `MAMMO_KAGGLE_DEADLINE`: seconds for which nothing may arrive before an attempt is ended (60; kagglehub writes whole
  MiB, so a line slower than 1 MiB in this time counts as silent);
- `MAMMO_KAGGLE_BACKOFF`: seconds before the second attempt (2), doubled before each further one;
- `MAMMO_KAGGLE_ATTEMPTS`: attempts in a row that bring nothing before it is given up (5); one that brought a part of
  the archive does not count, since the next goes on from there.
"""

import contextlib
import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import psutil

from mammo.core.errors import UserError

DEADLINE = 60.0
BACK_OFF = 2.0
ATTEMPTS = 5
LONGEST_WAIT = 300.0
"""A server that asks to wait longer than this, in seconds, is obeyed by stopping."""

MOST_ATTEMPTS = 100
"""In all: a server that cuts every transfer and cannot resume would let the archive grow for ever."""

_ARCHIVE_FAULTS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError)
_TOKEN = "a token from https://www.kaggle.com/settings in KAGGLE_API_TOKEN or ~/.kaggle/access_token"


@dataclass(frozen=True)
class Outcome:
    """What became of one attempt."""

    path: str | None = None
    """The folder in kagglehub's cache, if it went well."""
    trouble: str = ""
    """If not, why."""
    advice: str = ""
    """And what the user can do."""
    passing: bool = False
    """Whether another attempt may go better."""
    wait: float = 0.0
    """Seconds the server asked to wait before it."""


def fetch(handle: str) -> Path:
    """The folder of a set in kagglehub's cache; the network is not touched if the set is there.

    Raises:
        UserError: it could not be fetched; says why and what to do.

    """
    back_off = _number("MAMMO_KAGGLE_BACKOFF", BACK_OFF)
    attempts = _number("MAMMO_KAGGLE_ATTEMPTS", ATTEMPTS)
    tries = failures = 0
    while True:
        before = _bytes_here(handle)
        outcome = _attempt(handle)
        if outcome.path is not None:
            return Path(outcome.path)
        tries += 1
        failures = 1 if _bytes_here(handle) > before else failures + 1
        enough = failures >= attempts or tries == MOST_ATTEMPTS
        if enough or not outcome.passing or outcome.wait > LONGEST_WAIT:
            tried = f" (tried {tries} times)" if tries > 1 else ""
            raise UserError(f"the Kaggle set {handle} cannot be fetched{tried}: {outcome.trouble}; {outcome.advice}")
        wait = max(outcome.wait, back_off * 2 ** (failures - 1))
        print(f"download: {outcome.trouble}; trying again in {wait:g} s", flush=True)
        time.sleep(wait)


def _attempt(handle: str) -> Outcome:
    """One run of kagglehub, ended with all its children if nothing arrives within the deadline."""
    deadline = _number("MAMMO_KAGGLE_DEADLINE", DEADLINE)
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "mammo.sources.kaggle", handle],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=_environment(),
        text=True,
    )
    try:
        if not _ended_by_itself(child, handle, deadline):
            return Outcome(None, f"Kaggle sent nothing for {deadline:g} s", "run again later", passing=True)
        assert child.stdout is not None
        report = child.stdout.read()
        if child.returncode != 0 or not report:
            return Outcome(None, f"kagglehub ended unexpectedly (exit code {child.returncode})", "run again")
        return Outcome(**json.loads(report))
    finally:
        _end(child)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, str(default))
    try:
        return float(text)
    except ValueError:
        raise UserError(f"the environment variable {variable} is {text!r}; allowed is a number") from None


def _ended_by_itself(child: subprocess.Popen, handle: str, deadline: float) -> bool:
    here, last = _bytes_here(handle), time.monotonic()
    while time.monotonic() - last < deadline:
        try:
            child.wait(timeout=min(1.0, deadline / 10))
            return True
        except subprocess.TimeoutExpired:
            if (now := _bytes_here(handle)) != here:
                here, last = now, time.monotonic()
    return False


def _end(child: subprocess.Popen) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(child.pid)
        for one in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()


def _environment() -> dict[str, str]:
    """The child finds this package, says nothing on standard output, and draws its bar on a terminal only."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "KAGGLEHUB_VERBOSITY": "critical",
    }
    if not sys.stderr.isatty():
        environment["TQDM_DISABLE"] = "1"
    return environment


def _cache(handle: str) -> Path:
    """Where kagglehub keeps `N.archive` while it downloads, and `versions/N/` with `N.complete` afterwards."""
    cache = os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub"
    return Path(cache, "datasets", *handle.split("/")[:2])


def _archive(handle: str) -> Path:
    return _cache(handle) / f"{handle.rsplit('/', 1)[1]}.archive"


def _bytes_here(handle: str) -> int:
    """Bytes of the set on disk: archive and extracted files."""
    total = 0
    for folder, _, names in os.walk(_cache(handle)):
        for name in names:
            with contextlib.suppress(OSError):  # a file may go while we look
                total += os.lstat(os.path.join(folder, name)).st_size  # noqa: PTH118 (twice as fast for 50,000 files)
    return total


# What follows runs in the child.


def _child(handle: str) -> None:
    """Fetch a set and print an `Outcome` as JSON."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    report = sys.stdout
    with Path(os.devnull).open("w") as sys.stdout:  # kagglehub prints notices there
        import kagglehub  # here, because it takes half a second that only this process needs to spend

        try:
            with _alone(handle):
                outcome = Outcome(path=kagglehub.dataset_download(handle))
        except Exception as error:
            outcome = _trouble(error, handle)
    print(json.dumps(asdict(outcome)), file=report, flush=True)


def _end_with_parent() -> None:
    """End this process when the parent is killed: an orphan before a silent server would hold the lock for ever."""
    os.read(sys.stdin.fileno(), 1)  # nothing is ever written; returns when the parent's end of the pipe is closed
    os._exit(1)


@contextlib.contextmanager
def _alone(handle: str) -> Iterator[None]:
    """Hold a lock: two clients that resume the same archive at once would both append to it."""
    try:
        _cache(handle).mkdir(parents=True, exist_ok=True)
        lock = _archive(handle).with_suffix(".lock").open("w")
    except OSError:  # a cache that cannot be written to, which is enough if the set is in it
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _trouble(error: Exception, handle: str) -> Outcome:
    """An exception of kagglehub in plain words, with what to do."""
    import requests
    from kagglehub.exceptions import DataCorruptionError

    go_on = "run again to go on where it ended"
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _refusal(error.response)
    if isinstance(error, requests.exceptions.SSLError):
        trouble = f"the certificate of Kaggle was not accepted ({_line(error)})"
        return Outcome(None, trouble, "behind a company's proxy, set REQUESTS_CA_BUNDLE to its certificates")
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return Outcome(None, "the connection to Kaggle was cut", go_on, passing=True)
    if isinstance(error, requests.exceptions.Timeout):
        return Outcome(None, "Kaggle did not answer in time", go_on, passing=True)
    if isinstance(error, requests.exceptions.ConnectionError):
        return Outcome(None, "Kaggle cannot be reached", "check this machine's internet connection", passing=True)
    if isinstance(error, DataCorruptionError):
        trouble = "what arrived is damaged (its MD5 is not the one Kaggle gives)"
        return Outcome(None, trouble, "run again later", passing=True)
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, requests.RequestException):
        return _disk(error, handle)
    if isinstance(error, ValueError) and "credentials" in str(error):
        return Outcome(None, _line(error), f"mend or delete that file, or put {_TOKEN}")
    if isinstance(error, requests.RequestException):
        return Outcome(None, f"Kaggle answered with something else ({_line(error)})", "run again later", passing=True)
    if isinstance(error, _ARCHIVE_FAULTS) and _archive(handle).exists():
        return _bad_archive(error, _archive(handle))
    return Outcome(None, f"kagglehub failed with {type(error).__name__}: {_line(error)}", "run again")


def _refusal(response: Any) -> Outcome:
    """What an answer of 400 or more (a `requests.Response`) means."""
    status = response.status_code
    if status == 401:
        return Outcome(None, "Kaggle did not accept the credential (401)", f"put {_TOKEN}, or none for a public set")
    if status == 403:
        trouble = "access was denied (403): it is private, does not exist, or has terms to accept on its page"
        return Outcome(None, trouble, f"check data.kaggle and put {_TOKEN}")
    if status == 404:
        return Outcome(None, "Kaggle does not know it (404)", "check owner, name and version in data.kaggle")
    wait = _asked_to_wait(response.headers.get("Retry-After", ""))
    later = f"run again after {wait:.0f} s" if wait else "run again later"
    if status == 429:
        return Outcome(None, "Kaggle has had too many requests (429)", later, passing=True, wait=wait)
    if status >= 500:
        return Outcome(None, f"Kaggle has a fault ({status})", later, passing=True, wait=wait)
    return Outcome(None, f"Kaggle answered {status} {response.reason}", "run again later")


def _asked_to_wait(retry_after: str) -> float:
    """Seconds from a Retry-After header, which holds seconds or a date (RFC 9110, 10.2.3); 0 without one."""
    if retry_after.isdecimal():
        return float(retry_after)
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _disk(error: OSError, handle: str) -> Outcome:
    where = _cache(handle)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        way_on = "make room and run again, or set KAGGLEHUB_CACHE to a folder on another disk"
        return Outcome(None, f"the disk is full ({error.strerror}) at {where}", way_on)
    return Outcome(None, f"{error.filename or where}: {error.strerror}", "mend that or set KAGGLEHUB_CACHE elsewhere")


def _bad_archive(error: Exception, archive: Path) -> Outcome:
    """An archive that cannot be unpacked is removed: kagglehub would take it for complete and try it again for ever."""
    archive.unlink()
    if isinstance(error, tarfile.FilterError):
        trouble = f"its archive would write outside its folder ({_line(error)}) and was removed"
        return Outcome(None, trouble, "tell the owner of the set")
    trouble = "what arrived is no archive" if isinstance(error, ValueError) else "its archive is damaged"
    return Outcome(None, f"{trouble} ({_line(error)}) and was removed", "run again to fetch it anew")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")


if __name__ == "__main__":
    _child(sys.argv[1])
