"""Processes that work side by side and end with the one that started them."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from avrobust.allocator import keep_memory


@contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """`workers` processes.  When the block is left, also by Ctrl-C, what runs is finished and the rest is dropped.

    They are started afresh, so a script that needs them should run under `if __name__ == "__main__":`.
    """
    # "spawn": the parent may hold threads of torch or CUDA, which a fork would copy half alive.
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start)
    try:
        try:
            executor.submit(os.getpid).result()
        except BrokenProcessPool:
            raise RuntimeError(
                "expected worker processes to start, but they ended at once. Run this under `if __name__ == '__main__':`, or with workers=1."
            ) from None
        yield executor
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def beside(count: int, work: Callable[..., object], *args: object) -> Iterator[None]:
    """`count` more processes that call `work(*args)` while the block lasts.  What they print is not shown.

    Warns if one of them failed, where the block itself did not.
    """
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_quietly, args=(work, args)) for _ in range(count)]
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


def _quietly(work: Callable[..., object], args: tuple[object, ...]) -> None:
    _start()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        work(*args)


def _start() -> None:
    keep_memory()  # a fifth faster: clips of one size come again and again
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes the pool
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    """A parent that was killed cannot close its pool."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
