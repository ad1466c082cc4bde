"""Which searches of AVAutoAttack fool a clip that the ones before left correct?  On the models of a study.

    .venv/bin/python benchmarks/components.py runs/quick --clips 64

Each search runs on the clips that survived the ones before, in AVAutoAttack's own order: "fooled" counts the clips that it fools,
"passes" the forward and backward passes per clip of the batch that it takes.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import study_models
import torch
from measure import RUNS, write
from strength import Passes

from avrobust import AVAutoAttack, Seeds
from avrobust.attacks import autoattack
from avrobust.models.network import Absent
from avrobust.objectives import display_name
from avrobust.papers.tian2021.budgets import TABLE3_X4


@contextmanager
def watched(found: list[tuple[str, int, int]]) -> Iterator[None]:
    """Inside, each search of AVAutoAttack is noted: its name, and how many clips were active before and after."""
    climb, search, keep = autoattack._Run.climb, autoattack._Run.search, autoattack._Run.keep

    def climbed(run: Any, objective: Any, *args: Any, **how: Any) -> None:
        before = len(run.active)
        climb(run, objective, *args, **how)
        name = display_name(objective) + (", along a way" if how.get("way") else "")
        name += ", from both" if args or how.get("start") is not None else ""
        found.append((f"{run.active.threat.subset}: {name}", before, len(run.active)))

    def searched(run: Any) -> None:
        kept = []

        def counted(run: Any, delta: Any) -> None:
            before = len(run.active)
            keep(run, delta)
            kept.append((before, len(run.active)))

        with patch.object(autoattack._Run, "keep", counted):
            search(run)
        if kept:  # the last one is Square's, where budgets are linf
            found.append((f"{run.active.threat.subset}: Square", *kept[-1]))

    with patch.object(autoattack._Run, "climb", climbed), patch.object(autoattack._Run, "search", searched):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study")
    parser.add_argument("--models", nargs="+", default=None)
    parser.add_argument("--on", nargs="+", default=["AV"])
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    batch = study_models.test_clips(args.run, args.clips)
    rows: list[dict[str, Any]] = []
    for model in args.models or list(study_models.record(args.run)["models"]):
        net = study_models.load(args.run, model)
        has = {m for m, encoder in zip("AV", net.encoders, strict=True) if not isinstance(encoder, Absent)}
        for threat in (t for t in TABLE3_X4 if t.subset in args.on and has.issuperset(t.subset)):
            passes, found = Passes(net), []
            with watched(found):
                x = AVAutoAttack(steps=args.steps, queries=args.queries)(
                    net, batch.x, batch.label, threat, Seeds(0, batch.ids)
                )
            each = passes.stop() / args.clips
            with torch.no_grad():
                right = int((net(x).argmax(1) == batch.label).sum())
            print(f"{model}, {threat.subset}: {right} of {args.clips} correct, {each:.0f} passes per clip")
            for name, before, after in found:
                rows.append({"model": model, "on": threat.subset, "search": name, "before": before, "after": after})
                print(f"  {name}: {before} -> {after}", flush=True)
            write(args.out / f"components-{args.run.name}-{args.clips}.json", "components", {"clips": args.clips}, rows)


if __name__ == "__main__":
    main()
