"""Efficiency of a Dask cluster on loopback: chunks of half a second, the cost of an empty one, and real decoding.

    python bench/engine.py [THREADS …]          # the first two
    MAMMOGRAMS=FOLDER python bench/engine.py    # with real decoding beside threads

Chunks that sleep take no processor time, so 64 threads can be tried on two cores; what is measured is what the engine
adds. The workers run this clone's code, which must be committed.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from measure import ROOT, heading, started

sys.path.insert(0, str(ROOT / "stages"))

from mammo.core import cluster, parallel, settings
from mammo.core.dataset import Entry
from mammo.imaging import prepare

import psutil

THREADS = (1, 2, 8, 32, 64)
PROCESSES = 4  # of workers, at most
CHUNK = 0.5  # seconds that a chunk sleeps
CHUNKS = 20  # per thread
EMPTY = 2000  # chunks that cost nothing
ROUNDS = 3  # of decoding
WAIT = 60  # seconds for the workers to come


@contextmanager
def workers(processes: int, threads: int) -> Iterator[None]:
    """Start a scheduler and workers with so many threads each; name it to this process."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="engine_") as folder:
        own = {**os.environ, "PYTHONPATH": str(ROOT / "stages")}
        python, log = (sys.executable, "-m"), stack.enter_context(Path(folder, "log").open("w"))
        where = ("--host", "127.0.0.1", "--no-dashboard")
        about = Path(folder, "scheduler.json")
        options = {"env": own, "cwd": folder, "stdout": log, "stderr": log}
        scheduler = (*python, "distributed.cli.dask_scheduler", "--port", 0, "--scheduler-file", about, *where)
        stack.enter_context(started(scheduler, **options))
        while not about.is_file():
            time.sleep(0.1)
        os.environ[cluster.VARIABLE] = json.loads(about.read_text())["address"]
        stack.callback(os.environ.pop, cluster.VARIABLE)
        several = ("--nworkers", processes, "--nthreads", threads, "--local-directory", folder)
        worker = (*python, "distributed.cli.dask_worker", os.environ[cluster.VARIABLE], *several, *where)
        stack.enter_context(started(worker, **options))
        end = time.monotonic() + WAIT
        while True:
            with suppress(cluster.LostError), cluster.connected() as there:
                if there.threads == processes * threads:
                    break
            assert time.monotonic() < end, Path(folder, "log").read_text()
        yield


def processor_time() -> float:
    """Return the processor time in seconds of this process, the scheduler and the workers so far."""
    this = psutil.Process()
    times = [process.cpu_times() for process in (this, *this.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def efficiency(numbers: Sequence[int]) -> None:
    """Print the share of the time of a perfect engine, by number of threads."""
    columns = (
        "threads",
        "processes",
        "chunks",
        "seconds",
        "perfect",
        "efficiency",
        "an empty chunk, ms",
        "processor, ms",
    )
    print(f"| {' | '.join(columns)} |\n{'|---:' * len(columns)}|")
    for threads in numbers:
        processes = min(PROCESSES, threads)
        with workers(processes, threads // processes):
            list(parallel.spread(time.sleep, [0.0] * threads))  # the workers import what they need
            chunks = CHUNKS * threads
            begun = time.perf_counter()
            list(parallel.spread(time.sleep, [CHUNK] * chunks))
            seconds, perfect = time.perf_counter() - begun, CHUNKS * CHUNK
            begun, processor = time.perf_counter(), processor_time()
            list(parallel.spread(time.sleep, [0.0] * EMPTY))
            empty = 1000 * (time.perf_counter() - begun) / EMPTY
            processor = 1000 * (processor_time() - processor) / EMPTY
        cells = (threads, processes, f"{chunks:,}", f"{seconds:.2f}", f"{perfect:.0f}", f"{perfect / seconds:.1%}")
        print(f"| {' | '.join(map(str, cells))} | {empty:.2f} | {processor:.2f} |", flush=True)


def decoding(folder: Path) -> None:
    """Print the seconds in which real mammograms are decoded by threads and by two workers."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    entries = [Entry(name, 0, "", "", "") for name in names]
    how = settings.read(ROOT / "params.yaml").preprocess

    def decoded() -> float:
        with tempfile.TemporaryDirectory(prefix="engine_") as prepared:
            begun = time.perf_counter()
            prepare.decode_all(folder, entries, how, Path(prepared))
            return time.perf_counter() - begun

    threads, dask = [], []
    decoded()
    for _ in range(ROUNDS):
        threads.append(decoded())
        with workers(parallel.cores(), 1):
            decoded()
            dask.append(decoded())
    print(f"\n| {len(entries):,} real mammograms decoded | seconds |\n|---|---:|")
    for name, seconds in ((f"{parallel.cores()} threads", threads), (f"{parallel.cores()} workers", dask)):
        print(f"| {name} | {statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f}) |")


def main() -> None:
    """Print the tables."""
    print(heading("loopback") + "\n")
    efficiency([int(number) for number in sys.argv[1:]] or THREADS)
    if folder := os.environ.get("MAMMOGRAMS"):
        decoding(Path(folder))


if __name__ == "__main__":
    main()
