"""Work in a process of its own that is ended when it takes too much memory or time."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from select import select
from typing import Any

from mammo.core import process
from mammo.core.errors import UserError

PACKAGES = Path(__file__).resolve().parents[2]  # the folder stages/, so that the process runs this clone's code
POLL = 0.1  # seconds between two looks at a process that has not answered yet
ENDED = 10  # seconds that an ended process is waited for
SINGLE_THREADED = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


_STARTER = ThreadPoolExecutor(1, "bounded")
"""Starts the processes: they end when the thread that started them does, so it must not be one that comes and goes."""
LACK = "there is not enough memory to decode it"


class BoundError(UserError):
    """The work did not end within its bounds, or memory was short; this says nothing about its input."""


class Worker:
    """A process that answers requests, one at a time, each within bounds of memory and processor time."""

    def __init__(self, module: str, memory: int, seconds: float, main: str = "main") -> None:
        """Start `main` of `module`, which calls `serve`, without waiting for it.

        Args:
            module: name of a module of this package; it must not import TensorFlow.
            memory: bytes of resident memory.
            seconds: processor time per request.
            main: name of the function.

        """
        self.memory, self.seconds = memory, seconds
        code = f"import sys; sys.path.insert(0, {str(PACKAGES)!r}); from {module} import {main}; {main}()"
        self._process = _STARTER.submit(
            subprocess.Popen,
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | SINGLE_THREADED,
        ).result()

    def ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Return the answer to a request and the bytes that go with it.

        Raises:
            BoundError: memory or time exceeded the bounds, or the process ended; it cannot be asked again.

        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            self._wait()
            head = process.stdout.readline()
            answer = json.loads(head) if head else {}
            content = process.stdout.read(answer["bytes"])
        except (OSError, KeyError, ValueError):
            raise BoundError(f"decoding ended unexpectedly ({self._how_it_ended()})") from None
        if answer.get("lacks_memory"):
            raise BoundError(LACK)
        return answer, content

    def _wait(self) -> None:
        """Wait for the first byte of an answer; look at memory and time now and then."""
        assert self._process.stdout is not None
        stdout, looked, begun = self._process.stdout, None, 0.0
        while not select([stdout], [], [], POLL)[0]:
            import psutil  # takes time to load, and an answer that comes at once needs none of it

            try:
                looked = looked or psutil.Process(self._process.pid)
                times, used = looked.cpu_times(), looked.memory_info().rss
            except psutil.Error:
                return  # it has ended: its output is at its end, too
            begun = begun or times.user + times.system
            if used > self.memory:
                self._end()
                raise BoundError(f"decoding it took more than {self.memory / 1e9:.0f} GB of memory and was ended")
            if times.user + times.system - begun > self.seconds:
                self._end()
                raise BoundError(f"decoding it took more than {self.seconds:.0f} s of processor time and was ended")

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(ENDED)
        except subprocess.TimeoutExpired:
            return "no answer"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def _end(self) -> None:
        self._process.kill()
        self.close()

    def close(self) -> None:
        """End the process as soon as it has answered."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # the process has ended before it read all of its requests
                    continue
        try:
            self._process.wait(ENDED)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def serve(answer: Callable[[dict[str, Any]], tuple[dict[str, Any], bytes]]) -> None:
    """Answer requests on standard input until it is closed, in the process that `Worker` starts.

    The process ends at once, even amid work, when the one that started it has ended.
    """
    process.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            requests.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    out = sys.stdout.buffer
    while True:
        request = json.loads(requests.get())
        try:
            head, content = answer(request)
        except MemoryError:
            head, content = {"lacks_memory": True}, b""
        out.write(json.dumps(head | {"bytes": len(content)}).encode() + b"\n")
        out.write(content)
        out.flush()
