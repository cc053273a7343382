"""A bound on the processor time of work that no check in advance can bound, such as the search for a pattern."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooLongError(Exception):
    """The work took longer than it may."""


@contextmanager
def processor_seconds(seconds: float) -> Iterator[None]:
    """End the block with an error once this process has computed for so many seconds, waiting not included.

    Python's own loops and its regular expressions notice a signal while they run; other libraries may not. The bound
    holds in the main thread alone, where signals arrive; elsewhere the block runs without one.

    Raises:
        TooLongError: the block took longer.

    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
