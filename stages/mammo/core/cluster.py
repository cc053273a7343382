"""Work on the workers of a Dask cluster, which run the same code with the same packages (docs/engine.md)."""

import logging
import os
import queue
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from mammo.core import identity
from mammo.core.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLE = "DASK_SCHEDULER_ADDRESS"
ANSWER = 8  # seconds in which a scheduler must answer, and in which a worker must be there
EACH = 3  # items that are begun per thread of the workers, so that none waits for the next
LOOK = 5.0  # seconds between two looks at how many threads there are


class LostError(UserError):
    """The scheduler, or the worker of an item again and again, is gone."""


def address() -> str:
    """Return the address of the scheduler, e.g. `tcp://10.0.0.1:8786`; empty if there is none."""
    return os.environ.get(VARIABLE, "").strip()


@contextmanager
def connected(precision: str = "float32") -> Iterator["Workers"]:
    """Connect to the scheduler; its workers have been compared with this process when it computes in `precision`.

    Raises:
        UserError: no scheduler answers, it has no worker, or a worker differs.

    """
    from dask import config  # here, since most runs need neither
    from distributed import Client

    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "distributed":  # what it tells is told here in one line
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings(), config.set({"distributed.comm.timeouts.connect": ANSWER}):
            warnings.simplefilter("ignore")  # of versions, which are compared below
            client = Client(address(), timeout=ANSWER, set_as_default=False)
    except Exception as error:
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise LostError(
            f"{VARIABLE} is {address()!r}, where no scheduler answers ({reason}): start one, or unset the variable"
        ) from None
    try:
        workers = Workers(client, precision)
        workers.check()
        yield workers
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client.close(timeout=ANSWER)


class Workers:
    """The workers of a cluster."""

    def __init__(self, client: Any, precision: str) -> None:
        """Use the connection `client`."""
        self._client, self._precision, self._own = client, precision, identity.own(precision)

    def check(self) -> None:
        """Compare every worker with this process.

        Raises:
            UserError: there is no worker, or one differs; every difference is named.

        """
        from distributed import TimeoutError as TooLate

        try:
            self._client.wait_for_workers(1, timeout=ANSWER)
            found = self._client.run(identity.own, self._precision, on_error="return")
        except (TooLate, OSError):
            raise LostError(
                f"the scheduler at {address()} has no worker: start some with `dask worker {address()}`"
            ) from None
        differing = {}
        for where, of in sorted(found.items()):
            told = identity.differences(self._own, of)
            if told:
                differing[where] = told
        if differing:
            raise UserError(told_of(differing))

    @property
    def threads(self) -> int:
        """Number of threads of all workers."""
        known = self._client.scheduler_info(n_workers=-1)["workers"]
        return sum(worker["nthreads"] for worker in known.values())

    @property
    def number(self) -> int:
        """Number of workers."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def done(self, work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[tuple[int, Result]]:
        """Yield the place of an item and `work(item)` as soon as it is done.

        Raises:
            UserError: what `work` raised, or an item was lost.

        """
        from distributed.client import FutureCancelledError

        ended: queue.SimpleQueue[int] = queue.SimpleQueue()
        begun: dict[int, Any] = {}
        do = partial(_do, identity.digest(self._own), self._precision, work)
        following = oldest = 0
        most, looked = 1, -LOOK
        while following < len(items) or begun:
            if time.monotonic() - looked > LOOK:
                most, looked = max(1, EACH * self.threads), time.monotonic()
            until = max(following, min(len(items), following + most - len(begun), oldest + 8 * most))
            places = range(following, until)
            told = self._client.map(do, [items[place] for place in places], pure=False) if places else []
            for place, future in zip(places, told, strict=True):
                begun[place] = future
                future.add_done_callback(partial(_tell, ended, place))
            following = until
            ready = self._some(ended)
            for place in ready:
                if begun[place].status in ("error", "cancelled"):
                    raise _raised(begun[place])
            try:  # a result that was lost with its worker is waited for: it is computed again
                results = self._client.gather([begun[place] for place in ready])
            except (FutureCancelledError, OSError):
                raise _gone() from None
            for place, (differing, result) in zip(ready, results, strict=True):
                del begun[place]  # so that the worker forgets it
                if differing:
                    where, other = differing
                    raise UserError(told_of({where: identity.differences(self._own, other)}))
                yield place, result
            oldest = next(iter(begun), following)

    def _some(self, ended: "queue.SimpleQueue[int]") -> list[int]:
        """Return the places of the items that have ended, at least one; say so where no worker is left."""
        said = False
        while True:
            try:
                places = [ended.get(timeout=LOOK)]
                break
            except queue.Empty:
                if not said and self._client.status == "running" and not self.threads:
                    said = True
                    print(f"the scheduler at {address()} has no worker: waiting for one", file=sys.stderr, flush=True)
        while not ended.empty():
            places.append(ended.get())
        return places


def _raised(future: Any) -> Exception:
    """Return the error of an item."""
    from distributed import KilledWorker

    if future.status == "cancelled":
        return _gone()
    error = future.exception(timeout=ANSWER)
    if isinstance(error, KilledWorker):
        return LostError(
            f"the work was given up after {error.allowed_failures + 1} workers had ended on the same part of it, the "
            f"last at {error.last_worker.address}: look at their logs, and whether they have enough memory"
        )
    return error if isinstance(error, Exception) else RuntimeError(str(error))


def _gone() -> LostError:
    return LostError(f"the scheduler at {address()} is gone: once it is back, run this again")


def _tell(ended: "queue.SimpleQueue[int]", place: int, _: Any) -> None:
    ended.put(place)


def _do(
    expected: str, precision: str, work: Callable[[Item], Result], item: Item
) -> tuple[tuple[str, identity.Identity] | None, Any]:
    """Do an item on a worker; one that joined after the others were compared is compared here."""
    import cv2
    from distributed import get_worker

    cv2.setNumThreads(1)
    own = identity.own(precision)
    return (None, work(item)) if identity.digest(own) == expected else ((get_worker().address, own), None)


def told_of(differing: dict[str, list[str]]) -> str:
    """Return what is different on which workers."""
    each = "; ".join(f"the worker at {where} {', '.join(told)}" for where, told in differing.items())
    return f"the same bytes are not sure to come back: {each}"
