"""Processes that work side by side and end with the process that started them."""

import multiprocessing
import os
import queue
import signal
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from avrobust.allocator import keep_memory

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_S = 0.5  # between two looks at the clock; an answer is seen at once
GRACE_S = 5.0  # that running tasks may take to finish after Ctrl-C
_telling: Connection | None = None  # in a worker: to the process that hands out tasks


@dataclass(frozen=True)
class Lost:
    """A task without a result, because its process died or was ended after the time limit."""

    reason: str


def in_processes(
    work: Callable[[Task], Result],
    tasks: Iterable[Task],
    workers: int,
    *,
    limit_s: Callable[[Task], float] = lambda task: inf,
) -> Iterator[tuple[Task, Result | Lost]]:
    """Each task with `work(task)`, in the order of the tasks, computed by `workers` processes.

    An exception in `work` is raised here.  After Ctrl-C, running tasks have 5 s to finish.  See `Processes`.
    """
    pool = Processes(work, workers, limit_s=limit_s)
    pending: deque[tuple[Task, Future[Result | Lost]]] = deque()
    try:
        for task in tasks:
            pending.append((task, pool.submit(task)))
            if len(pending) >= 4 * workers:  # enough to keep all processes busy, little to hold in memory
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        pool.close(GRACE_S)


class Processes(Generic[Task, Result]):
    """`workers` processes that do `work`, each on one task at a time.

    A task that kills its process (twice: the first time memory may have run out), or that takes longer than
    `limit_s(task)` seconds, gives `Lost`; its process is started anew and no other task is affected.  What `work` sends
    with `tell` arrives at `told(task, value)`, in a thread.

    Processes are started afresh, so a script that uses this should do so under `if __name__ == "__main__":`.
    Tasks raise RuntimeError where it does not.
    """

    def __init__(
        self,
        work: Callable[[Task], Result],
        workers: int,
        *,
        limit_s: Callable[[Task], float] = lambda task: inf,
        told: Callable[[Task, Any], None] = lambda task, value: None,
    ) -> None:
        self._limit_s, self._told = limit_s, told
        self._ending = _Ending()
        self._workers = workers
        # The last one first: few tasks start few processes.
        self._idle: queue.LifoQueue[_Worker[Task, Result]] = queue.LifoQueue()
        for _ in range(workers):
            self._idle.put(_Worker(work, self._ending))
        self._threads = ThreadPoolExecutor(workers)

    def submit(self, task: Task) -> Future[Result | Lost]:
        """Do a task when a process is free."""
        return self._threads.submit(self._result, task)

    def _result(self, task: Task) -> Result | Lost:
        worker = self._idle.get()
        try:
            return worker.result(task, self._limit_s(task), self._told)
        finally:
            self._idle.put(worker)

    def close(self, grace_s: float) -> None:
        """End all processes; running tasks have `grace_s` seconds to finish."""
        self._ending.at = time.monotonic() + grace_s
        self._threads.shutdown(cancel_futures=True)
        for _ in range(self._workers):
            self._idle.get().close()


def tell(value: object) -> None:
    """Send something to the process that handed out the task at hand, while it runs."""
    if _telling is not None:
        _telling.send(_Told(value))


@dataclass(frozen=True)
class _Told:
    value: object


@dataclass
class _Ending:
    """When running tasks have to be done, on the monotonic clock, once their pool is closed."""

    at: float = inf


class _Worker(Generic[Task, Result]):
    """One process, which does `work` on one task at a time; started when first needed, and again when it was lost."""

    starting = threading.Lock()  # multiprocessing's own list of children is not made for threads

    def __init__(self, work: Callable[[Task], Result], ending: _Ending) -> None:
        self.work, self.ending = work, ending
        self.process: Any = None

    def result(self, task: Task, limit_s: float, told: Callable[[Task, Any], None]) -> Result | Lost:
        """`work(task)`, or why there is no result."""
        for _ in range(2):
            try:
                if self.process is None:
                    self.start()
                self.connection.send(task)
                answer: Any = _Told(None)
                deadline = time.monotonic() + limit_s
                while isinstance(answer, _Told):
                    if not self.answers_before(deadline):
                        self.kill()
                        return Lost(f"took longer than {limit_s:g} s")
                    if isinstance(answer := self.connection.recv(), _Told):
                        told(task, answer.value)
                value, error = answer
            except (EOFError, OSError):
                self.kill()
                continue
            if error is not None:
                raise error
            result: Result = value
            return result
        return Lost("killed its process")

    def start(self) -> None:
        # "spawn": the parent may hold threads of torch or CUDA, which a fork would copy half alive.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        with self.starting, _blocked_interrupt():
            self.process = context.Process(target=_serve, args=(theirs, self.work), daemon=True)
            self.process.start()
        theirs.close()  # so that the end of the process ends the connection
        try:
            self.connection.recv()
        except EOFError:
            self.process.join()
            if self.process.exitcode < 0:  # by a signal: memory may have run out
                raise
            self.kill()
            raise RuntimeError(
                "expected worker processes to start, but they ended at once. Run this under "
                "`if __name__ == '__main__':`, or with workers=1."
            ) from None

    def answers_before(self, deadline: float) -> bool:
        while time.monotonic() < min(deadline, self.ending.at):
            if self.connection.poll(POLL_S):
                return True
        return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
        self.close()

    def close(self) -> None:
        """Let the process end."""
        if self.process is not None:
            self.connection.close()
            self.process.join()
            self.process = None


def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _blocked_interrupt() -> Iterator[None]:
    """Processes that start in this block inherit a blocked Ctrl-C, or their first imports would print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # the first start would start it too, and unblock
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Connection, work: Callable[[Any], object]) -> None:
    """Answer each task that arrives, until the other side closes the connection."""
    global _telling
    _start()
    _telling = connection
    with suppress(EOFError, BrokenPipeError):
        connection.send("ready")
        while True:
            task = connection.recv()
            try:
                answer: tuple[object, Exception | None] = work(task), None
            except Exception as error:
                error.add_note(traceback.format_exc())  # tracebacks do not travel between processes
                answer = None, error
            connection.send(answer)


def _start() -> None:
    keep_memory()  # a fifth faster: clips of one size come again and again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends its workers
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """A parent that was killed cannot end its workers."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
