"""Reading of files from strangers: what may cost more than its header says is decoded in a process with bounds.

Baseline JPEG and PNG are decoded in the thread that asks, since their cost is known from their size. All other formats
go to a process that is ended beyond the bounds of `decoder`. These are a backstop: what is refused is decided by
`limits`, alike on every machine. A file that reaches a bound, or for which memory is short, is never "unreadable".
"""

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from mammo.core import bounded, parallel
from mammo.core.bounded import BoundError, Worker
from mammo.core.settings import ForProcessing
from mammo.core.wording import shown
from mammo.imaging import decoder, images, limits, scan_files
from mammo.imaging.canonical import STEPS, Steps
from mammo.imaging.decoding import Read, memory_of_opencv
from mammo.imaging.limits import DamagedError, UnreadableError
from mammo.imaging.remarks import Remark

import numpy as np


class Preprocessing(Protocol):
    """How images are read: the section `preprocess` of params.yaml, or what the model info keeps of it."""

    @property
    def canonical(self) -> Steps:
        """Steps of canonicalisation."""

    @property
    def for_processing(self) -> ForProcessing:
        """What is done with raw detector data."""


class Readers:
    """Readers for the threads of one task; a context manager that ends their processes."""

    def __init__(self, memory: int | None = None, seconds: float | None = None, started: Worker | None = None) -> None:
        """Start no process yet; the bounds are those of `decoder` unless given. `started` is a process of `decoder`."""
        self._bounds = memory or decoder.MEMORY, seconds or decoder.SECONDS
        self._idle: queue.LifoQueue[Worker] = queue.LifoQueue()
        if started is not None:
            self._idle.put(started)
        self._gate = _Gate()

    def __enter__(self) -> "Readers":
        """Return the readers."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the processes that are not at work."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def start_for(self, paths: Iterable[Path]) -> None:
        """Start a process now if one of the files will need it by its name: it loads its libraries meanwhile."""
        if self._idle.empty() and (worker := decoder.start_for(paths, *self._bounds)):
            self._idle.put(worker)

    def scan(self, path: Path, size: tuple[int, int], how: Preprocessing) -> Read:
        """Read an image or DICOM file as 8-bit grey of one size; raises as `image` does."""
        try:
            coded = scan_files.is_dicom(path)
        except OSError as error:
            raise UnreadableError(f"cannot be opened: {error.strerror}") from error
        if coded:
            return self.dicom(path, size, how.canonical, how.for_processing)
        return self.image(path, size, how.canonical), []

    def image(self, path: Path, size: tuple[int, int], steps: Steps = images.PLAIN) -> np.ndarray:
        """Read an image file as `images.read` does.

        Raises:
            UnreadableError: what the file says of itself, or damage.
            BoundError: a bound was reached or memory was short, which says nothing about the file.

        """
        if cheap := images.in_one_pass(path):
            data, stream = cheap
            return self._here(path, lambda: images.decode(data, size, steps, stream))
        return self._elsewhere(path, size, steps, "image")[0]

    def dicom(
        self,
        path: Path,
        size: tuple[int, int],
        steps: Steps = images.PLAIN,
        for_processing: ForProcessing = "refuse",
    ) -> Read:
        """Read a DICOM file as `dicom.read` does; raises as `image` does."""
        return self._elsewhere(path, size, steps, "dicom", for_processing)

    def _here(self, path: Path, decode: Callable[[], np.ndarray]) -> np.ndarray:
        """Decode in this thread; what a decoder calls damaged is decoded again, alone and with enough memory."""
        try:
            try:
                with self._gate.shared(), memory_of_opencv():
                    return decode()
            except DamagedError as error:
                with self._gate.alone():
                    limits.check_memory(error.need)
                    with memory_of_opencv():
                        return decode()
        except MemoryError:
            raise BoundError(f"{shown(path)}: {bounded.LACK}") from None

    def _elsewhere(
        self, path: Path, size: tuple[int, int], steps: Steps, kind: str, for_processing: ForProcessing = "refuse"
    ) -> Read:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = decoder.start(*self._bounds, for_dicom=kind == "dicom")
        request = {
            "kind": kind,
            "path": os.fspath(path.absolute()),
            "size": size,
            "steps": {name: getattr(steps, name) for name in STEPS},
            "for_processing": for_processing,
        }
        try:
            answer, content = worker.ask(request)
        except BoundError as error:
            worker.close()
            raise BoundError(f"{shown(path)}: {error}") from None
        self._idle.put(worker)
        if "unreadable" in answer:
            raise UnreadableError(answer["unreadable"])
        return np.frombuffer(content, np.uint8).reshape(answer["shape"]).copy(), [
            Remark(*remark) for remark in answer["remarks"]
        ]


class _Gate:
    """Lets many threads decode, or one alone."""

    def __init__(self) -> None:
        self._threads = max(parallel.cores(), 64)
        self._places = threading.BoundedSemaphore(self._threads)
        self._one = threading.Lock()

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._places:
            yield

    @contextmanager
    def alone(self) -> Iterator[None]:
        with self._one:
            for _ in range(self._threads):
                self._places.acquire()
            try:
                yield
            finally:
                for _ in range(self._threads):
                    self._places.release()
