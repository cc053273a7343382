"""Parallel work on all available cores, or on a cluster; results depend on neither.

Where the environment variable DASK_SCHEDULER_ADDRESS names the scheduler of a Dask cluster, its workers do the work
(docs/engine.md); otherwise threads or processes of this machine do. It is no setting: it changes no byte.
"""

import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TypeVar

from mammo.core import cluster

import cv2
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 64  # items that are begun at a time, and half of those whose results may wait for an earlier one's


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def progress(items: Iterable[Item], what: str, total: int | None = None, unit: str = "images") -> Iterable[Item]:
    """Return `items` with a progress bar on standard error, if that is a terminal; without one if `what` is empty."""
    disable = None if what else True  # None: where it is no terminal
    return tqdm(items, desc=what, total=total, unit=" " + unit, disable=disable, leave=False, dynamic_ncols=True)


def each(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, unit: str = "images", threads: int = 0
) -> Iterator[Result]:
    """Yield `work(item)` for every item in order, computed with one thread per core, at most `threads`, with a bar.

    OpenCV's own threads are switched off, since they would compete with these. An error cancels the remaining items.
    """
    done = _here(work, items, min(cores(), threads or cores()), 0)
    yield from progress(_in_order(done), what, len(items), unit)


def spread(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    what: str = "",
    unit: str = "images",
    threads: int = 0,
    processes: int = 0,
) -> Iterator[Result]:
    """Yield `work(item)` for every item in order, on the cluster if there is one, otherwise as `each` does.

    On a cluster, `work` and the items are pickled, so `work` must be a function of a module of this package, or one
    with some of its arguments (`functools.partial`). It must write nothing, since an item whose worker is lost is done
    again. Results leave the worker before they are yielded.

    Args:
        work: what is done.
        items: with what; each should take a second or so.
        what: beginning of the progress bar; without it there is none.
        unit: of the items.
        threads: of this machine, where there is no cluster; 0 for one per core.
        processes: of this machine instead, for work that would wait for Python's lock; 0 for threads.

    """
    yield from progress(_in_order(_done(work, items, threads, processes)), what, len(items), unit)


def as_done(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, unit: str = "images"
) -> Iterator[tuple[int, Result]]:
    """Yield the place of each item and `work(item)` as soon as it is done; see `spread`."""
    yield from progress(_done(work, items, 0, 0), what, len(items), unit)


def _in_order(done: Iterator[tuple[int, Result]]) -> Iterator[Result]:
    early: dict[int, Result] = {}
    following = 0
    for place, result in done:
        early[place] = result
        while following in early:
            yield early.pop(following)
            following += 1


def _done(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int, processes: int
) -> Iterator[tuple[int, Result]]:
    if not cluster.address():
        yield from _here(work, items, threads or cores(), processes)
    elif items:
        with cluster.connected() as workers:
            yield from workers.done(work, items)


def _here(
    work: Callable[[Item], Result], items: Sequence[Item], threads: int, processes: int
) -> Iterator[tuple[int, Result]]:
    cv2.setNumThreads(1)
    ended: queue.SimpleQueue[Future[Result]] = queue.SimpleQueue()
    begun: dict[Future[Result], int] = {}
    following = oldest = 0
    with _pool(threads, processes) as pool:
        try:
            while following < len(items) or begun:
                while following < len(items) and len(begun) < AHEAD and following - oldest < 2 * AHEAD:
                    future = pool.submit(work, items[following])
                    begun[future] = following
                    future.add_done_callback(ended.put)
                    following += 1
                future = ended.get()
                yield begun.pop(future), future.result()
                oldest = next(iter(begun.values()), following)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _pool(threads: int, processes: int) -> Executor:
    if not processes:
        return ThreadPoolExecutor(threads)
    # spawn, because a fork of a process with threads (OpenCV, TensorFlow) can hang
    return ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _begin_process)


def _begin_process() -> None:
    """Turn off OpenCV's own threads, which would compete for cores, and end this process if the stage is killed."""
    cv2.setNumThreads(1)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
