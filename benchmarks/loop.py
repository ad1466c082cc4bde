"""What does a search cost beside its network?  A network that reads a few numbers of each clip, so that little but the loop is left.

    .venv/bin/python benchmarks/loop.py --size paper

Milliseconds per step of PGD and MIM on one batch, of the libraries and of ours on any callable.  The methods take turns in one
process; each has the best of several runs.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from measure import RUNS, clock, device, ratio, synchronise, write
from methods import LIBRARY, METHODS, PEERS, SIZES, Search, available
from torch import Tensor, nn

from avrobust import AV
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.types import Signals

READ = 64  # numbers of each signal
LOOPS = [*(name for name in LIBRARY if name in PEERS), "any callable"]


class Reader(nn.Module):
    """Eleven logits from the first numbers of both signals."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.visual = nn.Linear(READ, 11), nn.Linear(READ, 11)

    def forward(self, x: Signals) -> Tensor:
        """Logits."""
        return self.audio(x.audio[:, :READ]) + self.visual(x.visual.flatten(1)[:, :READ])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    here, (samples, pixels) = device(), SIZES[args.size]
    torch.manual_seed(0)
    x = AV(torch.rand(args.batch, samples) - 0.5, torch.rand(args.batch, 1, 3, pixels, pixels)).map(
        lambda s: s.to(here)
    )
    net = Reader().eval().requires_grad_(False).to(here)
    y, rows = net(x).argmax(1), []
    for kind in ("PGD", "MIM"):
        search = Search(kind, args.steps)
        for threat in TABLE1:
            best: dict[str, float] = {name: float("inf") for name in available(here) if name in LOOPS}
            for _ in range(args.repeats + 1):  # one more, which warms up
                for name in best:
                    synchronise()
                    began = clock()
                    METHODS[name](net, search, x, y, threat)
                    synchronise()
                    best[name] = min(best[name], clock() - began)
            least = min((s for name, s in best.items() if name in PEERS), default=None)
            found: list[dict[str, Any]] = [
                {
                    "method": name,
                    "attack": kind,
                    "on": threat.subset,
                    "ms": 1e3 * s / args.steps,
                    "faster": least and least / s,
                }
                for name, s in best.items()
            ]
            rows += found
            print(f"{kind} on {threat.subset}, milliseconds a step, ratio")
            print("\n".join(f"  {r['method']:<18}{r['ms']:>9.2f}{ratio(r['faster'])}" for r in found), flush=True)
    asked = {"size": args.size, "batch": args.batch, "steps": args.steps, "repeats": args.repeats}
    write(args.out / f"loop-{args.size}-{args.batch}.json", "loop", asked, rows)


if __name__ == "__main__":
    main()
