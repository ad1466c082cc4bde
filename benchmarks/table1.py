"""What does a whole table cost?  Table 1 of Tian & Xu 2021 as a user would run it, with avrobust and with each library.

    .venv/bin/python benchmarks/table1.py                   # 200 clips of the quick study's size
    .venv/bin/python benchmarks/table1.py --clips 40        # minutes on two cores
    .venv/bin/python benchmarks/table1.py --size paper

Clean predictions, then FGSM, PGD-10 (from a random start) and MIM-10 on audio, visual and both, at the paper's budgets.
With avrobust this is one call, `avrobust.evaluate`: it stops on a clip once it is misclassified, which is enough for a table of
accuracies, checks every budget, and measures every perturbation.  "every clip" does not stop early, and "any callable" hides the
model's structure.  The libraries get packed inputs and frozen weights (`methods.py`) and compute only the attack and the
prediction.  One run each, without warm-up, in a separate process per method.  The clips' margins range from 0.01 to 10
(`Problem.make`), so every attack fools some clips and not others; the more it fools, the more early stopping saves.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from attacks import warm_up
from measure import RUNS, Process, State, device, megabytes, ratio, seconds, with_ratios, write
from methods import METHODS as WARM
from methods import PEERS, SIZES, Method, Problem, Search, available

from avrobust import AV, Batch, engine, evaluate
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.study.shared import MOMENTUM, ONE_STEP, TEN_STEPS
from avrobust.types import Model

SEARCHES = (Search("FGSM"), Search("PGD", 10, random_start=True), Search("MIM", 10))
Correct = list[int]  # numbers of correctly classified clips: clean, then under each attack on A, V, AV


def by_library(method: Method, problem: Problem, batch: int) -> Correct:
    """The loop that a user of a library writes."""
    net, batches = problem.net, split(problem, batch)

    @torch.no_grad()
    def right(b: Batch, x: AV[torch.Tensor]) -> int:
        return int((net(x).argmax(1) == b.label).sum())

    correct = [sum(right(b, b.x) for b in batches)]
    for search in SEARCHES:
        for threat in TABLE1:
            correct.append(sum(right(b, method(net, search, b.x, b.label, threat)) for b in batches))
    return correct


def by_us(precision: engine.Precision, stop: bool, opaque: bool, problem: Problem, batch: int) -> Correct:
    """One call of avrobust."""
    model: Model = (lambda x: problem.net(x)) if opaque else problem.net
    attacks = [ONE_STEP, *(replace(attack, stop=stop) for attack in (TEN_STEPS, MOMENTUM))]
    rows = evaluate(model, split(problem, batch), attacks, TABLE1, precision=precision)
    return [int(cell.column("correct").sum()) for cell in rows.cells()]


def split(problem: Problem, batch: int) -> list[Batch]:
    """The clips in batches, with ids."""
    ids = [str(i) for i in range(len(problem.y))]
    cuts = range(0, len(ids), batch)
    return [Batch(problem.x.map(lambda s, i=i: s[i : i + batch]), problem.y[i : i + batch], tuple(ids[i : i + batch])) for i in cuts]  # fmt: skip


OURS: dict[str, Callable[[Problem, int], Correct]] = {
    "any callable": partial(by_us, "float32", True, True),
    "every clip": partial(by_us, "float32", False, False),
    "engine, bfloat16": partial(by_us, "bfloat16", True, False),
    "engine": partial(by_us, "float32", True, False),
}
METHODS = {name: partial(by_library, method) for name, method in PEERS.items()} | OURS


def table(method: str, batch: int, state: State) -> dict[str, Any]:
    """The figures of one method."""
    spent, correct = seconds(lambda: METHODS[method](state.problem, batch), 1)
    return {
        "seconds": spent,
        "clips_per_s": len(state.problem.y) / spent,
        "memory_mb": state.extra_mb(),
        "correct": correct,
    }


def shown(row: dict[str, Any]) -> str:
    """One line of the printed table."""
    if "failed" in row:
        return f"  {row['method']:<18}{row['failed']}"
    return f"  {row['method']:<18}{row['seconds']:>9.1f}{ratio(row['faster'])}{megabytes(row)}   " + " ".join(
        f"{n:>4}" for n in row["correct"]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS))
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    here = available(device())
    methods = args.methods or [name for name in METHODS if name in here or name == "every clip"]
    print(
        f"Table 1, {args.clips} clips ({args.size}), batch {args.batch}; correct: clean, then FGSM, PGD-10, MIM-10 on A, V, AV each"
    )
    print(f"  {'':<18}  seconds  ratio  peak MB  ratio   correct", flush=True)
    rows = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        Problem.make(*SIZES[args.size], args.clips).save(file)
        for method in methods:  # one at a time: long runs, and all clips in each
            known = method if method in WARM else "engine"
            process = Process(file, partial(warm_up, known))
            rows.append({"method": method} | process(partial(table, method, args.batch)))
            process.end()
    rows = with_ratios(rows)
    print("\n".join(map(shown, rows)))
    asked = {"size": args.size, "clips": args.clips, "batch": args.batch, "methods": methods}
    write(args.out / f"table1-{args.size}-{args.clips}.json", "table1", asked, rows)


if __name__ == "__main__":
    main()
