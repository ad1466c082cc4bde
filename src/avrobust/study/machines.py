"""Which machines a study runs on, and with how much of each."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from avrobust.data.workers import cores
from avrobust.devices import device, limited_threads
from avrobust.extras import needs
from avrobust.locks import Lock
from avrobust.study import on_ray
from avrobust.study.executors import Here, Pool
from avrobust.study.plan import Study
from avrobust.study.record import DRIVER
from avrobust.study.tasks import Executor
from avrobust.study.worker import Bench, Parcel, Worker


@dataclass(frozen=True)
class Machines:
    """Where the tasks of a study are done.

    By default on this machine: in `workers` processes (without a number, two where there is no GPU, else one), or with one in
    the calling process.  `on="ray"` is a Ray cluster, `"ray://host:10001"` one elsewhere, with at most `workers` tasks at a
    time.  Each task gets `cpus` threads (its share of this machine; on Ray one), and on Ray `gpus` (one if the cluster has
    any) and `memory_gb`.  `device` is where networks run: cpu, cuda, cuda:1, mps or xpu; by default a GPU if there is one.
    """

    workers: int | None = None
    on: str | None = None
    cpus: int | None = None
    gpus: float | None = None
    memory_gb: float | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("cpus", 1), ("gpus", 0), ("memory_gb", 0)):
            if (number := getattr(self, name)) is not None and number < least:
                raise ValueError(f"expected {name} of at least {least}, got {number}. Leave it out for the default.")
        _ = self.here  # refused at once where this machine does not have it

    @property
    def here(self) -> torch.device:
        """Where networks run if on this machine; of a cluster, what this machine has."""
        return device(self.device if self.on is None else None)

    @contextmanager
    def connected(self, study: Study, out: Path, data: Path) -> Iterator[None]:
        """While the block runs, other machines are connected; raises `WorkerError` where the study cannot run on them."""
        if self.on is None:
            yield
            return
        data.mkdir(parents=True, exist_ok=True)
        with on_ray.connected(self.on) as ray:
            on_ray.check_nodes(ray, Parcel.of(study), out.resolve(), Lock(out / DRIVER).holder, data.resolve())
            yield

    @contextmanager
    def executor(self, bench: Bench) -> Iterator[Executor]:
        """What does the tasks of a study; its processes end with the block."""
        made = self._on_this_machine(bench) if self.on is None else self._on_ray(bench)
        try:
            with limited_threads(self._threads) if self.on is None else nullcontext():
                yield made
        finally:
            made.close()

    def _on_this_machine(self, bench: Bench) -> Here | Pool:
        return Here(bench.run) if self._count == 1 else Pool(self._worker(bench, self._threads), self._count)

    def _on_ray(self, bench: Bench) -> "on_ray.OnRay":
        with needs("ray"):
            import ray

        memory = None if self.memory_gb is None else int(self.memory_gb * 2**30)
        gpus = 0.0 if self.device == "cpu" else self.gpus
        return on_ray.OnRay(ray, self._worker(bench, self.cpus or 1), self.workers, gpus, memory)

    @property
    def _count(self) -> int:
        return self.workers or (1 if self.here.type != "cpu" else min(2, cores()))

    @property
    def _threads(self) -> int:
        return self.cpus or max(1, torch.get_num_threads() // self._count)

    def _worker(self, bench: Bench, threads: int) -> Worker:
        return Worker(Parcel.of(bench.resolved), threads, Lock(bench.out / DRIVER).holder)


ALONE = Machines(workers=1)
