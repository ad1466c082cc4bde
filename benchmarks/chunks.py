"""How many clips should the network take at a time?  Gradient steps of the engine, by the number of clips in a chunk.

    .venv/bin/python benchmarks/chunks.py --size paper

On audio, visual and both, in each precision that is fast here.  The sizes take turns, and the shortest of several runs counts: with
one thread the time of that thread, so that other processes on the machine disturb little.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from measure import RUNS, clock, device, synchronise, write
from methods import SIZES, Problem

from avrobust import cross_entropy, engine
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.training.recipe import fast_bfloat16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="quick")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    here = device()
    problem = Problem.make(*SIZES[args.size], args.batch).to(here)
    x, y, rows = problem.x, problem.y, []
    numbers = sum(s[0].numel() for s in x)
    for precision in ("float32", "bfloat16") if fast_bfloat16(here) else ("float32",):
        craft = engine.surrogate(problem.net, x.map(lambda s: s[:1]), precision)
        assert isinstance(craft, engine.TwoStream)
        for threat in TABLE1:
            fixed, best = craft.fix_unattacked(x, threat), dict.fromkeys(args.chunks, float("inf"))
            for _ in range(args.repeats):
                for clips in args.chunks:
                    victim = replace(fixed, chunk_size=engine.ChunkSize(clips * numbers))
                    synchronise()
                    began = clock()
                    victim.value_and_grad(cross_entropy, x, y, threat)
                    synchronise()
                    best[clips] = min(best[clips], clock() - began)
            told: dict[str, Any] = {"precision": precision, "on": threat.subset}
            rows += [told | {"chunk": clips, "clips_per_s": args.batch / spent} for clips, spent in best.items()]
            print(f"{precision}, {threat.subset}:", end=" ")
            print(", ".join(f"{clips}: {args.batch / spent:.2f} clips/s" for clips, spent in best.items()), flush=True)
    asked = {"size": args.size, "batch": args.batch, "chunks": args.chunks, "repeats": args.repeats}
    write(args.out / f"chunks-{args.size}.json", "chunks", asked, rows, threads=torch.get_num_threads())


if __name__ == "__main__":
    main()
