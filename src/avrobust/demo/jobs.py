"""Work that visitors started, one piece at a time, and that they can stop."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PATIENCE_S = 10.0  # for work to end at its next step


class Stopped(Exception):
    """A visitor stopped the work, or the server ends."""


class Jobs:
    """The work under way and waiting, by visitor.

    >>> jobs = Jobs()
    >>> with jobs.work("a") as carry_on:
    ...     carry_on(); jobs.stop("a"); carry_on()
    Traceback (most recent call last):
    avrobust.demo.jobs.Stopped
    """

    def __init__(self) -> None:
        self._ended: dict[str, threading.Event] = {}
        self._busy = threading.Lock()

    @contextmanager
    def work(self, visitor: str) -> Iterator[Callable[[], None]]:
        """A piece of work, once what is under way has ended; what it gets raises `Stopped` once it is to end."""
        ended = self._ended[visitor] = threading.Event()

        def carry_on() -> None:
            if ended.is_set():
                raise Stopped

        with self._busy:
            yield carry_on

    def stop(self, visitor: str) -> None:
        """End the visitor's work, if there is any."""
        if visitor in self._ended:
            self._ended.pop(visitor).set()

    def end(self) -> None:
        """End all work, and wait until it has: no thread may be inside a library when Python ends."""
        for visitor in [*self._ended]:
            self.stop(visitor)
        if self._busy.acquire(timeout=PATIENCE_S):
            self._busy.release()
