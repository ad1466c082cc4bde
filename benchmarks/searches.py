"""Is each of our attacks as strong as a library's?  On audio-only and visual-only models, where both can run.

    .venv/bin/python benchmarks/searches.py runs/standard --clips 64

The library is torchattacks: its APGD with cross entropy and DLR, its targeted APGD, linf and L2, and its Square, with the same
number of steps and queries.  On one modality it only needs audio shifted from [-1, 1] to [0, 1].  Our attacks use
the same ball and their own random starts; both stop on a clip once it is misclassified.  Square is compared on images only,
because the library's is for images.  The budgets fool some clips and not others.  Exact McNemar tests compare the results.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import study_models
import torch
import torchattacks as library
from measure import RUNS, write
from torch import Tensor

from avrobust import APGD, AV, Batch, Seeds, Threat, engine
from avrobust.attacks import Square
from avrobust.attacks.search import ActiveSet, BestSoFar, Search, random_start
from avrobust.evaluation.comparison import mcnemar
from avrobust.models.network import AVNet
from avrobust.objectives import Objective, cross_entropy, dlr, dlr_towards
from avrobust.types import RANGE

TARGETS = 3  # target classes per clip
BUDGETS = {("A", "linf"): 0.003, ("A", "l2"): 0.2, ("V", "linf"): 0.02, ("V", "l2"): 0.8}


class Single(torch.nn.Module):
    """A unimodal model in the form that the library needs: u (b c h w) in [0, 1] to logits."""

    def __init__(self, net: AVNet, batch: Batch, on: str) -> None:
        super().__init__()
        self.net, self.on = net, on
        self.low, self.high = RANGE.audio if on == "A" else RANGE.visual
        self.shape = (batch.x.audio if on == "A" else batch.x.visual).shape[1:]

    def pack(self, batch: Batch) -> Tensor:
        """The clean clips."""
        u = (batch.x.audio if self.on == "A" else batch.x.visual).sub(self.low) / (self.high - self.low)
        return u[:, None, None] if self.on == "A" else u.flatten(1, 2)

    def forward(self, u: Tensor) -> Tensor:
        s = u.reshape(-1, *self.shape) * (self.high - self.low) + self.low
        other = s.new_zeros(len(s), 0)  # the absent encoder ignores it
        logits: Tensor = self.net(AV(audio=s, visual=other) if self.on == "A" else AV(audio=other, visual=s))
        return logits


@dataclass(frozen=True)
class Question:
    """One model, its clips, and the threat."""

    net: AVNet
    batch: Batch
    on: str
    norm: str
    steps: int
    queries: int

    @property
    def eps(self) -> float:
        return BUDGETS[self.on, self.norm]

    @property
    def threat(self) -> Threat:
        """The threat of our attacks."""
        return (Threat.linf if self.norm == "linf" else Threat.l2)(
            **{"audio" if self.on == "A" else "visual": self.eps}
        )

    def climbed(self, objective: Objective) -> Tensor:
        """Which clips are still correct after our APGD."""
        return self.correct(APGD(steps=self.steps, objective=objective))

    def correct(self, attack: APGD | Square) -> Tensor:
        """Which clips are still correct after one of our attacks."""
        b = self.batch
        with torch.no_grad():
            return self.net(attack(self.net, b.x, b.label, self.threat, Seeds(0, b.ids))).argmax(1) == b.label

    def targeted(self) -> Tensor:
        """Which clips are still correct after our APGD towards each of the most likely other classes."""
        b = self.batch
        start = ActiveSet.of(self.net, b.x, b.label, self.threat, Seeds(0, b.ids))
        with torch.no_grad():
            nearest = self.net(b.x).scatter(1, b.label[:, None], -torch.inf).argsort(1, descending=True)
        correct = torch.ones_like(b.label, dtype=torch.bool)
        for rank in range(TARGETS):
            active = replace(start, y=torch.stack([b.label, nearest[:, rank]], 1))
            search = Search(active, BestSoFar(b.x, self.threat), dlr_towards, stop=True)
            APGD(steps=self.steps).ascend(search, random_start(active, rank))
            with torch.no_grad():
                at = engine.shift(b.x, search.best.delta, self.threat)
                correct &= self.net(at).argmax(1) == b.label
        return correct

    def theirs(self, make: Callable[..., library.attack.Attack]) -> Tensor:
        """Which clips are still correct after one of the library's attacks."""
        net = Single(self.net, self.batch, self.on).eval()
        attack = make(net, norm="Linf" if self.norm == "linf" else "L2", eps=self.eps / (net.high - net.low))
        u = attack(net.pack(self.batch), self.batch.label)
        with torch.no_grad():
            return net(u).argmax(1) == self.batch.label

    def pairs(self) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
        """By name: our attack and the library's."""
        steps = {"steps": self.steps}
        found = {
            "APGD, cross entropy": (
                partial(self.climbed, cross_entropy),
                partial(self.theirs, partial(library.APGD, loss="ce", **steps)),
            ),
            "APGD, DLR": (partial(self.climbed, dlr), partial(self.theirs, partial(library.APGD, loss="dlr", **steps))),
            "APGD, targeted DLR": (
                self.targeted,
                partial(self.theirs, partial(library.APGDT, n_classes=TARGETS + 1, **steps)),
            ),
        }
        if self.on == "V" and self.norm == "linf":
            mine = partial(self.correct, Square(queries=self.queries))
            found["Square"] = mine, partial(self.theirs, partial(library.Square, n_queries=self.queries))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study with unimodal models")
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    batch = study_models.test_clips(args.run, 4 * args.clips)
    rows = []
    for on in ("A", "V"):
        net = study_models.load(args.run, on)
        with torch.no_grad():
            right = (net(batch.x).argmax(1) == batch.label).nonzero()[:, 0].tolist()
        clips = batch.subset(right[: args.clips])
        for norm in ("linf", "l2"):
            for name, (mine, other) in Question(net, clips, on, norm, args.steps, args.queries).pairs().items():
                ours, theirs = mine(), other()
                test = mcnemar(theirs.numpy(), ours.numpy())
                row = {"search": name, "on": on, "norm": norm, "clips": len(clips), "ours": int(ours.sum())}
                compared = {"difference": test.difference, "low": test.low, "high": test.high, "p": test.p}
                rows.append(row | {"theirs": int(theirs.sum())} | compared)
                print(
                    f"{on}, {norm}, {name}: correct of {len(clips)}: ours {row['ours']}, theirs {rows[-1]['theirs']} ({test})",
                    flush=True,
                )
    asked = {"run": args.run.name, "clips": args.clips, "steps": args.steps, "queries": args.queries}
    write(args.out / "searches.json", "searches", asked, rows)


if __name__ == "__main__":
    main()
