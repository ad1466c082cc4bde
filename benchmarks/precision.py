"""Are attacks that are crafted in bfloat16 as strong?  Table 1 on a trained network, crafted in either precision.

    .venv/bin/python benchmarks/precision.py runs/standard --clips 200

FGSM, PGD-10 and MIM-10 on sound, on picture and on both, at the paper's budgets with that of the picture four times as
large, where more clips fall.  Every prediction is the network's own in float32, as in any evaluation.  Strength needs no
fast hardware: without it, bfloat16 takes about ten times as long as float32.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import get_args

import trained
from measure import RUNS, write

from avrobust import evaluate
from avrobust.engine import Precision
from avrobust.papers.tian2021.budgets import TABLE1_X4
from avrobust.study.attacks import MOMENTUM, ONE_STEP, TEN_STEPS

ATTACKS = (ONE_STEP, *(replace(attack, stop=True) for attack in (TEN_STEPS, MOMENTUM)))


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("run", type=Path, help="a folder that a study wrote")
    words.add_argument("--study", default="standard")
    words.add_argument("--model", default="AV")
    words.add_argument("--clips", type=int, default=200)
    words.add_argument("--out", type=Path, default=RUNS)
    given = words.parse_args()
    clips, net = trained.tested(given.run, given.study, given.clips), trained.network(given.run, given.model)
    rows = []
    for precision in (p for p in get_args(Precision) if p != "auto"):
        cells = evaluate(net, [clips], ATTACKS, TABLE1_X4, precision=precision).cells()
        rows.append({"precision": precision, "standing": [cell.accuracy().k for cell in cells]})
        print(f"{precision}: of {given.clips} stand {rows[-1]['standing']}", flush=True)
    asked = {"run": given.run.name, "model": given.model, "clips": given.clips}
    write(given.out / "precision.json", "precision", asked, rows)


if __name__ == "__main__":
    main()
