"""Are attacks with gradients of low precision as strong?  The paper's budgets on a trained model, in each precision.

    .venv/bin/python benchmarks/precision.py runs/standard --clips 200
    .venv/bin/python benchmarks/precision.py runs/quick --study quick --tf32    # on a GPU

FGSM, PGD-10, MIM-10, APGD-20 and, with `--worst-case`, a short AVAutoAttack attack audio, visual and both at the paper's budgets, and with four times the visual
budget, which fools more clips.  Adversarial clips are made in each precision and always judged in float32.  With `--tf32`,
also with TF32 convolutions and matrix products, which PyTorch uses for convolutions on a GPU unless it is told not to.  No
special hardware is needed, but without it bfloat16 takes about ten times as long as float32.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import study_models
import torch
from measure import RUNS, device, synchronise, write

from avrobust import APGD, AVAutoAttack, Seeds, engine
from avrobust.evaluation.stats import Proportion
from avrobust.objectives import correct, display_name
from avrobust.papers.tian2021.budgets import TABLE1, TABLE1_X4
from avrobust.study.shared import MOMENTUM, ONE_STEP, TEN_STEPS

ATTACKS = (ONE_STEP, *(replace(attack, stop=True) for attack in (TEN_STEPS, MOMENTUM)), APGD(steps=20))
WORST_CASE = AVAutoAttack(steps=10, queries=50)  # in full it takes a GPU 47 seconds for 100 clips
BUDGETS = {"the paper's": TABLE1, "four times the visual budget": TABLE1_X4}


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """TF32 in convolutions and matrix products, or float32 in both."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study")
    parser.add_argument("--study", default="standard")
    parser.add_argument("--model", default="AV")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--tf32", action="store_true", help="TF32 too: needs a GPU")
    parser.add_argument("--worst-case", action="store_true", help="a short AVAutoAttack too")
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    here = device()
    clips = study_models.test_clips(args.run, args.study, args.clips).to(here)
    net = study_models.load(args.run, args.model).to(here)
    seeds, rows = Seeds(0, clips.ids), []
    settings = [("float32", False), ("bfloat16", False), *([("float32", True)] if args.tf32 else [])]
    for precision, low in settings:
        name = "TF32" if low else precision
        victim = engine.surrogate(net, clips.x.map(lambda s: s[:1]), precision)
        for budgets, threats in BUDGETS.items():
            for attack in (*ATTACKS, *([WORST_CASE] if args.worst_case else [])):
                counts, began = [], perf_counter()
                for threat in threats:
                    with tf32(low):
                        x = attack(victim, clips.x, clips.label, threat, seeds)
                    with torch.no_grad(), tf32(False):
                        counts.append(int(correct(net(x), clips.label).sum()))
                synchronise()
                spent = perf_counter() - began
                row = {"precision": name, "budgets": budgets, "attack": display_name(attack), "correct": counts}
                rows.append(row | {"clips": len(clips), "seconds": spent})
                shown = " · ".join(str(Proportion(k, len(clips))) for k in counts)
                print(f"{name:<9}{budgets:<30}{display_name(attack):<14}{shown}  {spent:.1f} s", flush=True)
                asked = {"run": args.run.name, "model": args.model, "clips": len(clips)}
                write(args.out / "precision.json", "precision", asked, rows)  # all so far: it may be stopped


if __name__ == "__main__":
    main()
