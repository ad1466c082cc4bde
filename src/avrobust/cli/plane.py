"""`avrobust plane`."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from avrobust.cli.options import attack, parse
from avrobust.cli.subject import SubjectOptions, new
from avrobust.evaluation.budget_grid import Plane, Pool, frontiers
from avrobust.evaluation.evaluator import label
from avrobust.progress import track_progress
from avrobust.report import budget_grid as report
from avrobust.study.record import code, world

ABOUT = """Attack a model at every pair of budgets for sound and picture, and find each clip's smallest joint budget.

A clip that falls falls at every larger budget too, so the whole plane costs a few cells. Writes one page, and the rows
behind it beside it as Parquet: a line for each clip and budget, with how the answer is known. Given such rows instead
of a model, it writes the page again.

example:
  avrobust plane models/mine/net.safetensors --data my_clips/ --audio 0.012 --visual "0.048 normalised" --out plane.html
"""


@dataclass(frozen=True, kw_only=True)
class Options(SubjectOptions):
    model: tyro.conf.Positional[str]
    """A checkpoint, a folder of the published code's, module:name, or the rows of an earlier plane."""
    out: Path
    """The page to write; its rows go beside it, as .parquet."""
    levels: int = 8
    """Equal steps of each budget, which --audio and --visual end at."""
    step_db: float = 1.0
    """How exactly each clip's smallest joint budget is found, in dB."""
    floor_db: float = 40.0
    """How far below the largest budgets it is looked for, in dB."""
    attack: str = "PGD-10"
    """FGSM, PGD-40, PGD-40x5 (steps, restarts), MIM-10, APGD-50, Square-1000, AVAutoAttack, or module:name."""


def main(argv: Sequence[str]) -> None:
    """Parse, attack, write rows and page, print the plane."""
    options = parse(Options, argv, "plane", ABOUT)
    new(options.out)
    rows = Path(options.model)
    if rows.suffix != ".parquet":
        rows = new(options.out.with_suffix(".parquet"))
        measure(options, rows, f"avrobust plane {shlex.join(argv)}")
    report.write(rows, options.out)
    print(report.summary(report.Surface.read(rows)))
    print(f"\nThe page: {options.out}")


def measure(options: Options, rows: Path, command: str) -> None:
    """Every clip under every budget, to a file of rows."""
    threat = options.threat()
    plane = Plane(threat, options.levels, options.floor_db, options.step_db)
    search = attack(options.attack)
    model, clips, store, device = options.open()
    start = time.perf_counter()
    pool = Pool(model, clips, name=options.model)
    threats = (*plane.cells, *plane.ladder)
    with track_progress("answers", len(pool) * len(set(threats)), count=False) as advance:
        found = frontiers(pool, search, threats, seed=options.seed, advance=advance)
    readable, listed = store.counts(options.on)
    about = {
        "model": options.model, "attack": label(search), "threat": str(threat), "levels": plane.levels,
        "step_db": plane.step_db, "floor_db": plane.floor_db, "seed": options.seed, "data": store.name,
        "listed": listed, "unread": listed - readable, "prepared": str(store.path),
        "seconds": time.perf_counter() - start, "command": command, "rows": rows.name, "page": options.out.name,
        "code": code(), "world": world(device),
    }  # fmt: skip
    found.save(rows, about)
