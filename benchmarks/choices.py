"""Which of the engine's choices pay here?  Gradient steps on both modalities, one saving after another.

    .venv/bin/python benchmarks/choices.py                  # the quick study's size, batch 1 to 32
    .venv/bin/python benchmarks/choices.py --choices engine torch.compile --batch 8

"frozen" is a step on the network as it is, without gradients for weights; "folded" has BatchNorm in the convolutions;
"engine" is what an attack uses, which is also laid out channels-last; "bfloat16" is the same in that precision;
"in pieces" takes no more of a batch at a time than the network has room for, as attacks do; the others take it whole;
"torch.compile" compiles the engine's encoders ("CUDA graphs" replays them too, on a GPU).  `first` is the first step,
compiling and all.
"""

import argparse
import copy
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from measure import RUNS, Here, Process, device, rest, seconds, write
from ways import SIZES, Problem

from avrobust import cross_entropy, engine
from avrobust.engine.folding import fold_batchnorm
from avrobust.models.network import AVNet
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.training.recipe import fast_bfloat16
from avrobust.types import Model, Signals

BOTH = TABLE1[-1]


def folded(net: AVNet, example: Signals) -> Model:
    """Without BatchNorm, and nothing else."""
    net = copy.deepcopy(net)
    fold_batchnorm(net, lambda x: list(net.embed(x)), example)
    return engine.as_victim(net, example)


def compiled(net: AVNet, example: Signals, mode: str = "default") -> Model:
    """The engine's own, its encoders compiled."""
    craft = engine.surrogate(net, example)
    assert isinstance(craft, engine.TwoStream)
    for encoder in craft.net.encoders:
        encoder.compile(mode=mode, dynamic=False)
    return craft


PIECES = ", in pieces"
CHOICES: dict[str, Callable[[AVNet, Signals], Model]] = {
    "frozen": engine.as_victim,
    "folded": folded,
    "engine": engine.surrogate,
    "bfloat16": lambda net, example: engine.surrogate(net, example, "bfloat16"),
    f"engine{PIECES}": engine.surrogate,
    "torch.compile": compiled,
    "CUDA graphs": partial(compiled, mode="reduce-overhead"),
}


def usual(here: torch.device) -> list[str]:
    """Those that differ here."""
    return [
        name
        for name in CHOICES
        if (name != "bfloat16" or fast_bfloat16(here)) and (name != "CUDA graphs" or here.type == "cuda")
    ]


def small(problem: Problem) -> None:
    """One step on few clips, so that what every choice needs is there."""
    few = problem.first(2)
    engine.gradient(few.net, cross_entropy, few.x, few.y, BOTH)


def steps(choice: str, batch: int, repeats: int, here: Here) -> dict[str, Any]:
    """One choice's figures for one batch size; the whole batch at once, unless the choice is to take it in pieces."""
    choice, pieces = choice.removesuffix(PIECES), choice.endswith(PIECES)
    p = here.problem.first(batch)
    craft = CHOICES[choice](p.net, p.x.map(lambda s: s[:1]))
    if isinstance(craft, engine.TwoStream) and not pieces:
        craft = replace(craft, chunk_size=engine.ChunkSize())
    step = partial(engine.gradient, craft, cross_entropy, p.x, p.y, BOTH)
    first, _ = seconds(step, 1)
    rest()  # of making and compiling; what a step holds is asked
    spent, _ = seconds(step, repeats)
    return {"first_s": first, "seconds": spent, "clips_per_s": batch / spent, "memory_mb": here.above()}


def shown(row: dict[str, Any]) -> str:
    """A line of the printed table."""
    start = f"{row['choice']:<18}{row['batch']:>5}"
    if "failed" in row:
        return f"{start}  {row['failed']}"
    held = "–" if row["memory_mb"] is None else format(row["memory_mb"], ".0f")
    return f"{start}{row['clips_per_s']:>9.2f}{held:>9}{row['first_s']:>9.1f}"


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--size", choices=list(SIZES), default="quick")
    words.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    words.add_argument("--choices", nargs="+", choices=list(CHOICES), default=usual(device()))
    words.add_argument("--repeats", type=int, default=3)
    words.add_argument("--out", type=Path, default=RUNS)
    given = words.parse_args()
    rows = []
    print(f"{'':<18}batch  clips/s  peak MB  first s")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        Problem.make(*SIZES[given.size], max(given.batch)).save(file)
        for choice in given.choices:
            process = Process(file, small)
            for batch in given.batch:
                found = process(partial(steps, choice, batch, given.repeats))
                rows.append({"choice": choice, "batch": batch} | found)
                print(shown(rows[-1]), flush=True)
            process.end()
    asked = {"size": given.size, "batch": given.batch, "choices": given.choices, "repeats": given.repeats}
    write(given.out / f"choices-{given.size}.json", "choices", asked, rows)


if __name__ == "__main__":
    main()
