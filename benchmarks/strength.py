"""Is our strongest attack as strong as a library's, at no more cost?  The networks of a run, attacked by both.

    .venv/bin/python benchmarks/strength.py runs/worst_case --clips 32
    .venv/bin/python benchmarks/strength.py runs/worst_case --models AV MinSim --on A

The library is torchattacks' AutoAttack (APGD with cross entropy, targeted APGD and FAB against every other class, Square
with 5,000 queries), with as many steps as ours where its own default is 10.  Inputs are packed (`ways.py`) into a square
picture of one channel, one clip at a time: the library goes on with some clips of a batch only, and a packed network
knows which clips it holds by their place.  A search of ours with the same loss, steps and ball stands beside the
library's APGD, so that it is checked against an independent one.

Cost is counted in passes of a clip through an encoder, forwards and backwards alike, as batches of one make seconds
meaningless.  Square goes forwards only.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torchattacks as library
import trained
from measure import RUNS, write
from torch import Tensor
from ways import Packed

from avrobust import APGD, MIM, PGD, AVAutoAttack, Batch, Seeds, Threat
from avrobust.evaluation.stats import Proportion
from avrobust.models.network import Absent, AVNet
from avrobust.papers.tian2021.budgets import TABLE3_X4
from avrobust.types import Attack, Signals


class Passes:
    """How many clips have gone through the encoders of a network, forwards and backwards, since it was made."""

    def __init__(self, net: AVNet) -> None:
        self.count = 0
        self.hooks = [e.register_forward_hook(self.forward) for e in net.encoders if not isinstance(e, Absent)]

    def forward(self, encoder: torch.nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        """One pass each, and one more whenever a gradient comes back."""
        self.add(out)
        if out.requires_grad:
            out.register_hook(self.add)

    def add(self, clips: Tensor) -> None:
        """One pass each."""
        self.count += len(clips)

    def stop(self) -> int:
        """The count, once and for all."""
        for hook in self.hooks:
            hook.remove()
        return self.count


class Picture(Packed):
    """As `Packed`, with u a square of one channel (b 1 s s), as searches for pictures want; its end stands for nothing."""

    def signals(self, u: Tensor) -> Signals:
        return super().signals(u.flatten(1)[:, : sum(self.sizes)])

    def start(self) -> Tensor:
        side = math.ceil(math.sqrt(sum(self.sizes)))
        return self.x.audio.new_full((len(self.x.audio), 1, side, side), 0.5)


def theirs(net: AVNet, batch: Batch, threat: Threat, steps: int, *, whole: bool) -> Tensor:
    """Which clips stand after the library's APGD, or after the whole of its AutoAttack, one clip at a time."""
    stands = []
    for i in range(len(batch)):
        x, y = batch.x.map(lambda s, i=i: s[i : i + 1]), batch.label[i : i + 1]
        packed = Picture(net, x, threat).eval()
        if whole:
            auto = library.AutoAttack(packed, eps=0.5, n_classes=net.classifier.out_features, seed=0)
            searches = auto._autoattack.attacks
            for search in searches[:3]:
                search.steps = steps
        else:
            searches = [library.APGD(packed, eps=0.5, steps=steps, loss="ce")]
        right = bool(net(x).argmax(1) == y)
        for search in searches:
            if right:
                u = search(packed.start(), y).detach()
                right = bool(net(packed.signals(u)).argmax(1) == y)
        stands.append(right)
    return torch.tensor(stands)


def ours(attack: Attack, net: AVNet, batch: Batch, threat: Threat) -> Tensor:
    """Which clips stand after one of ours."""
    adversarial = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    with torch.no_grad():
        return net(adversarial).argmax(1) == batch.label


def searches(net: AVNet, batch: Batch, threat: Threat, steps: int) -> dict[str, Callable[[], Tensor]]:
    """All that are compared, by their names in a table."""
    mine = {"PGD-10": PGD(), "MIM-10": MIM(), "APGD": APGD(steps=steps), "AVAutoAttack": AVAutoAttack(steps=steps)}
    return {name: partial(ours, attack, net, batch, threat) for name, attack in mine.items()} | {
        "torchattacks APGD": partial(theirs, net, batch, threat, steps, whole=False),
        "torchattacks AutoAttack": partial(theirs, net, batch, threat, steps, whole=True),
    }


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("run", type=Path, help="a folder that a study wrote")
    words.add_argument("--study", default="worst_case")
    words.add_argument("--models", nargs="+", default=None)
    words.add_argument("--on", nargs="+", default=["A", "V", "AV"])
    words.add_argument("--clips", type=int, default=32)
    words.add_argument("--steps", type=int, default=50)
    words.add_argument("--out", type=Path, default=RUNS)
    given = words.parse_args()
    batch = trained.tested(given.run, given.study, given.clips)
    models, rows = given.models or list(trained.about(given.run)["models"]), []
    asked = {"run": given.run.name, "clips": given.clips, "steps": given.steps, "on": given.on, "models": models}
    print(f"{given.clips} clips, {given.steps} steps; right after each, and passes per clip in brackets\n")
    for model in models:
        net = trained.network(given.run, model)
        has = {m for m, encoder in zip("AV", net.encoders, strict=True) if not isinstance(encoder, Absent)}
        for threat in (t for t in TABLE3_X4 if t.subset in given.on and has.issuperset(t.subset)):
            print(f"{model}, {threat.subset}: ", end="", flush=True)
            for name, search in searches(net, batch, threat, given.steps).items():
                passes = Passes(net)
                right = int(search().sum())
                each = passes.stop() / given.clips
                rows.append({"model": model, "on": threat.subset, "way": name, "right": right, "passes": each})
                print(f"{name} {Proportion(right, given.clips)} ({each:.0f})", end="; ", flush=True)
            print()
            write(given.out / f"strength-{given.run.name}-{given.clips}.json", "strength", asked, rows)


if __name__ == "__main__":
    main()
