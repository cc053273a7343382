"""Measurements of the benchmark: tasks in separate processes, in turn; ratios with range; anonymous memory.

Uses only Python's standard library, so that it also runs in a peer's environment. Linux only: it reads /proc.
"""

import contextlib
import datetime
import json
import os
import platform
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
POLL = 0.01  # seconds between two readings of a process's memory
VECTORS = ("amx_bf16", "avx512_bf16", "bf16", "avx512f", "avx2", "asimd")  # the first that a processor has is shown
LONGEST = 3000  # maximum number of characters shown of a failed process's output


@contextlib.contextmanager
def started(command: Sequence[object], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command in its own process group; kill the remaining processes of the group when the block ends."""
    process = subprocess.Popen([str(part) for part in command], start_new_session=True, text=True, **options)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def serve(work: Callable[[], Any], **about: Any) -> None:
    """Print `about` as JSON, then do the work once per line of standard input and print its seconds.

    This runs in the process that `Worker` starts.
    """
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        work()
        print(time.perf_counter() - begun, flush=True)


class Worker:
    """A process for one task (see `serve`), idle until called; a context manager that ends it."""

    def __init__(self, *command: object, cwd: Path) -> None:
        """Start `command` in the folder `cwd` and wait until it is ready.

        Raises:
            RuntimeError: the process ended early.

        """
        self._command = command
        with contextlib.ExitStack() as stack:
            self._errors = stack.enter_context(tempfile.TemporaryFile("w+"))
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self._errors}
            self._process = stack.enter_context(started(command, cwd=cwd, bufsize=1, **streams))
            self.about: dict[str, Any] = json.loads(self._line())
            self._stack = stack.pop_all()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def __call__(self) -> float:
        """Do the work once; return the seconds.

        Raises:
            RuntimeError: the process ended.

        """
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # `_line` tells why
            self._process.stdin.write("\n")
        return float(self._line())

    def _line(self) -> str:
        assert self._process.stdout
        if line := self._process.stdout.readline():
            return line
        self._errors.seek(0)
        raise RuntimeError(failure(self._command, self._errors.read()))


def failure(command: Sequence[object], output: str) -> str:
    """Return the error message of a failed command."""
    return f"{' '.join(map(str, command))} failed:\n{output[-LONGEST:]}"


def watched(command: Sequence[object], cwd: Path, may_fail_with: str = "", **options: Any) -> tuple[float, int]:
    """Run a command in the folder `cwd`; return its seconds and its peak anonymous memory in bytes.

    Raises:
        RuntimeError: it failed, and its output does not hold `may_fail_with`.

    """
    with tempfile.TemporaryFile("w+") as output:
        begun, peak = time.perf_counter(), 0
        with started(command, cwd=cwd, stdout=output, stderr=subprocess.STDOUT, **options) as process:
            end = os.pidfd_open(process.pid)
            while not select.select([end], [], [], POLL)[0]:
                peak = max(peak, anonymous(process.pid))
            seconds = time.perf_counter() - begun
            os.close(end)
            status = process.wait()
        output.seek(0)
        text = output.read()
    if status and not (may_fail_with and may_fail_with in text):
        raise RuntimeError(failure(command, text))
    return seconds, peak


def anonymous(process: int) -> int:
    """Return the anonymous memory of a process in bytes, without mapped files (RssAnon of proc(5))."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)


def in_turn(works: Mapping[str, Callable[[], float]], rounds: int, warm: bool = True) -> dict[str, list[float]]:
    """Return the seconds of each task in each round; tasks alternate, in reverse order in every second round.

    Other load on the machine so affects all tasks equally. With `warm`, one untimed round comes first.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-1 if warm else 0, rounds):
        for name in works if number % 2 == 0 else reversed(works):
            took = works[name]()
            if number >= 0:
                seconds[name].append(took)
    return seconds


def with_range(ratios: Sequence[float]) -> str:
    """Return median, minimum and maximum: `2.11 (2.05–2.20, n = 5)`."""
    middle = statistics.median(ratios)
    if len(ratios) == 1:
        return f"{middle:.2f} (n = 1)"
    return f"{middle:.2f} ({min(ratios):.2f}–{max(ratios):.2f}, n = {len(ratios)})"


def heading(*more: str) -> str:
    """Return the line above a table: processor, date, measured commit, and `more`."""
    return "; ".join((processor(), str(datetime.date.today()), f"commit {commit()}", *more))


def processor() -> str:
    """Return the processor's model, its usable cores, and its widest vector instructions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    vectors = next((name for name in VECTORS if name in _instructions()), "no vector extension")
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {vectors}"


def has_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16."""
    return any(name.endswith("bf16") and name in _instructions() for name in VECTORS)


def _instructions() -> set[str]:
    return set(Path("/proc/cpuinfo").read_text().split())


def cloned(commit: str, target: Path) -> Path:
    """Clone the project at a commit into the folder `target`; return it."""
    subprocess.run(("git", "clone", "--quiet", "--shared", ROOT, target), check=True)
    subprocess.run(("git", "-C", target, "checkout", "--quiet", commit), check=True, capture_output=True)
    return target


def earlier(commit: str, target: Path) -> Path | None:
    """Return the stages of a clone at a commit; None where the history does not reach back to it."""
    try:
        return cloned(commit, target) / "stages"
    except subprocess.CalledProcessError:
        return None


def commit() -> str:
    """Return the short commit of this clone, with a `+` if tracked files differ from it."""

    def git(*arguments: str) -> str:
        return subprocess.run(("git", *arguments), cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + "+" * bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.CalledProcessError):  # no git, or an archive without its history
        return "unknown"
