"""Is our strongest attack as strong as a library's, at no higher cost?  Both attack the models of a run.

    .venv/bin/python benchmarks/strength.py runs/worst_case --clips 32
    .venv/bin/python benchmarks/strength.py runs/worst_case --models AV MinSim --on A

The library is torchattacks' AutoAttack (APGD with cross entropy, targeted APGD and FAB against every other class, Square
with 5,000 queries), with our number of steps instead of its default of 10.  Inputs are packed (`methods.py`) into a square
one-channel image, one clip at a time: the library continues with part of a batch, and a packed model identifies its
clips by their position.  Our APGD with the same loss, steps and ball is compared with the library's, an independent
implementation.

Cost is counted in passes of a clip through an encoder, forwards and backwards, because batches of one make seconds
meaningless.  Square only has forward passes.
"""

import argparse
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import study_models
import torch
import torchattacks as library
from measure import RUNS, write
from methods import Packed
from torch import Tensor

from avrobust import APGD, MIM, PGD, AVAutoAttack, Batch, Seeds, Threat
from avrobust.evaluation.stats import Proportion
from avrobust.models.network import Absent, AVNet
from avrobust.papers.tian2021.budgets import TABLE3_X4
from avrobust.types import Attack, Signals


class Passes:
    """Counts the clips that pass the encoders of a model, forwards and backwards."""

    def __init__(self, net: AVNet) -> None:
        self.count = 0
        self.hooks = [e.register_forward_hook(self.forward) for e in net.encoders if not isinstance(e, Absent)]

    def forward(self, encoder: torch.nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        """One pass per clip, and one more for each gradient."""
        self.add(out)
        if out.requires_grad:
            out.register_hook(self.add)

    def add(self, clips: Tensor) -> None:
        """One pass per clip."""
        self.count += len(clips)

    def stop(self) -> int:
        """Stop counting; returns the count."""
        for hook in self.hooks:
            hook.remove()
        return self.count


class PackedImage(Packed):
    """`Packed` with u as a square one-channel image (b 1 s s), the input of image attacks; its end is padding."""

    def signals(self, u: Tensor) -> Signals:
        return super().signals(u.flatten(1)[:, : sum(self.sizes)])

    def start(self) -> Tensor:
        side = math.ceil(math.sqrt(sum(self.sizes)))
        return self.x.audio.new_full((len(self.x.audio), 1, side, side), 0.5)


def theirs(net: AVNet, batch: Batch, threat: Threat, steps: int, *, whole: bool) -> Tensor:
    """Which clips are still correct after the library's APGD, or after its whole AutoAttack, one clip at a time."""
    correct = []
    for i in range(len(batch)):
        x, y = batch.x.map(lambda s, i=i: s[i : i + 1]), batch.label[i : i + 1]
        packed = PackedImage(net, x, threat).eval()
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
        correct.append(right)
    return torch.tensor(correct)


def ours(attack: Attack, net: AVNet, batch: Batch, threat: Threat) -> Tensor:
    """Which clips are still correct after one of our attacks."""
    adversarial = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    with torch.no_grad():
        return net(adversarial).argmax(1) == batch.label


def searches(net: AVNet, batch: Batch, threat: Threat, steps: int) -> dict[str, Callable[[], Tensor]]:
    """The attacks to compare, by display name."""
    mine = {"PGD-10": PGD(), "MIM-10": MIM(), "APGD": APGD(steps=steps), "AVAutoAttack": AVAutoAttack(steps=steps)}
    return {name: partial(ours, attack, net, batch, threat) for name, attack in mine.items()} | {
        "torchattacks APGD": partial(theirs, net, batch, threat, steps, whole=False),
        "torchattacks AutoAttack": partial(theirs, net, batch, threat, steps, whole=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study")
    parser.add_argument("--models", nargs="+", default=None)
    parser.add_argument("--on", nargs="+", default=["A", "V", "AV"])
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    batch = study_models.test_clips(args.run, args.clips)
    models, rows = args.models or list(study_models.record(args.run)["models"]), []
    asked = {"run": args.run.name, "clips": args.clips, "steps": args.steps, "on": args.on, "models": models}
    print(f"{args.clips} clips, {args.steps} steps; clips still correct, and passes per clip in brackets\n")
    for model in models:
        net = study_models.load(args.run, model)
        has = {m for m, encoder in zip("AV", net.encoders, strict=True) if not isinstance(encoder, Absent)}
        for threat in (t for t in TABLE3_X4 if t.subset in args.on and has.issuperset(t.subset)):
            print(f"{model}, {threat.subset}: ", end="", flush=True)
            for name, search in searches(net, batch, threat, args.steps).items():
                passes = Passes(net)
                right = int(search().sum())
                each = passes.stop() / args.clips
                rows.append({"model": model, "on": threat.subset, "method": name, "right": right, "passes": each})
                print(f"{name} {Proportion(right, args.clips)} ({each:.0f})", end="; ", flush=True)
            print()
            write(args.out / f"strength-{args.run.name}-{args.clips}.json", "strength", asked, rows)


if __name__ == "__main__":
    main()
