"""`avrobust grid`."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avrobust.cli.model import EvaluationOptions, new
from avrobust.cli.options import ATTACK_HELP, attack, parse
from avrobust.evaluation.budget_grid import BudgetGrid, evaluate_budgets
from avrobust.evaluation.evaluator import Evaluator
from avrobust.extras import needs
from avrobust.objectives import display_name
from avrobust.progress import track_progress
from avrobust.study.record import code, world

with needs("report"):
    from avrobust.report import budget_grid, budget_grid_page

ABOUT = """Attack a model at every pair of audio and visual budgets, and find the smallest joint budget that fools each clip.

example:
  avrobust grid models/mine/net.safetensors --data my_clips/ --audio 0.012 --visual "0.048 normalised" --out grid.html

--audio and --visual are the largest budgets. A clip that is fooled within some budgets is fooled within all larger
ones, so the whole grid costs as much as a few attacks. The command writes a page, and beside it a Parquet file with one
row per clip and pair of budgets. Give this file instead of MODEL to draw the page again.
"""


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Checkpoint, folder of weights that the paper's code wrote, module:name, or the rows of an earlier grid."""
    out: Path
    """Page to write; the rows go beside it, as .parquet."""
    attack: Annotated[str, tyro.conf.arg(help=ATTACK_HELP)] = "PGD-10"
    levels: int = 8
    """Number of equal steps from 0 to the largest budget, for each modality."""
    step_db: float = 1.0
    """Precision of each clip's smallest joint budget, in dB."""
    floor_db: float = 40.0
    """Smallest joint budget that is tried, in dB below the largest."""


def main(argv: Sequence[str]) -> None:
    """Parse, attack, write the rows and the page, print the grid."""
    options = parse(Options, argv, "grid", ABOUT)
    new(options.out)
    rows = Path(options.model)
    if rows.suffix != ".parquet":
        rows = new(options.out.with_suffix(".parquet"))
        measure(options, rows, f"avrobust grid {shlex.join(argv)}")
    budget_grid_page.write(rows, options.out)
    print(budget_grid.summary(budget_grid.GridResult.read(rows)))
    print(f"\nThe page: {options.out}")


def measure(options: Options, rows: Path, command: str) -> None:
    """Attack every clip within every pair of budgets and write the rows."""
    threat = options.threat()
    grid = BudgetGrid(threat, options.levels, options.floor_db, options.step_db)
    search = attack(options.attack)
    given, run = options.open(), options.run
    store = given.store
    start = time.perf_counter()
    evaluator = Evaluator(given.model, given.clips, name=options.model)
    threats = (*grid.cells, *grid.ladder)
    with track_progress("answers", len(evaluator) * len(set(threats)), count=False) as advance:
        found = evaluate_budgets(evaluator, search, threats, seed=run.seed, advance=advance)
    readable, listed = store.counts(run.on)
    about = {
        "model": options.model, "attack": display_name(search), "threat": str(threat), "levels": grid.levels,
        "step_db": grid.step_db, "floor_db": grid.floor_db, "seed": run.seed, "data": store.name,
        "listed": listed, "unread": listed - readable, "prepared": str(store.path),
        "seconds": time.perf_counter() - start, "command": command, "rows": rows.name, "page": options.out.name,
        "code": code(), "world": world(given.device), "evaluated": evaluator.about,
    }  # fmt: skip
    found.save(rows, about)
