"""Which options of the engine save time here?  Joint gradient steps, one option added after another.

    .venv/bin/python benchmarks/engine_options.py                  # the quick study's size, batch 1 to 32
    .venv/bin/python benchmarks/engine_options.py --options engine torch.compile --batch 8

"frozen" is a step on the unchanged model, without gradients for weights.  "folded" folds BatchNorm into the
convolutions.  "engine" is the surrogate of attacks, which also uses channels-last layout.  "bfloat16" is the same in this
precision.  "in chunks" splits a batch by the engine's chunk size, as attacks do; the others take it in one piece.
"torch.compile" compiles the engine's encoders, and "CUDA graphs" replays them on a GPU, recorded at the size of the batch.
`build_s` is the time to make the option's model, the second time; `first_s` that of the first step, with compilation.
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
from avrobust.engine import folding
from avrobust.models.network import AVNet
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.training.recipe import fast_bfloat16
from avrobust.types import Model, Signals

BOTH = TABLE1[-1]


def folded(net: AVNet, x: Signals) -> Model:
    """The model with folded BatchNorm, otherwise unchanged."""
    net, example = copy.deepcopy(net), one(x)
    with torch.enable_grad():
        changes, _ = folding.candidates(net, lambda: net.embed(example), on_cpu=False)
    folding.apply(net, [change for change in changes if isinstance(change, folding.Fold)], lambda: True)
    return engine.as_victim(net, example)


def compiled(net: AVNet, x: Signals) -> Model:
    """The engine's surrogate with compiled encoders."""
    craft = engine.surrogate(net, one(x))
    for encoder in craft.parts:
        encoder.compile(dynamic=False)
    return craft


def recorded(net: AVNet, x: Signals) -> Model:
    """The engine's surrogate, its encoders recorded as CUDA graphs, forward and backward."""
    craft = engine.surrogate(net, one(x))
    for encoder, s in zip(craft.parts, x, strict=True):
        torch.cuda.make_graphed_callables(encoder, (s.clone().requires_grad_(),))
    return craft


def one(x: Signals) -> Signals:
    """The first clip."""
    return x.map(lambda s: s[:1])


CHUNKS = ", in chunks"
# From the network and the batch that is to be attacked.
OPTIONS: dict[str, Callable[[AVNet, Signals], Model]] = {
    "frozen": lambda net, x: engine.as_victim(net, one(x)),
    "folded": folded,
    "engine": lambda net, x: engine.surrogate(net, one(x)),
    "bfloat16": lambda net, x: engine.surrogate(net, one(x), "bfloat16"),
    f"engine{CHUNKS}": lambda net, x: engine.surrogate(net, one(x)),
    "torch.compile": compiled,
    "CUDA graphs": recorded,
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
    seconds(partial(OPTIONS[option], p.net, p.x), 1)
    build, craft = seconds(partial(OPTIONS[option], p.net, p.x), 1)
    if isinstance(craft, engine.TwoStream) and not chunks:
        craft = replace(craft, chunk_size=engine.ChunkSize())
    step = partial(engine.gradient, craft, cross_entropy, p.x, p.y, BOTH)
    first, _ = seconds(step, 1)
    reset_memory()  # without the memory of building and compiling
    spent, _ = seconds(step, repeats)
    return {
        "build_s": build,
        "first_s": first,
        "seconds": spent,
        "clips_per_s": batch / spent,
        "memory_mb": state.extra_mb(),
    }


def shown(row: dict[str, Any]) -> str:
    """One line of the printed table."""
    start = f"{row['option']:<18}{row['batch']:>5}"
    if "failed" in row:
        return f"{start}  {row['failed']}"
    held = "–" if row["memory_mb"] is None else format(row["memory_mb"], ".0f")
    return f"{start}{row['clips_per_s']:>9.2f}{held:>9}{row['build_s']:>9.3f}{row['first_s']:>9.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 8, 16, 32])
    parser.add_argument("--options", nargs="+", choices=list(OPTIONS), default=available(device()))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    rows = []
    print(f"{'':<18}batch  clips/s  peak MB  build s  first s")
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
