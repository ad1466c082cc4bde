"""Time and additional memory of a task, measured in its own process."""

import ctypes
import gc
import json
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from datetime import date
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from methods import PEERS, Problem

from avrobust.study.record import code, world
from avrobust.training.recipe import fast_bfloat16

T = TypeVar("T")
RUNS = Path("runs/bench")
MB = 2**20


def device() -> torch.device:
    """A GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Wait for the GPU: its pending work belongs to the measured time."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def clock() -> float:
    """A time in seconds; with one thread on a CPU that thread's own, so that other processes on the machine disturb little."""
    return time.perf_counter() if torch.cuda.is_available() or torch.get_num_threads() > 1 else time.thread_time()


def seconds(work: Callable[[], T], repeats: int) -> tuple[float, T]:
    """The median time of several runs, and the result.  Warm up first."""
    spent = []
    for _ in range(repeats):
        synchronise()
        began = clock()
        out = work()
        synchronise()
        spent.append(clock() - began)
    return median(spent), out


def reset_memory() -> int | None:
    """Free unused memory and restart `peak`; returns the bytes in use, or None if the system does not tell."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets the peak of resident memory
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def peak() -> int:
    """The peak of bytes in use since `reset_memory`: of the GPU's allocator, else resident memory."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


# One process per method, so that its libraries and caches are not counted for another method


@dataclass(frozen=True, eq=False)
class State:
    """The state of a process before a task: the problem, and the bytes in use (None if the system does not tell)."""

    problem: Problem
    held: int | None

    def extra_mb(self) -> float | None:
        """Peak in MB since `reset_memory`, in addition to model, clips and libraries."""
        return None if self.held is None else (peak() - self.held) / MB


Task = Callable[[State], dict[str, Any]]  # -> figures
_state: list[State] = []


def _load(file: Path, ready: Callable[[Problem], None]) -> None:
    problem = Problem.load(file, device())
    ready(problem)
    _state.append(State(problem, reset_memory()))


def _run(task: Task) -> dict[str, Any]:
    reset_memory()
    try:
        return task(_state[0])
    finally:
        reset_memory()  # other methods take their turn without this one's memory


class Process:
    """A process that has loaded the problem and waits for tasks.

    It calls `ready` once before memory is measured: a small task that loads the libraries.
    """

    def __init__(self, file: Path, ready: Callable[[Problem], None]) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _load, (file, ready))
        self._pool.submit(os.getpid)  # starts it: several may load at the same time

    def __call__(self, task: Task) -> dict[str, Any]:
        """The figures of the task, or {"failed": reason}."""
        try:
            return self._pool.submit(_run, task).result()
        except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError) as error:
            return {"failed": str(error).splitlines()[0]}

    def end(self) -> None:
        """End the process."""
        self._pool.shutdown()


# Ratios


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ratios to the best peer.

    `faster` is the speed relative to the fastest peer, `memory` the memory relative to the smallest; None without a peer.
    """
    peers = [r for r in rows if r["method"] in PEERS and "seconds" in r]
    least = min((r["seconds"] for r in peers), default=None)
    lean = min((r["memory_mb"] for r in peers if r["memory_mb"] is not None), default=None)

    def both(r: dict[str, Any]) -> dict[str, float | None]:
        return {
            "faster": least and least / r["seconds"],
            "memory": r["memory_mb"] / lean if lean and r["memory_mb"] is not None else None,
        }

    return [r | both(r) if "seconds" in r else r for r in rows]


def ratio(value: float | None) -> str:
    """A column of ratios."""
    return f"{'–' if value is None else f'{value:.2f}':>7}"


def megabytes(row: dict[str, Any]) -> str:
    """Two columns: peak memory and its ratio."""
    return f"{'–' if row['memory_mb'] is None else format(row['memory_mb'], '.0f'):>9}{ratio(row['memory'])}"


# Files of figures


def machine() -> dict[str, Any]:
    """The properties of this machine that figures depend on."""
    here = device()
    return world(here) | {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": fast_bfloat16(here),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def write(file: Path, question: str, asked: Mapping[str, Any], rows: list[dict[str, Any]], **more: Any) -> None:
    """Write a script's figures with machine, code and date, for `figures.py`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {"question": question, "date": str(date.today()), "machine": machine(), "code": code(), "asked": asked}
    file.write_text(json.dumps(whole | more | {"rows": rows}, indent=1) + "\n")
