"""What does keeping the gradient at the clean clips save?  FGSM, and all attacks of Table 1, over the budgets of curves.

    .venv/bin/python benchmarks/clean_gradients.py --clips 32

`evaluate` computes the gradient at the clean clips once per modality, whatever attacks and budgets begin there: FGSM needs no other,
MIM begins with it.  Both ways take turns in one process.
"""

import argparse
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from measure import RUNS, clock, device, write
from methods import SIZES, Problem
from table1 import split

from avrobust import engine, evaluate
from avrobust.papers.tian2021.budgets import curves
from avrobust.study.shared import MOMENTUM, ONE_STEP, TEN_STEPS

BUDGETS = (0.0015, 0.003, 0.006, 0.012)
ATTACKS = {
    "FGSM": [ONE_STEP],
    "FGSM, PGD-10, MIM-10": [ONE_STEP, *(replace(attack, stop=True) for attack in (TEN_STEPS, MOMENTUM))],
}


def without() -> AbstractContextManager[Any]:
    """Inside, no gradient is kept."""
    return patch.object(engine.TwoStream, "cache_clean_gradients", lambda victim, x, y: victim)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    problem, rows = Problem.make(*SIZES[args.size], args.clips).to(device()), []
    threats = sum(curves(BUDGETS, BUDGETS).values(), ())
    for name, attacks in ATTACKS.items():
        best = dict.fromkeys(("kept", "computed anew"), float("inf"))
        for _ in range(args.repeats):
            for how, context in (("kept", nullcontext()), ("computed anew", without())):
                began = clock()
                with context:
                    evaluate(problem.net, split(problem, args.clips), attacks, threats)
                best[how] = min(best[how], clock() - began)
        rows.append({"attacks": name, "threats": len(threats)} | best)
        print(
            f"{name}, {len(threats)} threats: " + ", ".join(f"{how} {s:.1f} s" for how, s in best.items()), flush=True
        )
    asked = {"size": args.size, "clips": args.clips, "repeats": args.repeats}
    write(args.out / f"clean_gradients-{args.size}-{args.clips}.json", "clean_gradients", asked, rows)


if __name__ == "__main__":
    main()
