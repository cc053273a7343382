"""Real Dask clusters on loopback for tests: a scheduler, and workers that run a clone's code."""

import contextlib
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

STARTED = 60  # seconds


class Cluster:
    """A scheduler with workers of one thread each."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._processes = folder, []
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(folder / "scheduler.json"))
        self.address = ""

    def wait_for_address(self) -> None:
        told = self.folder / "scheduler.json"
        until(lambda: told.is_file() and told.read_text().rstrip().endswith("}"))  # written whole
        self.address = json.loads(told.read_text())["address"]

    def _start(self, what: str, *options: str, clone: Path | None = None) -> subprocess.Popen:
        own = {"PYTHONPATH": str(clone / "stages")} if clone else {}
        where = ("--host", "127.0.0.1", "--no-dashboard")
        with (self.folder / f"{what}{len(self._processes)}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", *options, *where],
                env={**os.environ, **own},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._processes.append(process)
        return process

    def add_worker(self, clone: Path) -> subprocess.Popen:
        """Start a worker below a nanny, as `dask worker` does."""
        before = self.workers()
        started = self._start(
            "worker", self.address, "--nthreads", "1", "--local-directory", str(self.folder), clone=clone
        )
        until(lambda: self.workers() - before)
        return started

    @functools.cached_property
    def _client(self) -> Any:
        from distributed import Client

        return Client(self.address, set_as_default=False, timeout=20)

    def workers(self) -> set[str]:
        """The addresses of the workers."""
        return set(self._client.scheduler_info(n_workers=-1)["workers"])

    def processes(self) -> dict[str, int]:
        """The process of each worker, by its address."""
        return self._client.run(os.getpid)

    def executed(self) -> int:
        """How many tasks the workers have executed that are there now."""
        return sum(self._client.run(lambda dask_worker: dask_worker.state.executed_count).values())

    def close(self) -> None:
        if "_client" in self.__dict__:
            self._client.close(timeout=5)
        for process in self._processes:
            children = []
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(process.pid).children(recursive=True)
            process.kill()
            process.wait()
            for child in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.kill()


@contextlib.contextmanager
def cluster(folder: Path, *clones: Path) -> Iterator[Cluster]:
    """A cluster with a worker of each clone."""
    folder.mkdir(exist_ok=True)
    started = Cluster(folder)
    try:
        started.wait_for_address()
        for clone in clones:
            started.add_worker(clone)
        yield started
    finally:
        started.close()


def until(holds: Any, seconds: float = STARTED) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to be"
        time.sleep(0.05)
