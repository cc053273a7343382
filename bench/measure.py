"""How the benchmark measures: works in processes of their own, taken in turn, ratios with spread, anonymous memory.

Needs nothing beyond Python's own library, so that a peer's environment can run it too.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

POLL = 0.01  # seconds between two looks at a process's memory


def serve(work: Callable[[], Any], **about: Any) -> None:
    """The child's side: say that it is ready and what is to be known `about` it, then work whenever it is asked.

    Every line on standard input asks for `work` once; the answer is the seconds it took.
    """
    print(json.dumps(about), flush=True)
    for _ in sys.stdin:
        begun = time.perf_counter()
        work()
        print(time.perf_counter() - begun, flush=True)


class Worker:
    """The parent's side of `serve`: a process that holds one work, idle until asked."""

    def __init__(self, *command: object) -> None:
        """Start `command` and wait until it is ready."""
        self.command = [str(part) for part in command]
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, bufsize=1
        )
        self.about: dict[str, Any] = json.loads(self._line())

    def __call__(self) -> float:
        """Do the work once; gives the seconds."""
        assert self.process.stdin
        self.process.stdin.write("\n")
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return line
        self.errors.seek(0)
        raise RuntimeError(f"{' '.join(self.command)} ended:\n{self.errors.read().decode()[-3000:]}")

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def in_turn(works: Mapping[str, Callable[[], float]], rounds: int, warm: bool = True) -> dict[str, list[float]]:
    """The seconds of every work in every round, all works taken in turn, every second round backwards.

    What disturbs the machine so falls on all of them alike. With `warm`, one round before does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(-1 if warm else 0, rounds):
        for name in works if number % 2 == 0 else reversed(works):
            took = works[name]()
            if number >= 0:
                seconds[name].append(took)
    return seconds


def spread(ratios: Sequence[float], digits: int = 2) -> str:
    """`2.11 (2.05–2.20, n = 5)`: median, least and greatest."""
    middle = statistics.median(ratios)
    if len(ratios) == 1:
        return f"{middle:.{digits}f} (n = 1)"
    return f"{middle:.{digits}f} ({min(ratios):.{digits}f}–{max(ratios):.{digits}f}, n = {len(ratios)})"


def anonymous(process: int) -> int:
    """Anonymous memory of a process in bytes: what it holds itself, without mapped files (RssAnon of proc(5))."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon")), 0)


def watched(command: Sequence[object], cwd: Path, may_fail_with: str = "") -> tuple[float, int]:
    """Run a command to its end; gives the seconds and the peak of its anonymous memory in bytes.

    Raises:
        RuntimeError: it failed otherwise than by `may_fail_with`.

    """
    with tempfile.TemporaryFile() as said:
        begun, peak = time.perf_counter(), 0
        process = subprocess.Popen([str(part) for part in command], cwd=cwd, stdout=said, stderr=subprocess.STDOUT)
        while process.poll() is None:
            peak = max(peak, anonymous(process.pid))
            time.sleep(POLL)
        seconds = time.perf_counter() - begun
        said.seek(0)
        text = said.read().decode()
    if process.returncode and not (may_fail_with and may_fail_with in text):
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{text[-3000:]}")
    return seconds, peak
