"""Which options of the engine save time here?  Joint gradient steps, one option added after another.

    .venv/bin/python benchmarks/engine_options.py                  # the quick study's size, batch 1 to 32
    .venv/bin/python benchmarks/engine_options.py --options engine torch.compile --batch 8

"frozen" is a step on the unchanged model, without gradients for weights.  "folded" folds BatchNorm into the
convolutions.  "engine" is the surrogate of attacks, which also uses channels-last layout.  "bfloat16" is the same in this
precision.  "in chunks" splits a batch by the engine's chunk size, as attacks do; the others take it in one piece.
"torch.compile" compiles the engine's encoders, and "CUDA graphs" replays them on a GPU.  `first_s` is the time of the first step, with
compilation.
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
from measure import RUNS, Process, State, device, reset_memory, seconds, write
from methods import SIZES, Problem

from avrobust import cross_entropy, engine
from avrobust.engine.folding import fold_batchnorm
from avrobust.models.network import AVNet
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.training.recipe import fast_bfloat16
from avrobust.types import Model, Signals

BOTH = TABLE1[-1]


def folded(net: AVNet, example: Signals) -> Model:
    """The model with folded BatchNorm, otherwise unchanged."""
    net = copy.deepcopy(net)
    fold_batchnorm(net, lambda x: list(net.embed(x)), example)
    return engine.as_victim(net, example)


def compiled(net: AVNet, example: Signals, mode: str = "default") -> Model:
    """The engine's surrogate with compiled encoders."""
    craft = engine.surrogate(net, example)
    assert isinstance(craft, engine.TwoStream)
    for encoder in craft.net.encoders:
        encoder.compile(mode=mode, dynamic=False)
    return craft


CHUNKS = ", in chunks"
OPTIONS: dict[str, Callable[[AVNet, Signals], Model]] = {
    "frozen": engine.as_victim,
    "folded": folded,
    "engine": engine.surrogate,
    "bfloat16": lambda net, example: engine.surrogate(net, example, "bfloat16"),
    f"engine{CHUNKS}": engine.surrogate,
    "torch.compile": compiled,
    "CUDA graphs": partial(compiled, mode="reduce-overhead"),
}


def available(here: torch.device) -> list[str]:
    """The options that make a difference on this device."""
    return [
        name
        for name in OPTIONS
        if (name != "bfloat16" or fast_bfloat16(here)) and (name != "CUDA graphs" or here.type == "cuda")
    ]


def small(problem: Problem) -> None:
    """Take one step on few clips, so that all libraries are loaded before memory is measured."""
    few = problem.first(2)
    engine.gradient(few.net, cross_entropy, few.x, few.y, BOTH)


def steps(option: str, batch: int, repeats: int, state: State) -> dict[str, Any]:
    """One option's figures for one batch size; only "in chunks" splits the batch."""
    option, chunks = option.removesuffix(CHUNKS), option.endswith(CHUNKS)
    p = state.problem.first(batch)
    craft = OPTIONS[option](p.net, p.x.map(lambda s: s[:1]))
    if isinstance(craft, engine.TwoStream) and not chunks:
        craft = replace(craft, chunk_size=engine.ChunkSize())
    step = partial(engine.gradient, craft, cross_entropy, p.x, p.y, BOTH)
    first, _ = seconds(step, 1)
    reset_memory()  # without the memory of building and compiling
    spent, _ = seconds(step, repeats)
    return {"first_s": first, "seconds": spent, "clips_per_s": batch / spent, "memory_mb": state.extra_mb()}


def shown(row: dict[str, Any]) -> str:
    """One line of the printed table."""
    start = f"{row['option']:<18}{row['batch']:>5}"
    if "failed" in row:
        return f"{start}  {row['failed']}"
    held = "–" if row["memory_mb"] is None else format(row["memory_mb"], ".0f")
    return f"{start}{row['clips_per_s']:>9.2f}{held:>9}{row['first_s']:>9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--options", nargs="+", choices=list(OPTIONS), default=available(device()))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    rows = []
    print(f"{'':<18}batch  clips/s  peak MB  first s")
    with TemporaryDirectory() as folder:
        file = Path(folder) / "problem.pt"
        Problem.make(*SIZES[args.size], max(args.batch)).save(file)
        for option in args.options:
            process = Process(file, small)
            for batch in args.batch:
                found = process(partial(steps, option, batch, args.repeats))
                rows.append({"option": option, "batch": batch} | found)
                print(shown(rows[-1]), flush=True)
            process.end()
    asked = {"size": args.size, "batch": args.batch, "options": args.options, "repeats": args.repeats}
    write(args.out / f"engine_options-{args.size}.json", "engine_options", asked, rows)


if __name__ == "__main__":
    main()
