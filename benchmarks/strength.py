"""Is our strongest attack as strong as a library's, at no more cost?  The networks of a run, attacked by both.

    .venv/bin/python benchmarks/strength.py runs/worst_case --clips 32
    .venv/bin/python benchmarks/strength.py runs/worst_case --models AV MinSim --on A

The library is torchattacks' AutoAttack (APGD with cross entropy, targeted APGD and FAB against every other class, Square
with 5,000 queries), with as many steps as ours where its own default is 10.  Inputs are packed (`ways.py`) into a square
picture of one channel, one clip at a time: the library goes on with some clips of a batch only, and a packed network
knows which clips it holds by their place.  A search of ours with the same loss, steps and ball stands beside the
library's APGD, so that it is checked against an independent one.

Cost is counted in passes of a clip through the network, forwards and backwards alike, as batches of one make seconds
meaningless.  Square goes forwards only.
"""

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torchattacks as library
from torch import Tensor
from ways import Packed

from avrobust import APGD, MIM, PGD, AVAutoAttack, Batch, Seeds, Threat
from avrobust.data.store import Store
from avrobust.evaluation.metrics import Proportion
from avrobust.models.network import AVNet
from avrobust.study import named
from avrobust.study.budgets import TABLE3_X4
from avrobust.training import batches, checkpoint
from avrobust.types import Attack, Signals


class Counted(torch.nn.Module):
    """A network that counts the clips that go through it, forwards and backwards."""

    def __init__(self, net: AVNet) -> None:
        super().__init__()
        self.net, self.passes = net, 0

    def forward(self, x: Signals) -> Tensor:
        return self.decide(self.represent(x))

    def represent(self, x: Signals) -> Signals:
        self.count(x.audio)
        return self.net.represent(x)

    def decide(self, f: Signals) -> Tensor:
        logits = self.net.decide(f)
        if logits.requires_grad:
            logits.register_hook(self.count)
        return logits

    def count(self, clips: Tensor) -> None:
        """One pass each."""
        self.passes += len(clips)


class Square(Packed):
    """As `Packed`, with u a square of one channel (b 1 s s), as searches for pictures want; its end stands for nothing."""

    def signals(self, u: Tensor) -> Signals:
        return super().signals(u.flatten(1)[:, : sum(self.sizes)])

    def start(self) -> Tensor:
        side = math.ceil(math.sqrt(sum(self.sizes)))
        return self.x.audio.new_full((len(self.x.audio), 1, side, side), 0.5)


def theirs(net: Counted, batch: Batch, threat: Threat, steps: int, *, whole: bool) -> Tensor:
    """Which clips stand after the library's APGD, or after the whole of its AutoAttack, one clip at a time."""
    stands = []
    for i in range(len(batch)):
        x, y = batch.x.map(lambda s, i=i: s[i : i + 1]), batch.label[i : i + 1]
        packed = Square(net, x, threat).eval()
        if whole:
            auto = library.AutoAttack(packed, eps=0.5, n_classes=net.net.classifier.out_features, seed=0)
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


def ours(attack: Attack, net: Counted, batch: Batch, threat: Threat) -> Tensor:
    """Which clips stand after one of ours, which sees a model of somebody's own here: nothing of it is spared."""
    adversarial = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    with torch.no_grad():
        return net.net(adversarial).argmax(1) == batch.label


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("run", type=Path, help="a folder that a study wrote")
    words.add_argument("--study", default="worst_case")
    words.add_argument("--models", nargs="+", default=None)
    words.add_argument("--on", nargs="+", default=["A", "V", "AV"])
    words.add_argument("--clips", type=int, default=32)
    words.add_argument("--steps", type=int, default=50)
    given = words.parse_args()
    about = json.loads((given.run / "run.json").read_text())
    study = named(given.study)
    store = Store.open(Path(about["data"]["store"]))
    (batch,) = batches(store, "test", study.view, given.clips, limit=given.clips)
    print(f"{given.clips} clips, {given.steps} steps; right after each, and passes per clip in brackets\n")
    for model in given.models or list(about["models"]):
        net = checkpoint.load(given.run / "models" / f"{model}-0" / "net.safetensors")[0].requires_grad_(False)
        for threat in TABLE3_X4:
            if threat.subset not in given.on:
                continue
            ways: dict[str, Callable[[Counted], Tensor]] = {
                "PGD-10": lambda n, t=threat: ours(PGD(), n, batch, t),
                "MIM-10": lambda n, t=threat: ours(MIM(), n, batch, t),
                "APGD": lambda n, t=threat: ours(APGD(steps=given.steps), n, batch, t),
                "torchattacks APGD": lambda n, t=threat: theirs(n, batch, t, given.steps, whole=False),
                "AVAutoAttack": lambda n, t=threat: ours(AVAutoAttack(steps=given.steps), n, batch, t),
                "torchattacks AutoAttack": lambda n, t=threat: theirs(n, batch, t, given.steps, whole=True),
            }
            line = []
            for name, way in ways.items():
                counted = Counted(net)
                stands = way(counted)
                line.append(f"{name} {Proportion(int(stands.sum()), len(stands))} ({counted.passes / len(stands):.0f})")
            print(f"{model}, {threat.subset}: " + "; ".join(line), flush=True)


if __name__ == "__main__":
    main()
