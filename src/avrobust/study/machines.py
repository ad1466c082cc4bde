"""Which machines a study runs on, and with how much of each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from avrobust.data.workers import cores
from avrobust.devices import device, limited_threads
from avrobust.study.executors import Here, Pool
from avrobust.study.tasks import Executor
from avrobust.study.worker import Bench, Parcel, Worker


@dataclass(frozen=True)
class Machines:
    """This machine: `workers` processes that divide its threads; with one, the calling process does all.

    Without `workers`, two on a machine without a GPU, else one.  `device` is where networks run: cpu, cuda, cuda:1, mps or
    xpu; by default a GPU if there is one.
    """

    workers: int | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"expected at least 1 worker, got {self.workers}. Use --workers 1 for a single process.")

    @contextmanager
    def executor(self, bench: Bench) -> Iterator[Executor]:
        """What does the tasks of a study; its processes end with the block."""
        count = self.workers or (1 if device(self.device).type != "cpu" else min(2, cores()))
        share = max(1, torch.get_num_threads() // count)
        executor = Here(bench.run) if count == 1 else Pool(Worker(Parcel.of(bench), share), count)
        try:
            with limited_threads(share):
                yield executor
        finally:
            executor.close()


ALONE = Machines(workers=1)
