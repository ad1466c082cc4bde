"""What does an attack cost?  Our engine, torchattacks, foolbox, ART and a plain loop, in one run.

    .venv/bin/python benchmarks/attacks.py                     # the quick study's inputs: minutes on two cores
    .venv/bin/python benchmarks/attacks.py --size paper        # 224 x 224 and 65,535 samples, batch 8 and 32, PGD-100 too
    .venv/bin/python benchmarks/attacks.py --size paper --batch 32 --attacks PGD-10 --on AV

All methods (`methods.py`) attack the same clips, weights and budgets from the same start, with the same number and size of
steps.  Each has its own process, and they take turns.  Compare ratios within one run: absolute speeds depend on the machine.
The loss (of the model itself, in float32) and the number of clips that it still classifies correctly stand beside them, because
a fast weak attack is worthless.  Memory is the peak in addition to model, clips and libraries.  Each figure is the median of
several runs after a warm-up of two steps on the same batch.
"""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measure import RUNS, Process, State, device, megabytes, ratio, seconds, with_ratios, write
from methods import METHODS, SIZES, Problem, Search, available

from avrobust import cross_entropy
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.types import Output

THREATS = {threat.subset: threat for threat in TABLE1}
# Settings that take minutes on two cores, and the full ones.
DEFAULTS: dict[str, dict[str, Any]] = {
    "quick": {"batch": [8], "attacks": ["PGD-10", "MIM-10"], "repeats": 3},
    "paper": {"batch": [8, 32], "attacks": ["PGD-10", "MIM-10", "PGD-100"], "repeats": 1},
}


def warm_up(method: str, problem: Problem) -> None:
    """Run a small attack, so that a method's library is loaded before memory is measured."""
    few = problem.first(2)
    METHODS[method](few.net, Search("PGD", 2), few.x, few.y, THREATS["AV"])


def attack(name: str, subset: str, batch: int, repeats: int, method: str, state: State) -> dict[str, Any]:
    """One method's figures for one attack on one batch."""
    p, search, threat = state.problem.first(batch), Search.parse(name), THREATS[subset]
    METHODS[method](p.net, Search(search.kind, min(2, search.steps)), p.x, p.y, threat)
    spent, adversarial = seconds(lambda: METHODS[method](p.net, search, p.x, p.y, threat), repeats)
    held = state.extra_mb()
    with torch.no_grad():
        correct = int((p.net(adversarial).argmax(1) == p.y).sum())
        loss = float(cross_entropy.value(Output(p.net(adversarial)), p.y).mean())
    return {"seconds": spent, "clips_per_s": batch / spent, "memory_mb": held, "loss": loss, "correct": correct}


def shown(row: dict[str, Any], clips: int) -> str:
    """One line of the printed table."""
    if "failed" in row:
        return f"  {row['method']:<18}{row['failed']}"
    start = f"  {row['method']:<18}{row['clips_per_s']:>9.2f}{ratio(row['faster'])}{megabytes(row)}"
    return f"{start}{row['loss']:>9.3f}{row['correct']:>6} of {clips}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--batch", type=int, nargs="+", help="clips at a time")
    parser.add_argument("--attacks", nargs="+", help="PGD-<steps>, MIM-<steps>, FGSM")
    parser.add_argument("--on", nargs="+", default=list(THREATS), choices=list(THREATS))
    parser.add_argument("--methods", nargs="+", default=available(device()), choices=list(METHODS))
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    batches, attacks, repeats = (getattr(args, k) or DEFAULTS[args.size][k] for k in ("batch", "attacks", "repeats"))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        Problem.make(*SIZES[args.size], max(batches)).save(file)
        methods = {name: Process(file, partial(warm_up, name)) for name in args.methods}
        for batch in batches:
            for name in attacks:
                rows: list[dict[str, Any]] = []
                for subset in args.on:
                    print(
                        f"{name} on {subset}, batch {batch:<6}clips/s  ratio  peak MB  ratio     loss  correct",
                        flush=True,
                    )
                    task = partial(attack, name, subset, batch, repeats)
                    found = [
                        {"method": method, "on": subset} | process(partial(task, method))
                        for method, process in methods.items()
                    ]
                    rows += (found := with_ratios(found))
                    print("\n".join(shown(row, batch) for row in found), flush=True)
                asked = {"size": args.size, "batch": batch, "attack": name, "repeats": repeats}
                write(args.out / f"attacks-{args.size}-{batch}-{name}.json", "attacks", asked, rows)
        for process in methods.values():
            process.end()


if __name__ == "__main__":
    main()
