"""Are attacks with gradients of low precision as strong?  A trained model at the paper's budgets, in each precision.

    .venv/bin/python benchmarks/precision.py runs/standard --clips 200 --larger
    .venv/bin/python benchmarks/precision.py runs/quick --tf32    # on a GPU

FGSM, PGD-10, MIM-10, APGD-20, on `--long` clips PGD-100, and with `--worst-case` a short AVAutoAttack attack audio, visual and
both; with `--larger` also at four times the visual budget, which fools more clips.  Adversarial clips are made in each precision
and always judged in float32.  "bfloat16, then float32" attacks in float32 what stands after bfloat16: what stands after both is
never more than after float32.  With `--tf32`, also with TF32 convolutions and matrix products, which PyTorch uses for convolutions
on a GPU unless it is told not to.  No special hardware is needed, but without it bfloat16 takes about ten times as long as float32.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import study_models
import torch
from measure import RUNS, clock, device, synchronise, write
from torch import Tensor

from avrobust import APGD, PGD, AVAutoAttack, Batch, Seeds, Threat, engine
from avrobust.engine import lowprecision
from avrobust.evaluation.stats import proportion
from avrobust.objectives import correct, display_name
from avrobust.papers.tian2021.budgets import TABLE1, TABLE1_X4
from avrobust.study.shared import MOMENTUM, ONE_STEP, TEN_STEPS
from avrobust.types import Attack, Model

ATTACKS = (ONE_STEP, *(replace(attack, stop=True) for attack in (TEN_STEPS, MOMENTUM)), APGD(steps=20))
LONG = PGD(steps=100, stop=True)
WORST_CASE = AVAutoAttack(steps=10, queries=50)  # in full it takes a GPU 47 seconds for 100 clips
BUDGETS = {"the paper's": TABLE1, "four times the visual budget": TABLE1_X4}
THEN = "bfloat16, then float32"


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """TF32 in convolutions and matrix products, or float32 in both."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def standing(net: Model, victim: Model, attack: Attack, clips: Batch, threat: Threat, low: bool = False) -> Tensor:
    """Which clips `net` in float32 still classifies correctly, after an attack on `victim`."""
    with tf32(low):
        x = attack(victim, clips.x, clips.label, threat, Seeds(0, clips.ids))
    with torch.no_grad(), tf32(False):
        return correct(net(x), clips.label)


def layers_in_float32(victim: engine.Victim) -> str:
    """How many of the layers of each encoder stay in float32 beside low precision: "1 of 8 + 6 of 21"."""
    if victim.precision == torch.float32:
        return "all"
    counts = []
    for part in victim.parts:
        layers = [m for m in part.modules() if isinstance(m, lowprecision.LAYERS)]
        counts.append(f"{sum(m.weight.dtype == torch.float32 for m in layers)} of {len(layers)}")
    return " + ".join(counts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study")
    parser.add_argument("--model", default="AV")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--long", type=int, default=0, help="PGD-100 too, on so many clips")
    parser.add_argument("--larger", action="store_true", help="four times the visual budget too")
    parser.add_argument("--tf32", action="store_true", help="TF32 too: needs a GPU")
    parser.add_argument("--worst-case", action="store_true", help="a short AVAutoAttack too")
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    here = device()
    clips = study_models.test_clips(args.run, args.clips).to(here)
    net = study_models.load(args.run, args.model).to(here)
    example = clips.x.map(lambda s: s[:1])
    victims = {p: engine.surrogate(net, example, p) for p in ("float32", "bfloat16")}
    kept = layers_in_float32(victims["bfloat16"])
    print(f"{kept} layers stay in float32")
    plan = [(budgets, attack, clips) for budgets in list(BUDGETS)[: 1 + args.larger] for attack in ATTACKS]
    plan += [("the paper's", LONG, clips.subset(range(args.long)))] if args.long else []
    plan += [("the paper's", WORST_CASE, clips)] if args.worst_case else []
    settings = [("float32", False), ("bfloat16", False), (THEN, False), *([("TF32", True)] if args.tf32 else [])]
    rows: list[dict[str, Any]] = []
    for budgets, attack, few in plan:
        left: dict[str, list[Tensor]] = {name: [] for name, _ in settings}
        for name, low in settings:
            began = clock()
            for k, threat in enumerate(BUDGETS[budgets]):
                if name == THEN:
                    stood = left["bfloat16"][k].nonzero()[:, 0].tolist()
                    after = left["bfloat16"][k].clone()
                    if stood:
                        again = few.subset(stood)
                        after[stood] = standing(net, victims["float32"], attack, again, threat)
                    left[name].append(after)
                else:
                    victim = victims["bfloat16" if name == "bfloat16" else "float32"]
                    left[name].append(standing(net, victim, attack, few, threat, low))
            synchronise()
            spent = clock() - began + (rows[-1]["seconds"] if name == THEN else 0.0)
            counts, exact = [int(s.sum()) for s in left[name]], left["float32"]
            row = {"precision": name, "budgets": budgets, "attack": display_name(attack), "correct": counts}
            rows.append(row | {"clips": len(few), "seconds": spent, "only_here": [int((s & ~e).sum()) for s, e in zip(left[name], exact, strict=True)]})  # fmt: skip
            shown = " · ".join(str(proportion(k, len(few))) for k in counts)
            print(f"{name:<24}{budgets:<30}{display_name(attack):<14}{shown}  {spent:.1f} s", flush=True)
            asked = {"run": args.run.name, "model": args.model, "clips": len(clips), "float32_layers": kept}
            name_of_file = f"precision-{args.run.name}-{args.model.replace(', ', '_')}.json"
            write(args.out / name_of_file, "precision", asked, rows)  # all so far: it may be stopped


if __name__ == "__main__":
    main()
