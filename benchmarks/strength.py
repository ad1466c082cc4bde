"""Is our strongest attack as strong as a library's, at no higher cost?  Both attack the models of a run.

    .venv/bin/python benchmarks/strength.py runs/worst_case --clips 32
    .venv/bin/python benchmarks/strength.py runs/worst_case --models AV MinSim --on A

The library is torchattacks' AutoAttack (APGD with cross entropy, targeted APGD and FAB against every other class, Square
with 5,000 queries), with our number of steps instead of its default of 10.  Inputs are packed (`methods.py`) into a square
one-channel image, one clip at a time: the library continues with part of a batch, and a packed model identifies its
clips by their position.  Of a single clip the engine's copy of the network is much faster, so the library gets that; the
network itself judges.  Our APGD with the same loss, steps and ball is compared with the library's, an independent
implementation.

Cost is counted in passes of a clip through an encoder, forwards and backwards, because batches of one make seconds
meaningless.  Square only has forward passes.  Of both worst cases, the clips that stand after each search are noted beside the
passes so far: "near" is the first count of passes per clip with at most one clip more standing than in the end.
"""

import argparse
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import study_models
import torch
import torchattacks as library
from measure import RUNS, clock, write
from methods import Packed
from torch import Tensor

from avrobust import APGD, MIM, PGD, AVAutoAttack, Batch, Seeds, Threat, engine
from avrobust.attacks import autoattack
from avrobust.evaluation.stats import proportion
from avrobust.models.network import Absent, AVNet
from avrobust.objectives import display_name
from avrobust.papers.tian2021.budgets import TABLE3_X4
from avrobust.types import Attack, Signals


class Passes:
    """Counts the clips that pass the encoders of a model, forwards and backwards."""

    def __init__(self, net: AVNet) -> None:
        self.count = 0
        self.hooks: list[Any] = []
        self.follow(net)

    def follow(self, net: AVNet) -> None:
        """Count those of this network, too."""
        self.hooks += [e.register_forward_hook(self.forward) for e in net.encoders if not isinstance(e, Absent)]

    def forward(self, encoder: torch.nn.Module, args: tuple[Tensor], out: Tensor) -> None:
        """One pass per clip, and one more for each gradient."""
        self.add(out)
        if out.requires_grad:
            out.register_hook(self.add)

    def add(self, clips: Tensor) -> None:
        """One pass per clip."""
        self.count += len(clips)

    def stop(self) -> None:
        """Stop counting."""
        for hook in self.hooks:
            hook.remove()


class PackedImage(Packed):
    """`Packed` with u as a square one-channel image (b 1 s s), the input of image attacks; its end is padding."""

    def signals(self, u: Tensor) -> Signals:
        return super().signals(u.flatten(1)[:, : sum(self.sizes)])

    def start(self) -> Tensor:
        side = math.ceil(math.sqrt(sum(self.sizes)))
        return self.x.audio.new_full((len(self.x.audio), 1, side, side), 0.5)


# After each search: its name, the passes so far, and how many clips stand.
Trace = list[tuple[str, int, int]]


def theirs(
    net: AVNet, craft: engine.Victim, batch: Batch, threat: Threat, steps: int, passes: Passes, *, whole: bool
) -> Trace:
    """The library's APGD, or its whole AutoAttack, one clip at a time."""
    passes.follow(craft.module)
    names = ["APGD, cross entropy", "targeted APGD", "targeted FAB", "Square"] if whole else ["APGD"]
    spent, standing = [0] * len(names), [0] * len(names)
    for i in range(len(batch)):
        x, y = batch.x.map(lambda s, i=i: s[i : i + 1]), batch.label[i : i + 1]
        packed = PackedImage(craft, x, threat).eval()
        if whole:
            auto = library.AutoAttack(packed, eps=0.5, n_classes=net.classifier.out_features, seed=0)
            searches = auto._autoattack.attacks
            for search in searches[:3]:
                search.steps = steps
        else:
            searches = [library.APGD(packed, eps=0.5, steps=steps, loss="ce")]
        right = bool(net(x).argmax(1) == y)
        for k, search in enumerate(searches):
            before = passes.count
            if right:
                u = search(packed.start(), y).detach()
                right = bool(net(packed.signals(u)).argmax(1) == y)
            spent[k], standing[k] = spent[k] + passes.count - before, standing[k] + right
    return [(name, sum(spent[: k + 1]), standing[k]) for k, name in enumerate(names)]


def ours(attack: Attack, net: AVNet, batch: Batch, threat: Threat, passes: Passes) -> Trace:
    """One of our attacks; of AVAutoAttack, each of its searches."""
    found: Trace = []
    with watched(passes, found):
        adversarial = attack(net, batch.x, batch.label, threat, Seeds(0, batch.ids))
    count = passes.count
    with torch.no_grad():
        return [*found, ("all", count, int((net(adversarial).argmax(1) == batch.label).sum()))]


@contextmanager
def watched(passes: Passes, found: Trace) -> Iterator[None]:
    """Inside, each search of AVAutoAttack is noted, where it has clips left to attack."""
    climb, search, keep = autoattack._Run.climb, autoattack._Run.search, autoattack._Run.keep
    both: list[autoattack._Run] = []  # whose active clips are those that stand

    def note(run: autoattack._Run, name: str, before: int) -> None:
        both.append(run)
        left = len(both[0].active) - (before - len(run.active)) * (run is not both[0])
        if before:
            found.append((f"{run.active.threat.subset}: {name}", passes.count, left))

    def climbed(run: Any, objective: Any, *args: Any, **how: Any) -> None:
        before = len(run.active)
        climb(run, objective, *args, **how)
        name = display_name(objective) + (", along a way" if how.get("way", run.ways[0]) is not run.ways[0] else "")
        note(run, name + (", from both" if args else "") + (", alternating" if how.get("alternate") else ""), before)

    def searched(run: Any) -> None:
        kept: list[int] = []

        def counted(run: Any, delta: Any) -> None:
            kept.append(len(run.active))
            keep(run, delta)

        with patch.object(autoattack._Run, "keep", counted):
            search(run)
        if kept and len(kept) > run.begun:  # the last one is Square's
            note(run, "Square", kept[-1])

    with patch.object(autoattack._Run, "climb", climbed), patch.object(autoattack._Run, "search", searched):
        yield


def near(trace: Trace) -> int:
    """The passes after which at most one clip more stands than in the end.

    >>> near([("a", 100, 9), ("b", 300, 5), ("c", 900, 4)])
    300
    """
    return next(count for _, count, left in trace if left <= trace[-1][2] + 1)


def searches(net: AVNet, batch: Batch, threat: Threat, steps: int) -> dict[str, Callable[[Passes], Trace]]:
    """The attacks to compare, by display name."""
    craft = engine.surrogate(net, batch.x.map(lambda s: s[:1]))
    mine = {"PGD-10": PGD(), "MIM-10": MIM(), "APGD": APGD(steps=steps), "AVAutoAttack": AVAutoAttack(steps=steps)}
    return {name: partial(ours, attack, net, batch, threat) for name, attack in mine.items()} | {
        "torchattacks APGD": partial(theirs, net, craft, batch, threat, steps, whole=False),
        "torchattacks AutoAttack": partial(theirs, net, craft, batch, threat, steps, whole=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study")
    parser.add_argument("--models", nargs="+", default=None)
    parser.add_argument("--on", nargs="+", default=["A", "V", "AV"])
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--out", type=Path, default=RUNS)
    parser.add_argument("--methods", nargs="+", help="only these")
    args = parser.parse_args()
    batch = study_models.test_clips(args.run, args.clips)
    models = args.models or list(study_models.record(args.run)["models"])
    asked = {"run": args.run.name, "clips": args.clips, "steps": args.steps}
    file = args.out / f"strength-{args.run.name}-{args.clips}.json"
    before = json.loads(file.read_text()) if file.is_file() else {"asked": None}
    rows = before["rows"] if before["asked"] == asked else []  # of other models and methods
    print(
        f"{args.clips} clips, {args.steps} steps; clips still correct, passes per clip, those to near the end, and seconds\n"
    )
    for model in models:
        net = study_models.load(args.run, model)
        has = {m for m, encoder in zip("AV", net.encoders, strict=True) if not isinstance(encoder, Absent)}
        for threat in (t for t in TABLE3_X4 if t.subset in args.on and has.issuperset(t.subset)):
            print(f"{model}, {threat.subset}: ", end="", flush=True)
            for name, search in searches(net, batch, threat, args.steps).items():
                if args.methods and name not in args.methods:
                    continue
                passes, began = Passes(net), clock()
                trace = search(passes)
                spent, right = clock() - began, trace[-1][2]
                passes.stop()
                each, soon = trace[-1][1] / args.clips, near(trace) / args.clips
                rows = [r for r in rows if (r["model"], r["on"], r["method"]) != (model, threat.subset, name)]
                rows.append(
                    {"model": model, "on": threat.subset, "method": name, "right": right, "passes": each, "near": soon}
                    | {"seconds": spent, "trace": trace}
                )
                print(
                    f"{name} {proportion(right, args.clips)} ({each:.0f}, {soon:.0f}; {spent:.0f} s)",
                    end="; ",
                    flush=True,
                )
                write(file, "strength", asked, rows)
            print()


if __name__ == "__main__":
    main()
