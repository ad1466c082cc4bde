"""How robust the models are to misalignment: a stream that is late or early, or of which a stretch is lost, in the worst case."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from avrobust.evaluation.conditions import Condition, Predictions
from avrobust.facts import ModalityBudget
from avrobust.report import table
from avrobust.report.measured import accuracy
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table

STREAM = {"A": "Audio", "V": "Video"}
DONE = {"delay": "delayed", "outage": "with an outage"}


def budget_in_time(c: Condition) -> ModalityBudget | None:
    """The budget in time of a condition; None for one of samples and pixels."""
    return next((b for b in (c.budget.audio, c.budget.visual) if b.in_time), None)


def tables(run: Run) -> list[Table]:
    """A table for each stream and what is done to it: rows are models and attacks, columns budgets."""
    found: dict[tuple[str, str, str], dict[tuple[str, str], dict[float, Predictions]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for c, p in run.table.items():
        if budget := budget_in_time(c):
            found[c.subset, budget.norm, budget.unit][c.model, c.attack][budget.eps] = p
    order, made = [*run.record.models], []
    for (subset, norm, unit), rows in found.items():
        sizes = sorted({size for by_size in rows.values() for size in by_size})
        body: list[Line] = [
            [
                model,
                attack,
                table.share(accuracy(run.clean(model))),
                *(table.share(accuracy(by_size.get(size))) for size in sizes),
            ]
            for (model, attack), by_size in sorted(
                rows.items(), key=lambda r: (order.index(r[0][0]) if r[0][0] in order else len(order), r[0])
            )
        ]
        heads = ["Model", "Attack", "Clean", *(f"{size:g} {unit}" for size in sizes)]
        title = f"{STREAM[subset]} {DONE[norm]}"
        made.append(table.table(title, heads, body, below="Accuracy at the worst of all delays or places that were tried, clip by clip."))  # fmt: skip
    return made


def data(run: Run) -> Mapping[str, Any] | None:
    mine = [c for c in run.table if c.model == run.subject and budget_in_time(c)]
    found = tables(run)
    if not found:
        return None
    result = ""
    if mine:
        worst = min(mine, key=lambda c: accuracy(run.table[c]).value)
        result = f"{budget_in_time(worst)} of {STREAM[worst.subset].lower()} leaves {accuracy(run.table[worst])}"
    return {"tables": found, "result": result}


SECTION = Section("timing", "Misalignment", data)
