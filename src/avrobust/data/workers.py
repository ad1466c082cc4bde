"""Processes that work side by side and end with the process that started them."""

import multiprocessing
import os
import queue
import signal
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from math import inf
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from avrobust.allocator import keep_memory

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_S = 0.5  # between two looks at the clock; an answer is seen at once
GRACE_S = 5.0  # that running tasks may take to finish after Ctrl-C


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

    A task that kills its process (twice: the first time memory may have run out), or that takes longer than
    `limit_s(task)` seconds, gives `Lost`; its process is started anew and no other task is affected.  An exception in
    `work` is raised here.  After Ctrl-C, running tasks have 5 s to finish.

    Processes are started afresh, so a script that calls this should do so under `if __name__ == "__main__":`.
    Raises RuntimeError where it does not.
    """
    stopping = threading.Event()
    idle: queue.LifoQueue[_Worker[Task, Result]] = (
        queue.LifoQueue()
    )  # the last one first: few tasks start few processes
    for _ in range(workers):
        idle.put(_Worker(work, stopping))

    def result(task: Task) -> Result | Lost:
        worker = idle.get()
        try:
            return worker.result(task, limit_s(task))
        finally:
            idle.put(worker)

    threads = ThreadPoolExecutor(workers)
    pending: deque[tuple[Task, Future[Result | Lost]]] = deque()
    try:
        for task in tasks:
            pending.append((task, threads.submit(result, task)))
            if len(pending) >= 4 * workers:  # enough to keep all processes busy, little to hold in memory
                done, future = pending.popleft()
                yield done, future.result()
        while pending:
            done, future = pending.popleft()
            yield done, future.result()
    finally:
        stopping.set()
        threads.shutdown(cancel_futures=True)
        for _ in range(workers):
            idle.get().close()


class _Worker(Generic[Task, Result]):
    """One process, which does `work` on one task at a time; started when first needed, and again when it was lost."""

    starting = threading.Lock()  # multiprocessing's own list of children is not made for threads

    def __init__(self, work: Callable[[Task], Result], stopping: threading.Event) -> None:
        self.work, self.stopping = work, stopping
        self.process: Any = None

    def result(self, task: Task, limit_s: float) -> Result | Lost:
        """`work(task)`, or why there is no result."""
        for _ in range(2):
            if self.process is None:
                self.start()
            try:
                self.connection.send(task)
                if not self.answers_within(limit_s):
                    self.kill()
                    return Lost(f"took longer than {limit_s:g} s")
                value, error = self.connection.recv()
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
            self.kill()
            raise RuntimeError(
                "expected worker processes to start, but they ended at once. Run this under "
                "`if __name__ == '__main__':`, or with workers=1."
            ) from None

    def answers_within(self, limit_s: float) -> bool:
        while not self.connection.poll(POLL_S):
            limit_s = min(limit_s, GRACE_S if self.stopping.is_set() else inf) - POLL_S
            if limit_s <= 0:
                return False
        return True

    def kill(self) -> None:
        self.process.kill()
        self.close()

    def close(self) -> None:
        """Let the process end."""
        if self.process is not None:
            self.connection.close()
            self.process.join()
            self.process = None


@contextmanager
def extra_processes(count: int, work: Callable[..., object], *args: object) -> Iterator[None]:
    """`count` more processes that call `work(*args)` while the block runs; what they print is not shown.

    Warns if one of them failed although the block itself did not.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_quietly, args=(work, args)) for _ in range(count)]
    with _blocked_interrupt():
        for process in processes:
            process.start()
    try:
        yield
        for process in processes:
            if process.exitcode:
                warnings.warn(
                    f"one of {count + 1} processes failed (exit code {process.exitcode}; memory may have run out). "
                    "The others did its part.",
                    stacklevel=3,
                )
    finally:
        for process in processes:
            process.terminate()
            process.join()


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
    _start()
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


def _quietly(work: Callable[..., object], args: tuple[object, ...]) -> None:
    _start()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        work(*args)


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
