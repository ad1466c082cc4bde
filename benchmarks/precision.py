"""Are attacks with bfloat16 gradients as strong?  Table 1 on a trained model, with gradients in either precision.

    .venv/bin/python benchmarks/precision.py runs/standard --clips 200

FGSM, PGD-10 and MIM-10 attack audio, visual and both, at the paper's budgets with four times the visual budget, which
fools more clips.  The model predicts in float32, as in any evaluation.  No special hardware is needed, but without it
bfloat16 takes about ten times as long as float32.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

import study_models
from measure import RUNS, write

from avrobust import evaluate
from avrobust.engine import Precision
from avrobust.papers.tian2021.budgets import TABLE1_X4
from avrobust.study.shared import MOMENTUM, ONE_STEP, TEN_STEPS

ATTACKS = (ONE_STEP, *(replace(attack, stop=True) for attack in (TEN_STEPS, MOMENTUM)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of a study")
    parser.add_argument("--study", default="standard")
    parser.add_argument("--model", default="AV")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    clips, net = study_models.test_clips(args.run, args.study, args.clips), study_models.load(args.run, args.model)
    rows = []
    for precision in (p for p in get_args(Precision) if p != "auto"):
        cells = evaluate(net, [clips], ATTACKS, TABLE1_X4, precision=precision).cells()
        rows.append({"precision": precision, "correct": [cell.accuracy().k for cell in cells]})
        print(f"{precision}: correct of {args.clips}: {rows[-1]['correct']}", flush=True)
    asked = {"run": args.run.name, "model": args.model, "clips": args.clips}
    write(args.out / "precision.json", "precision", asked, rows)


if __name__ == "__main__":
    main()
