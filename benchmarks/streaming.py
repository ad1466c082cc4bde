"""Does the memory of an evaluation grow with its test set?  Attacks on a store of many clips, with peaks of memory.

    .venv/bin/python benchmarks/streaming.py                                     # 400 clips: a minute on two cores
    .venv/bin/python benchmarks/streaming.py --clips 15000 --attacks FGSM        # a VGGSound test set: 11 GB of disk
    .venv/bin/python benchmarks/streaming.py --network published                 # the network of Tian & Xu 2021

Clips of 10 s at 16 kHz with three frames of 112 pixels are drawn at random and written as `avrobust prepare` writes them, to be
read through a memory map while attacks run.  Weights are random: only time and memory are measured.  Each row is one attack on
all clips; "resident" is all that the process holds in memory, "own" leaves out pages of the store, which the system takes back
when it needs them.
"""

import argparse
import json
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measure import MB, RUNS, write

from avrobust.allocator import keep_memory
from avrobust.attacks import by_name
from avrobust.data.prepare import COLUMNS, SHARD_BYTES
from avrobust.data.shards import clip_bytes, write_shard
from avrobust.data.store import ABOUT, OK, TABLE, VERSION, Store
from avrobust.evaluation.evaluator import Evaluator
from avrobust.media import ClipSpec
from avrobust.media.decode import Clip
from avrobust.models import NetSpec
from avrobust.models.fusion import Concat
from avrobust.models.network import AVNet
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.training import StoredBatches, View
from avrobust.types import AV

CLASSES = 309  # of VGGSound
CLIP = ClipSpec(seconds=10.0, rate=16_000, fps=0.3, size=112)
VIEW = View(samples=CLIP.samples, frames=CLIP.frames, size=CLIP.size)


class Encoder(torch.nn.Module):
    """A signal, its channels first, to 64 features: convolutions that skip much of it, so that a long run ends."""

    width = 64

    def __init__(self, channels: int, kernel: tuple[int, int], stride: tuple[int, int]) -> None:
        super().__init__()
        self.channels = channels
        self.layers = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 16, kernel, stride),
            torch.nn.ReLU(),
            torch.nn.Conv2d(16, 64, (min(kernel[0], 4), 4), (min(stride[0], 4), 4)),
            torch.nn.ReLU(),
        )

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        """Waveforms (b n) as images one pixel high, clips (b t 3 h w) as their frames."""
        images = signal[:, None, None] if signal.ndim == 2 else signal.flatten(0, 1)
        features: torch.Tensor = self.layers(images).mean((2, 3))
        return features.view(len(signal), -1, self.width).mean(1)


def small() -> AVNet:
    """A filter bank on the waveform (64 samples every 16), patches of the frames, and their concatenation."""
    torch.manual_seed(0)
    encoders: AV[torch.nn.Module] = AV(audio=Encoder(1, (1, 64), (1, 16)), visual=Encoder(3, (8, 8), (4, 4)))
    return AVNet(encoders, Concat(AV(64, 64)), CLASSES)


NETWORKS: dict[str, Callable[[], AVNet]] = {
    "small": small,
    "published": lambda: NetSpec(classes=CLASSES).build(seed=0),
}


def drawn(number: int) -> Clip:
    """A clip of noise."""
    draw = np.random.default_rng(number)
    wave = draw.random(CLIP.samples, np.float32) - np.float32(0.5)
    frames = draw.integers(0, 256, (CLIP.frames, CLIP.size, CLIP.size, 3), np.uint8)
    return Clip(wave, frames, (0.0, 0.0, 1.0, 1.0), ())


def written(out: Path, clips: int) -> Store:
    """A store of so many test clips in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / ABOUT).write_text(json.dumps({"spec": asdict(CLIP)}))
    each, rows = SHARD_BYTES // clip_bytes(CLIP), []
    for start in range(0, clips, each):
        numbers = range(start, min(start + each, clips))
        before = {*out.glob("*.arrow")}
        write_shard(out, [(str(i), drawn(i)) for i in numbers])
        (shard,) = {*out.glob("*.arrow")} - before
        for row, i in enumerate(numbers):
            about = {"id": f"clip/{i}", "label": f"class {i % CLASSES:03}", "split": "test", "video": f"{i}.mp4"}
            rows.append(about | {"status": OK, "window": [0, 0, 1, 1], "notes": [], "shard": shard.name, "row": row})
    told = {"version": VERSION, "name": "noise", "root": ".", "classes": [f"class {k:03}" for k in range(CLASSES)]}
    pq.write_table(pa.Table.from_pylist(rows, COLUMNS.with_metadata({"avrobust": json.dumps(told)})), out / TABLE)
    return Store.open(out)


class Memory:
    """The largest resident memory, and the largest part of it that is the process's own, while it is watched."""

    resident = own = 0

    def look(self) -> None:
        """Count what is in memory now."""
        told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        resident, own = (int(told[name].split()[0]) * 1024 for name in ("VmRSS", "RssAnon"))
        self.resident, self.own = max(self.resident, resident), max(self.own, own)


@contextmanager
def watched(every_s: float = 0.1) -> Iterator[Memory]:
    """The memory of the block, looked at by a thread."""
    memory, over = Memory(), threading.Event()

    def watch() -> None:
        while not over.is_set():
            memory.look()
            sleep(every_s)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield memory
    finally:
        over.set()
        thread.join()


def measured(work: Callable[[], Any]) -> dict[str, Any]:
    """Seconds and memory of one pass over the clips."""
    began, computed = perf_counter(), process_time()
    with watched() as memory:
        work()
    spent = {"seconds": perf_counter() - began, "cpu_s": process_time() - computed}
    return spent | {"resident_mb": memory.resident / MB, "own_mb": memory.own / MB}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=400)
    parser.add_argument("--attacks", nargs="+", default=["FGSM", "PGD-10"])
    parser.add_argument("--on", nargs="+", default=["A", "V", "AV"], choices=["A", "V", "AV"])
    parser.add_argument("--network", choices=NETWORKS, default="small")
    parser.add_argument(
        "--store", type=Path, help="folder to write the clips to, and to keep; default: a temporary one"
    )
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    keep_memory()
    with TemporaryDirectory() as temporary:
        folder = args.store or Path(temporary)
        store = Store.open(folder) if (folder / TABLE).exists() else written(folder, args.clips)
        clips = StoredBatches(store, "test", VIEW, 64, args.clips)
        net = NETWORKS[args.network]().eval()
        rows: list[dict[str, Any]] = []
        evaluators: list[Evaluator] = []

        def add(attack: str, on: str, work: Callable[[], Any]) -> None:
            rows.append({"attack": attack, "on": on} | measured(work))
            r = rows[-1]
            print(f"{attack:<8}{on:<6}{r['seconds']:>8.1f} s{r['resident_mb']:>8.0f} MB resident{r['own_mb']:>8.0f} MB own", flush=True)  # fmt: skip
            asked = {"clips": args.clips, "network": args.network, "disk_gb": args.clips * clip_bytes(CLIP) / 1e9}
            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
            write(args.out / f"streaming-{args.network}-{args.clips}.json", "streaming", asked, rows, peak_mb=most)

        def clean() -> None:
            evaluators.append(Evaluator(net, clips))
            evaluators[0].clean()

        add("none", "clean", clean)
        for attack in args.attacks:
            for threat in (t for t in TABLE1 if t.subset in args.on):
                add(attack, threat.subset, lambda a=attack, t=threat: evaluators[0].under(by_name(a), t))  # type: ignore[misc]


if __name__ == "__main__":
    main()
