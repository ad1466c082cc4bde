"""What does an attack cost?  Our engine beside torchattacks, foolbox, ART and a plain loop, in one run.

    .venv/bin/python benchmarks/attacks.py                     # the quick study's inputs: minutes on two cores
    .venv/bin/python benchmarks/attacks.py --size paper        # 224 x 224 and 65,535 samples, batch 8 and 32, PGD-100 too
    .venv/bin/python benchmarks/attacks.py --size paper --batch 32 --attacks PGD-10 --on AV

All ways (`ways.py`) attack the same clips, weights and budgets from the same start, with the same number and length of
steps; each in a process of its own, in turn.  Absolute speeds belong to the machine; what counts are the ratios within
one run, with the loss that was reached (judged by the network itself, in float32) and the clips that still stand beside
them: a fast weak attack does not count.  Memory is what is held at the peak beside the network, the clips and the
libraries.  Each figure is the median of some runs after a short warm-up: two steps on the same batch.
"""

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measure import RUNS, Here, Process, compared, device, megabytes, ratio, seconds, write
from ways import SIZES, WAYS, Problem, Search, usual

from avrobust import cross_entropy
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.types import Output

THREATS = {threat.subset: threat for threat in TABLE1}
# What ends in minutes on two cores, and the whole of it.
USUAL: dict[str, dict[str, Any]] = {
    "quick": {"batch": [8], "attacks": ["PGD-10", "MIM-10"], "repeats": 3},
    "paper": {"batch": [8, 32], "attacks": ["PGD-10", "MIM-10", "PGD-100"], "repeats": 1},
}


def once(way: str, problem: Problem) -> None:
    """A small attack, so that what a way always needs is there."""
    few = problem.first(2)
    WAYS[way](few.net, Search("PGD", 2), few.x, few.y, THREATS["AV"])


def attack(name: str, subset: str, batch: int, repeats: int, way: str, here: Here) -> dict[str, Any]:
    """One way's figures for one attack on one batch."""
    p, search, threat = here.problem.first(batch), Search.parse(name), THREATS[subset]
    WAYS[way](p.net, Search(search.kind, min(2, search.steps)), p.x, p.y, threat)
    spent, adversarial = seconds(lambda: WAYS[way](p.net, search, p.x, p.y, threat), repeats)
    held = here.above()
    with torch.no_grad():
        standing = int((p.net(adversarial).argmax(1) == p.y).sum())
        loss = float(cross_entropy.value(Output(p.net(adversarial)), p.y).mean())
    return {"seconds": spent, "clips_per_s": batch / spent, "memory_mb": held, "loss": loss, "standing": standing}


def shown(row: dict[str, Any], clips: int) -> str:
    """A line of the printed table."""
    if "failed" in row:
        return f"  {row['way']:<18}{row['failed']}"
    start = f"  {row['way']:<18}{row['clips_per_s']:>9.2f}{ratio(row['faster'])}{megabytes(row)}"
    return f"{start}{row['loss']:>9.3f}{row['standing']:>6} of {clips}"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size", choices=list(SIZES), default="quick")
    words.add_argument("--batch", type=int, nargs="+", help="clips at a time")
    words.add_argument("--attacks", nargs="+", help="PGD-<steps>, MIM-<steps>, FGSM")
    words.add_argument("--on", nargs="+", default=list(THREATS), choices=list(THREATS))
    words.add_argument("--ways", nargs="+", default=usual(device()), choices=list(WAYS))
    words.add_argument("--repeats", type=int)
    words.add_argument("--out", type=Path, default=RUNS)
    given = words.parse_args()
    batches, attacks, repeats = (getattr(given, k) or USUAL[given.size][k] for k in ("batch", "attacks", "repeats"))
    with TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        Problem.make(*SIZES[given.size], max(batches)).save(file)
        ways = {name: Process(file, partial(once, name)) for name in given.ways}
        for batch in batches:
            for name in attacks:
                rows: list[dict[str, Any]] = []
                for subset in given.on:
                    print(
                        f"{name} on {subset}, batch {batch:<6}clips/s  ratio  peak MB  ratio     loss  standing",
                        flush=True,
                    )
                    task = partial(attack, name, subset, batch, repeats)
                    found = [{"way": way, "on": subset} | process(partial(task, way)) for way, process in ways.items()]
                    rows += (found := compared(found))
                    print("\n".join(shown(row, batch) for row in found), flush=True)
                asked = {"size": given.size, "batch": batch, "attack": name, "repeats": repeats}
                write(given.out / f"attacks-{given.size}-{batch}-{name}.json", "attacks", asked, rows)
        for process in ways.values():
            process.end()


if __name__ == "__main__":
    main()
