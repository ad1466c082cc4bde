"""What a piece of work takes: seconds, and memory beside what was there before; in a process of its own."""

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
from ways import PEERS, Problem

from avrobust.study.record import code, world
from avrobust.training.recipe import fast_bfloat16

T = TypeVar("T")
RUNS = Path("runs/bench")
MB = 2**20


def device() -> torch.device:
    """A GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def synchronise() -> None:
    """Wait for what a GPU still has to do: it is part of what is timed."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds(work: Callable[[], T], repeats: int) -> tuple[float, T]:
    """The median time of some runs, and what came out.  Warm up before."""
    spent = []
    for _ in range(repeats):
        synchronise()
        began = time.perf_counter()
        out = work()
        synchronise()
        spent.append(time.perf_counter() - began)
    return median(spent), out


def rest() -> int | None:
    """Bytes held now, when all that is free was given back; `peak` counts from here.  None where nobody can say."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): the peak of resident memory begins anew
    except (OSError, AttributeError):
        return None
    return _status("VmRSS")


def peak() -> int:
    """The most bytes held at once since `rest`: by the GPU's allocator, else resident in memory."""
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else _status("VmHWM")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) * 1024


# A process for each way: no way's libraries, caches or leftovers are counted against another's


@dataclass(frozen=True, eq=False)
class Here:
    """What a task finds in its process: the problem, and what was held before it (None where nobody can say)."""

    problem: Problem
    held: int | None

    def above(self) -> float | None:
        """MB at the peak since `rest`, beside the network, the clips and the libraries."""
        return None if self.held is None else (peak() - self.held) / MB


Task = Callable[[Here], dict[str, Any]]  # -> figures
_here: list[Here] = []


def _load(file: Path, ready: Callable[[Problem], None]) -> None:
    problem = Problem.load(file, device())
    ready(problem)
    _here.append(Here(problem, rest()))


def _run(task: Task) -> dict[str, Any]:
    rest()
    try:
        return task(_here[0])
    finally:
        rest()  # nothing is held while other ways have their turn


class Process:
    """A process that has loaded the problem and waits for tasks.

    `ready` is done once before memory is counted: something small, so that a library's code is there.
    """

    def __init__(self, file: Path, ready: Callable[[Problem], None]) -> None:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), _load, (file, ready))
        self._pool.submit(os.getpid)  # starts it: several may load at the same time

    def __call__(self, task: Task) -> dict[str, Any]:
        """What the task answers; {"failed": why} if it cannot."""
        try:
            return self._pool.submit(_run, task).result()
        except (BrokenProcessPool, MemoryError, torch.OutOfMemoryError) as error:
            return {"failed": str(error).splitlines()[0]}

    def end(self) -> None:
        """Let the process go, with what it holds."""
        self._pool.shutdown()


# Ratios


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with ratios to the best peer among them.

    `faster` is how many times as fast as the fastest peer, `memory` the share of the leanest peer's; None without one.
    """
    peers = [r for r in rows if r["way"] in PEERS and "seconds" in r]
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
    """Two columns: the peak of memory, and its ratio."""
    return f"{'–' if row['memory_mb'] is None else format(row['memory_mb'], '.0f'):>9}{ratio(row['memory'])}"


# What is written down


def machine() -> dict[str, Any]:
    """Where figures come from, as far as they depend on it."""
    here = device()
    return world(here) | {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "bfloat16": fast_bfloat16(here),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
    }


def write(file: Path, question: str, asked: Mapping[str, Any], rows: list[dict[str, Any]], **more: Any) -> None:
    """A script's figures with the machine, the code and the day, for `figures.py`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {"question": question, "date": str(date.today()), "machine": machine(), "code": code(), "asked": asked}
    file.write_text(json.dumps(whole | more | {"rows": rows}, indent=1) + "\n")
