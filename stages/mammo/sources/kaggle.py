"""Download of a pinned Kaggle data set through kagglehub, with a timeout, retries and clear error messages.

Environment variables, for bad connections and for tests:

- `MAMMO_KAGGLE_DEADLINE`: timeout: an attempt ends after this many seconds without a byte from the server (60);
- `MAMMO_KAGGLE_BACKOFF`: seconds before the second attempt (2), doubled before each subsequent one;
- `MAMMO_KAGGLE_ATTEMPTS`: the stage gives up after this many consecutive attempts without progress (5). Progress is a
  larger partial archive (kagglehub writes whole MiB), from which the next attempt resumes.
"""

import contextlib
import errno
import fcntl
import logging
import os
import platform
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mammo.core.errors import UserError

import kagglehub
import requests
from kagglehub.cache import get_cached_archive_path
from kagglehub.exceptions import DataCorruptionError
from kagglehub.handle import parse_dataset_handle
from requests.adapters import HTTPAdapter
from urllib3.exceptions import InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

LONGEST_WAIT = 300.0  # seconds; stop when the server asks to wait longer
MOST_ATTEMPTS = 100  # in all: otherwise a server that cuts every transfer and cannot resume would cause an endless loop

_ARCHIVE_FAULTS = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError)
_OUTSIDE = getattr(tarfile, "FilterError", ())  # of a member that would get out; Python before 3.11.4 has no such check
_TOKEN = "a token from https://www.kaggle.com/settings in KAGGLE_API_TOKEN or ~/.kaggle/access_token"


@dataclass(frozen=True)
class Failure:
    """Reason for a failed attempt, and advice for the user."""

    reason: str
    advice: str
    transient: bool = False  # whether another attempt may succeed
    wait: float = 0.0  # seconds to wait before it, as requested by the server


def fetch(handle: str) -> Path:
    """Return the folder of the data set `OWNER/NAME/versions/N` in kagglehub's cache; download it if it is missing.

    Raises:
        UserError: the data set cannot be downloaded; with reason and advice.

    """
    deadline = _number("MAMMO_KAGGLE_DEADLINE", 60)
    back_off = _number("MAMMO_KAGGLE_BACKOFF", 2)
    most_failures = _number("MAMMO_KAGGLE_ATTEMPTS", 5)
    archive = Path(get_cached_archive_path(parse_dataset_handle(handle)))
    attempts = failures = 0
    while True:
        before = _size(archive)
        try:
            with _alone(archive), _quiet(), _timeout(deadline):
                return Path(kagglehub.dataset_download(handle))
        except Exception as error:
            failure = _explained(error, archive, deadline)
        attempts += 1
        failures = 1 if _size(archive) > before else failures + 1
        enough = failures >= most_failures or attempts == MOST_ATTEMPTS
        if enough or not failure.transient or failure.wait > LONGEST_WAIT:
            tried = f" (tried {attempts} times)" if attempts > 1 else ""
            raise UserError(f"the Kaggle set {handle} cannot be fetched{tried}: {failure.reason}; {failure.advice}")
        wait = max(failure.wait, back_off * 2 ** (failures - 1))
        print(f"download: {failure.reason}; trying again in {wait:g} s", flush=True)
        time.sleep(wait)


def _number(variable: str, default: float) -> float:
    text = os.environ.get(variable, str(default))
    with contextlib.suppress(ValueError):
        if (number := float(text)) > 0:
            return number
    raise UserError(f"the environment variable {variable} is {text!r}; allowed is a number above 0")


def _size(archive: Path) -> int:
    try:
        return archive.stat().st_size
    except OSError:
        return 0


@contextlib.contextmanager
def _alone(archive: Path) -> Iterator[None]:
    """Hold a lock, since two clients that resume the same archive at the same time would both append to it."""
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        lock = archive.with_suffix(".lock").open("w")
    except OSError:  # a read-only cache, which is sufficient if it contains the data set
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the messages of kagglehub, and its progress bar unless standard error is a terminal."""
    logging.getLogger("kagglehub").setLevel(logging.CRITICAL)
    with Path(os.devnull).open("w") as nowhere:
        bar = sys.stderr if sys.stderr.isatty() else nowhere
        with contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(bar):
            yield


@contextlib.contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    """Set the timeout of every request: kagglehub sends its first request without one."""
    send = HTTPAdapter.send

    def send_with_timeout(adapter: HTTPAdapter, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        return send(adapter, request, **{**options, "timeout": seconds})

    HTTPAdapter.send = send_with_timeout  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        HTTPAdapter.send = send  # type: ignore[method-assign]


def _explained(error: Exception, archive: Path, deadline: float) -> Failure:
    """Return the failure for an exception of kagglehub."""
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return _refusal(error.response)
    if isinstance(error, requests.RequestException):
        return _bad_line(error, deadline)
    if isinstance(error, DataCorruptionError):
        return Failure("the downloaded archive is damaged (wrong MD5)", "run again later", True)
    if isinstance(error, OSError) and error.errno is not None:
        return _disk(error, archive.parent)
    if isinstance(error, ValueError) and "credentials" in str(error):
        return Failure(_line(error), f"fix or delete that file, or put {_TOKEN}")
    if isinstance(error, _ARCHIVE_FAULTS) and archive.exists():
        return _bad_archive(error, archive)
    if isinstance(error, TypeError) and not _OUTSIDE:
        version = platform.python_version()
        return Failure(
            f"its archive is a tar file, which Python {version} cannot unpack safely", "use Python 3.11.4 or later"
        )
    return Failure(f"kagglehub failed with {type(error).__name__}: {_line(error)}", "run again")


def _bad_line(error: requests.RequestException, deadline: float) -> Failure:
    """Return the failure for an error of the connection."""
    go_on = "run again to resume the download"
    if isinstance(error, requests.exceptions.SSLError):
        reason = f"the certificate of Kaggle was not accepted ({_line(error)})"
        return Failure(reason, "behind a company's proxy, set REQUESTS_CA_BUNDLE to its certificates")
    silent_in_the_body = bool(error.args) and isinstance(error.args[0], ReadTimeoutError)
    if isinstance(error, requests.exceptions.Timeout) or silent_in_the_body:
        return Failure(f"Kaggle sent nothing for {deadline:g} s", go_on, True)
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return Failure("the connection to Kaggle was cut", go_on, True)
    if isinstance(error, requests.exceptions.ConnectionError):
        return Failure("Kaggle cannot be reached", "check this machine's internet connection", True)
    return Failure(f"Kaggle sent an unexpected response ({_line(error)})", "run again later", True)


def _refusal(response: requests.Response) -> Failure:
    """Return the failure for an HTTP status of 400 or more."""
    status = response.status_code
    if status == 401:
        return Failure("Kaggle did not accept the credential (401)", f"put {_TOKEN}, or none for a public set")
    if status == 403:
        reason = "access was denied (403): it is private, does not exist, or has terms to accept on its page"
        return Failure(reason, f"check data.kaggle and put {_TOKEN}")
    if status == 404:
        return Failure("Kaggle does not have it (404)", "check owner, name and version in data.kaggle")
    wait = _seconds_to_wait(response.headers.get("Retry-After", ""))
    later = f"run again after {wait:.0f} s" if wait else "run again later"
    if status == 429:
        return Failure("Kaggle received too many requests (429)", later, True, wait)
    if status >= 500:
        return Failure(f"Kaggle reports a server error ({status})", later, True, wait)
    return Failure(f"Kaggle answered {status} {response.reason}", "run again later")


def _seconds_to_wait(retry_after: str) -> float:
    """Convert a Retry-After header (seconds or a date; RFC 9110, 10.2.3) to seconds; 0 if it is empty or invalid."""
    try:
        return Retry().parse_retry_after(retry_after)
    except InvalidHeader:
        return 0.0


def _disk(error: OSError, cache: Path) -> Failure:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "make room and run again, or set KAGGLEHUB_CACHE to a folder on another disk"
        return Failure(f"the disk is full ({error.strerror}) at {cache}", advice)
    return Failure(f"{error.filename or cache}: {error.strerror}", "fix that or set KAGGLEHUB_CACHE elsewhere")


def _bad_archive(error: Exception, archive: Path) -> Failure:
    """Remove an archive that cannot be unpacked, since kagglehub would never download it again."""
    archive.unlink()
    if isinstance(error, _OUTSIDE):
        reason = f"its archive would write outside its folder ({_line(error)}) and was removed"
        return Failure(reason, "tell the owner of the set")
    reason = "the downloaded file is not an archive" if isinstance(error, ValueError) else "its archive is damaged"
    return Failure(f"{reason} ({_line(error)}) and was removed", "run again to fetch all of it")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300].rstrip(".")
