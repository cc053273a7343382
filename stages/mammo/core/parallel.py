"""Parallel work on all available cores; results do not depend on their number."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "images") -> Iterable[Item]:
    """Return `items` with a progress bar on standard error, if that is a terminal; without one if `what` is empty."""
    disable = None if what else True  # None: where it is no terminal
    return tqdm(items, desc=what, total=total, unit=" " + unit, disable=disable, leave=False, dynamic_ncols=True)


def each(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, unit: str = "images", threads: int | None = None
) -> Iterator[Result]:
    """Yield `work(item)` for every item in order, computed with one thread per core, at most `threads`, with a bar.

    OpenCV's own threads are switched off, since they would compete with these. An error cancels the remaining items.
    """
    cv2.setNumThreads(1)
    with ThreadPoolExecutor(min(cores(), threads or cores())) as pool:
        try:
            yield from progress(pool.map(work, items), what, len(items), unit)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def end_with_parent() -> None:
    """End this worker process when the stage that started it is killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
