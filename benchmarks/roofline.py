"""What share of the machine's matrix-product speed does a gradient step reach, and what takes the rest of the time?

    .venv/bin/python benchmarks/roofline.py --size paper

A gradient step of the engine for audio, visual and joint attacks, compared with a product of two large matrices in the same
precision and a copy in memory.  Operations are counted as they are dispatched: the gradient of the input costs as much as the
forward pass, weights have no gradient, and a cached stream does not run.  The profiler divides the time in a separate run;
a layout change inside a convolution counts as convolution.
"""

import argparse
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measure import RUNS, device, seconds, write
from methods import SIZES, Problem
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from avrobust import cross_entropy, engine
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.training.recipe import fast_bfloat16

STEPS = 5  # in the profiler
# The first match in an operation's name decides; the time of the autograd engine itself is "other".
KINDS = {
    "convolution, backward": ("convolution_backward",),
    "convolution, forward": ("conv",),
    "matrix products": ("mm", "linear", "einsum"),
    "pooling": ("pool", "amax", "mean", "max_", "scatter", "index"),
    "copies": ("copy", "contiguous", "clone", "cat", "fill", "zero", "empty", "pad"),
    "elementwise": ("relu", "threshold", "add", "sub", "mul", "div", "clamp", "where", "sign", "eq"),
}


def kind(operation: str) -> str:
    """The kind of an operation.

    >>> kind("aten::convolution_backward"), kind("aten::mkldnn_convolution"), kind("aten::add_")
    ('convolution, backward', 'convolution, forward', 'elementwise')
    """
    return next((k for k, parts in KINDS.items() if any(p in operation for p in parts)), "other")


def product(dtype: torch.dtype, here: torch.device) -> float:
    """GFLOP/s of a product of two large matrices."""
    n = 8192 if here.type == "cuda" else 2048
    a = torch.randn(n, n, device=here).to(dtype)
    seconds(lambda: a @ a, 2)
    return 2 * n**3 / seconds(lambda: a @ a, 9)[0] / 1e9


def bandwidth(here: torch.device) -> float:
    """GB/s, read and written, of a copy that exceeds all caches."""
    a = torch.zeros(2**28 if here.type == "cuda" else 2**25, device=here)
    b = torch.ones_like(a)
    seconds(lambda: b.copy_(a), 2)
    return 2 * a.numel() * 4 / seconds(lambda: b.copy_(a), 9)[0] / 1e9


class Work(TorchDispatchMode):
    """Counts GFLOP by kind of operation, forward and backward."""

    def __init__(self) -> None:
        super().__init__()
        self.done: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            flop = flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=out)
            self.done[kind(str(func))] += flop / 1e9
        return out


def shares(step: Any, here: torch.device) -> dict[str, float]:
    """The share of time of each kind of operation in a step, largest first."""
    cuda = here.type == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as seen:
        for _ in range(STEPS):
            step()
    found: Counter[str] = Counter()
    for event in seen.key_averages():
        # A kernel counts with the operation that launches it; its own line would count it twice.
        if event.key.startswith("aten::") or not cuda:
            found[kind(event.key)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    return {name: value / found.total() for name, value in found.most_common()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    here = device()
    problem = Problem.make(*SIZES[args.size], args.batch).to(here)
    x, y = problem.x, problem.y
    craft = engine.surrogate(problem.net, x.map(lambda s: s[:1]), args.precision)
    used = str(craft.precision).removeprefix("torch.")
    tops = {"float32": product(torch.float32, here)}
    if fast_bfloat16(here) or used == "bfloat16":
        tops["bfloat16"] = product(torch.bfloat16, here)
    copy = bandwidth(here)
    print(", ".join(f"{top:.0f} GFLOP/s in {name}" for name, top in tops.items()) + f"; {copy:.0f} GB/s copied")
    rows = []
    for threat in TABLE1:
        step = partial(engine.gradient, craft.fix_unattacked(x, threat), cross_entropy, x, y, threat)
        with Work() as counter:  # warms up as well
            step()
        done = counter.done
        spent, _ = seconds(step, args.repeats)
        time = shares(step, here)
        speed = done.total() / spent
        kinds = [
            {"kind": k, "share": share, "gflop_per_s": done[k] / (share * spent) if k in done else None}
            for k, share in time.items()
        ]
        rows.append(
            {
                "on": threat.subset, "batch": args.batch, "ms": 1000 * spent, "clips_per_s": args.batch / spent,
                "gflop_per_clip": done.total() / args.batch, "gflop_per_s": speed, "reached": speed / tops[used],
                "kinds": kinds,
            }
        )  # fmt: skip
        print(
            f"\n{threat.subset}: {1000 * spent:.0f} ms for {args.batch} clips, {done.total() / args.batch:.2f} GFLOP each, "
            f"{speed:.0f} GFLOP/s, {speed / tops[used]:.0%} of the product in {used}"
        )
        for k in kinds:
            at = "" if k["gflop_per_s"] is None else f"{k['gflop_per_s']:>8.0f} GFLOP/s"
            print(f"  {k['kind']:<24}{k['share']:>6.0%}{at}", flush=True)
    asked = {"size": args.size, "batch": args.batch, "repeats": args.repeats}
    write(
        args.out / f"roofline-{args.size}{'-bfloat16' if args.precision == 'bfloat16' else ''}.json",
        "roofline",
        asked,
        rows,
        products=tops,
        precision=used,
        copy_gb_per_s=copy,
    )


if __name__ == "__main__":
    main()
