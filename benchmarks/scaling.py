"""Does cost grow in proportion to the clips, and fall in proportion to the processes?

    .venv/bin/python benchmarks/scaling.py                 # ten minutes on two idle cores
    .venv/bin/python benchmarks/scaling.py --clips 100 400 --on here

The first table is one call of `evaluate` (clean, and PGD-10 on both modalities, the quick study's size) on more and more clips.  The second is a study of several networks, each trained for one epoch and attacked, on one process and on two, of this
machine and of a Ray cluster on it; its clips are prepared before.  "machine" is what two cores of this machine can do: the study on one process twice at
the same time, of which nothing is shared but caches and memory.  Real seconds: nothing else should run.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from measure import RUNS, clock, device, write
from methods import SIZES, Problem
from table1 import split

from avrobust import evaluate
from avrobust.papers.tian2021.budgets import TABLE1
from avrobust.study.machines import Machines
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.runner import run
from avrobust.study.shared import CLIP, NETWORK, ONE_STEP, TEN_STEPS, THREATS, VIEW
from avrobust.training.recipe import OURS

WHERE = {"here": None, "ray": "ray"}


def growing(clips: list[int], batch: int) -> list[dict[str, Any]]:
    """Seconds of an evaluation by its number of clips."""
    problem = Problem.make(*SIZES["quick"], max(clips)).to(device())
    evaluate(problem.net, split(problem.first(batch), batch), [ONE_STEP], TABLE1[2:])  # warm up
    rows = []
    for n in clips:
        few = split(problem.first(n), batch)
        began = clock()
        evaluate(problem.net, few, [TEN_STEPS], TABLE1[2:])
        spent = clock() - began
        rows.append({"clips": n, "seconds": spent, "ms_per_clip": 1000 * spent / n})
        print(f"{n:>6} clips {spent:>8.1f} s {1000 * spent / n:>8.2f} ms a clip", flush=True)
    return rows


def alone(study: Study, out: Path, clips: Path) -> None:
    """The study on one process of this machine."""
    run(study, out, data=clips, progress=False, machines=Machines(workers=1, cpus=1))


def ceiling(study: Study, folder: Path, clips: Path) -> float:
    """Seconds of the study on one process, twice at the same time."""
    began = perf_counter()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        for done in [processes.submit(alone, study, folder / f"alone-{i}", clips) for i in range(2)]:
            done.result()
    return perf_counter() - began


def sharing(where: list[str], networks: int, attacked: int) -> list[dict[str, Any]]:
    """Seconds of a study by the number of processes that share its networks."""
    names = tuple(f"AV {i + 1}" for i in range(networks))
    study = Study(
        name="scaling",
        question="Does cost fall in proportion to the processes?",
        title="Scaling",
        models=tuple(ModelConfig(name, NETWORK, replace(OURS, epochs=1)) for name in names),
        sweeps=(Sweep(names, (TEN_STEPS,), THREATS),),
        showcase=THREATS[2],
        clip=CLIP,
        view=VIEW,
        attacked=attacked,
    )
    rows = []
    with TemporaryDirectory() as folder:
        clips, few = Path(folder) / "data", replace(study, models=study.models[:1], sweeps=())
        run(few, Path(folder) / "clips", data=clips, progress=False, machines=Machines(workers=1))
        for place in where:
            for workers in (1, 2):
                began = perf_counter()
                run(
                    study, Path(folder) / f"{place}-{workers}", data=clips, progress=False,
                    machines=Machines(workers=workers, on=WHERE[place], cpus=1),
                )  # fmt: skip
                rows.append({"where": place, "processes": workers, "seconds": perf_counter() - began})
                one = next(r["seconds"] for r in rows if r["where"] == place)
                rows[-1]["faster"] = one / rows[-1]["seconds"]
                print(f"{place:<8}{workers} {rows[-1]['seconds']:>8.1f} s {rows[-1]['faster']:>6.2f} x", flush=True)
        half = ceiling(study, Path(folder), clips) / 2
        rows.append({"where": "machine", "processes": 2, "seconds": half, "faster": rows[0]["seconds"] / half})
        print(f"{'machine':<8}2 {half:>8.1f} s {rows[-1]['faster']:>6.2f} x", flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[100, 400, 1600])
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--on", nargs="+", default=list(WHERE), choices=WHERE)
    parser.add_argument("--networks", type=int, default=8)
    parser.add_argument("--attacked", type=int, default=240)
    parser.add_argument("--out", type=Path, default=RUNS)
    args = parser.parse_args()
    asked = {"batch": args.batch, "networks": args.networks, "attacked": args.attacked}
    rows = growing(args.clips, args.batch)
    write(
        args.out / f"scaling-{args.networks}-{args.attacked}.json",
        "scaling",
        asked,
        rows,
        shared=sharing(args.on, args.networks, args.attacked),
    )


if __name__ == "__main__":
    main()
