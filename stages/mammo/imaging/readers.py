"""Reading of files from strangers: what may cost more than its header says is decoded in a process with bounds.

Baseline JPEG and PNG are decoded in the thread that asks, since their cost is known from their size. All other formats
go to a process (`decoding`) that is ended beyond the bounds of `decoder`. These are a backstop: what is refused is
decided by `limits`, alike on every machine. A file that reaches a bound, or for which memory is short, is never
"unreadable".
"""

import functools
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mammo.core import bounded, parallel
from mammo.core.bounded import BoundError, Worker
from mammo.core.files import IMAGE_SUFFIXES
from mammo.core.settings import ForProcessing
from mammo.core.wording import shown
from mammo.imaging import decoder, delivered, images, limits, scan_files
from mammo.imaging.canonical import STEPS, Steps
from mammo.imaging.images import memory_of_opencv
from mammo.imaging.limits import DamagedError, UnreadableError
from mammo.imaging.scanned import Properties, Remark, Scanned

import numpy as np


class Preprocessing(Protocol):
    """How images are read: the section `preprocess` of params.yaml, or what the model info keeps of it."""

    @property
    def canonical(self) -> Steps:
        """Steps of canonicalisation."""

    @property
    def for_processing(self) -> ForProcessing:
        """What is done with raw detector data."""


@dataclass(frozen=True)
class Reading:
    """How images are read; by default as they are stored, but for raw detector data, which are refused."""

    canonical: Steps = images.PLAIN
    for_processing: ForProcessing = "refuse"


AS_STORED = Reading()


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

    def scan(self, path: Path, size: tuple[int, int], how: Preprocessing = AS_STORED) -> Scanned:
        """Read an image or DICOM file as 8-bit grey of one size.

        Args:
            path: the file.
            size: height and width in pixels.
            how: steps of canonicalisation, and what to do with raw detector data.

        Raises:
            UnreadableError: what the file says of itself, or damage.
            BoundError: a bound was reached or memory was short, which says nothing about the file.

        """
        if path.suffix.lower() not in scan_files.DICOM_SUFFIXES and (cheap := images.in_one_pass(path)):
            data, stream = cheap
            image = self._here(path, lambda: images.decode(data, size, how.canonical, stream))
            return Scanned(image, [], delivered.of_image(data, stream))
        return self._elsewhere(path, size, how)

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

    def _elsewhere(self, path: Path, size: tuple[int, int], how: Preprocessing) -> Scanned:
        try:
            worker = self._idle.get_nowait()
        except queue.Empty:
            worker = decoder.start(*self._bounds, for_dicom=path.suffix.lower() not in IMAGE_SUFFIXES)
        request = {
            "path": os.fspath(path.absolute()),
            "size": size,
            "steps": {name: getattr(how.canonical, name) for name in STEPS},
            "for_processing": how.for_processing,
        }
        try:
            answer, content = worker.ask(request)
        except BoundError as error:
            worker.close()
            raise BoundError(f"{shown(path)}: {error}") from None
        self._idle.put(worker)
        if "unreadable" in answer:
            raise UnreadableError(answer["unreadable"])
        return Scanned(
            np.frombuffer(content, np.uint8).reshape(answer["shape"]).copy(),
            [Remark(*remark) for remark in answer["remarks"]],
            Properties(*answer["properties"]),
        )


@functools.cache
def of_this_process() -> Readers:
    """Return the readers of a worker's process, which serve one task after the other and end with it."""
    return Readers()


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
