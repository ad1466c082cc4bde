"""What does a whole table cost?  Table 1 of Tian & Xu 2021, as a user would run it, beside the same with each library.

    .venv/bin/python benchmarks/table1.py                   # 200 clips of the quick study's size
    .venv/bin/python benchmarks/table1.py --clips 40        # minutes on two cores
    .venv/bin/python benchmarks/table1.py --size paper

Clean predictions, then FGSM, PGD-10 (from a random start) and MIM-10 on sound, on picture and on both, at the paper's
budgets.  Ours is one call, `avrobust.evaluate`: it leaves a clip alone once the network is wrong on it, which is what a
table of accuracies needs, checks every budget, and measures every perturbation.  It is also run to the end on every
clip ("every clip"), and on the network as any callable.  The libraries get packed inputs and frozen weights (`ways.py`)
and do no more than the attack and the prediction.  One run each, nothing warmed up; each way in a process of its own.
The clips' margins go from a hundredth to ten (`Problem.make`), so that every attack takes some and leaves some; the more
an attack takes, the more is gained by leaving clips alone.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from attacks import once
from measure import RUNS, Here, Process, compared, device, megabytes, ratio, seconds, write
from ways import PEERS, SIZES, Problem, Search, Way, usual

from avrobust import AV, Batch, engine, evaluate
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.study.attacks import MOMENTUM, ONE_STEP, TEN_STEPS
from avrobust.types import Model

SEARCHES = (Search("FGSM"), Search("PGD", 10, random_start=True), Search("MIM", 10))
Standing = list[int]  # clips that the network gets right: clean, then under each attack on A, V, AV


def by_library(way: Way, problem: Problem, batch: int) -> Standing:
    """The loop that a user of a library writes."""
    net, batches = problem.net, split(problem, batch)

    @torch.no_grad()
    def right(b: Batch, x: AV[torch.Tensor]) -> int:
        return int((net(x).argmax(1) == b.label).sum())

    standing = [sum(right(b, b.x) for b in batches)]
    for search in SEARCHES:
        for threat in TABLE1:
            standing.append(sum(right(b, way(net, search, b.x, b.label, threat)) for b in batches))
    return standing


def by_us(precision: engine.Precision, stop: bool, opaque: bool, problem: Problem, batch: int) -> Standing:
    """The one call."""
    model: Model = (lambda x: problem.net(x)) if opaque else problem.net
    attacks = [ONE_STEP, *(replace(attack, stop=stop) for attack in (TEN_STEPS, MOMENTUM))]
    rows = evaluate(model, split(problem, batch), attacks, TABLE1, precision=precision)
    return [cell.accuracy().k for cell in rows.cells()]


def split(problem: Problem, batch: int) -> list[Batch]:
    """Clips in batches, each with its name."""
    ids = [str(i) for i in range(len(problem.y))]
    cuts = range(0, len(ids), batch)
    return [Batch(problem.x.map(lambda s, i=i: s[i : i + batch]), problem.y[i : i + batch], tuple(ids[i : i + batch])) for i in cuts]  # fmt: skip


OURS: dict[str, Callable[[Problem, int], Standing]] = {
    "any callable": partial(by_us, "float32", True, True),
    "every clip": partial(by_us, "float32", False, False),
    "engine, bfloat16": partial(by_us, "bfloat16", True, False),
    "engine": partial(by_us, "float32", True, False),
}
WAYS = {name: partial(by_library, way) for name, way in PEERS.items()} | OURS


def table(way: str, batch: int, here: Here) -> dict[str, Any]:
    """One way's figures."""
    spent, standing = seconds(lambda: WAYS[way](here.problem, batch), 1)
    return {
        "seconds": spent,
        "clips_per_s": len(here.problem.y) / spent,
        "memory_mb": here.above(),
        "standing": standing,
    }


def shown(row: dict[str, Any]) -> str:
    """A line of the printed table."""
    if "failed" in row:
        return f"  {row['way']:<18}{row['failed']}"
    return f"  {row['way']:<18}{row['seconds']:>9.1f}{ratio(row['faster'])}{megabytes(row)}   " + " ".join(
        f"{n:>4}" for n in row["standing"]
    )


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size", choices=list(SIZES), default="quick")
    words.add_argument("--clips", type=int, default=200)
    words.add_argument("--batch", type=int, default=32)
    words.add_argument("--ways", nargs="+", choices=list(WAYS))
    words.add_argument("--out", type=Path, default=RUNS)
    given = words.parse_args()
    there = usual(device())
    ways = given.ways or [name for name in WAYS if name in there or name == "every clip"]
    print(
        f"Table 1, {given.clips} clips ({given.size}), batch {given.batch}; standing: clean, then FGSM, PGD-10, MIM-10 on A, V, AV each"
    )
    print(f"  {'':<18}  seconds  ratio  peak MB  ratio   standing", flush=True)
    rows = []
    with TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        Problem.make(*SIZES[given.size], given.clips).save(file)
        for way in ways:  # one at a time: long runs, and all clips in each
            known = "engine" if way == "every clip" else way
            process = Process(file, partial(once, known))
            rows.append({"way": way} | process(partial(table, way, given.batch)))
            process.end()
    rows = compared(rows)
    print("\n".join(map(shown, rows)))
    asked = {"size": given.size, "clips": given.clips, "batch": given.batch, "ways": ways}
    write(given.out / f"table1-{given.size}-{given.clips}.json", "table1", asked, rows)


if __name__ == "__main__":
    main()
