"""`avrobust grid`."""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from avrobust.cli.answer import Answer
from avrobust.cli.model import EvaluationOptions
from avrobust.cli.options import ATTACK_HELP, attack, parse
from avrobust.cli.places import new_file
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
  avrobust grid models/mine/net.safetensors --data my_clips/ --audio 0.012 --visual "0.048 normalised" --html grid.html

--audio and --visual are the largest budgets. A clip that is fooled within some budgets is fooled within all larger
ones, so the whole grid costs as much as a few attacks. The command writes a page (--html), and beside it a Parquet file
with one row per clip and pair of budgets. Give this file instead of MODEL to draw the page again.
"""


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Checkpoint, folder of weights that the paper's code wrote, module:name, or the rows of an earlier grid."""
    attack: Annotated[str, tyro.conf.arg(help=ATTACK_HELP)] = "PGD-10"
    levels: int = 8
    """Number of equal steps from 0 to the largest budget, for each modality."""
    step_db: float = 1.0
    """Precision of each clip's smallest joint budget, in dB."""
    floor_db: float = 40.0
    """Smallest joint budget that is tried, in dB below the largest."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, attack, write the rows and the page; the answer is the grid."""
    options = parse(Options, argv, "grid", ABOUT)
    output, rows = options.output, Path(options.model)
    if output.html is None:
        raise ValueError("expected --html, the page to write, got none. Give a file: --html grid.html.")
    page = new_file(output.html, "--html")
    if rows.suffix != ".parquet":
        rows = new_file(page.with_suffix(".parquet"), "--html")
        measure(options, page, rows, f"avrobust grid {shlex.join(argv)}")
    budget_grid_page.write(rows, page)
    grid = budget_grid.GridResult.read(rows)
    status = int(output.strict and any(flag.level == "alarm" for flag in grid.flags))
    text = f"{budget_grid.summary(grid)}\n\nThe page: {page}"
    return Answer(text, _numbers(grid) | {"page": page, "rows": rows}, output.json, status)


def _numbers(grid: budget_grid.GridResult) -> dict[str, Any]:
    """The grid as plain data."""
    accuracy = [
        {"budget": p.condition.budget, "correct": int(p["correct"].sum()), "n": p["correct"].size}
        for row in grid.cells
        for p in row
    ]
    half = budget_grid.median(grid.smallest[grid.correct()])  # the share of both budgets that fools half of the clips
    return {"accuracy": accuracy, "fools_half": half, "flags": grid.flags}


def measure(options: Options, page: Path, rows: Path, command: str) -> None:
    """Attack every clip within every pair of budgets and write the rows."""
    threat = options.threat()
    grid = BudgetGrid(threat, options.levels, options.floor_db, options.step_db)
    search = attack(options.attack)
    given = options.open(options.load())
    store = given.store
    grid = replace(grid, threat=threat.at_rate(store.spec.rate))
    start = time.perf_counter()
    evaluator = Evaluator(given.model, given.clips, name=options.model, rate=store.spec.rate)
    threats = (*grid.cells, *grid.ladder)
    with track_progress("answers", len(evaluator) * len(set(threats)), count=False) as advance:
        found = evaluate_budgets(evaluator, search, threats, seed=options.seed, advance=advance)
    readable, listed = store.counts(given.split)
    about = {
        "model": options.model, "attack": display_name(search), "threat": str(threat), "levels": grid.levels,
        "step_db": grid.step_db, "floor_db": grid.floor_db, "seed": options.seed, "data": store.name,
        "listed": listed, "unread": listed - readable, "prepared": str(store.path),
        "seconds": time.perf_counter() - start, "command": command, "rows": rows.name, "page": page.name,
        "code": code(), "world": world(given.device), "evaluated": evaluator.about,
    }  # fmt: skip
    found.save(rows, about)
