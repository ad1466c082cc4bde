"""How much of its budget each attack used, measured on the adversarial clips themselves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avrobust.evaluation.flags import OVER_BUDGET
from avrobust.report import formatting, table
from avrobust.report.formatting import joined, listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.accuracy import AttackTable, attack_tables
from avrobust.report.table import Cell, Column, Line, Table

# What is measured: the modalities attacked, and the one that is looked at.
COLUMNS = {
    ("A", "audio"): "Audio attacked",
    ("V", "visual"): "Visual attacked",
    ("AV", "audio"): "Both attacked, audio",
    ("AV", "visual"): "Both attacked, visual",
}


@dataclass(frozen=True)
class Use:
    """Shares of one modality's budget that an attack used, over clips (1 is all of it); `outside`: the share of clips over budget."""

    mean: float
    most: float
    outside: float


def uses(run: Run, table: AttackTable) -> dict[str, dict[tuple[str, str], Use]]:
    """By attack, then by (subset, modality), on the subject of the run, at the budgets of one table."""
    found: dict[str, dict[tuple[str, str], Use]] = {row.attack: {} for row in table.rows}
    for attack, mine in found.items():
        for subset, modality in COLUMNS:
            budget = table.level.get(subset)
            p = run.attacked(run.subject, attack, subset, budget) if budget else None
            if p is not None and p["correct"].size:
                used = p[f"used_{modality}"]
                mine[subset, modality] = Use(used.mean(), used.max(), (used > OVER_BUDGET).mean())
    return found


def used(run: Run, found: AttackTable) -> Table:
    """Mean and largest share of the budget over clips."""
    heads: list[Column] = []
    body: list[Line] = []
    for name in COLUMNS.values():
        heads += [Column(head, name) for head in ("mean", "most")]
    for attack, mine in uses(run, found).items():
        cells = [cell for key in COLUMNS for cell in _cells(mine.get(key))]
        outside = max((u.outside for u in mine.values()), default=math.nan)
        body.append([attack, *cells, table.percentage(outside, role="over" if outside > 0 else "")])
    title = joined("Share of the budget used", found.heading.lower())
    return table.table(
        title, ["Attack", *heads, "Clips over budget, %, at most"], body, above=formatting.budgets(found.level)
    )


def _cells(use: Use | None) -> tuple[Cell, Cell]:
    if use is None:
        return table.DASH, table.DASH
    mean, most = (table.number(v, f"{v:.2f}", role="over" if v > OVER_BUDGET else "") for v in (use.mean, use.most))
    return mean, most


def data(run: Run) -> Mapping[str, Any] | None:
    found = attack_tables(run)
    if not found:
        return None
    over = [f"{row.attack} ({row.most:.2f} ×)" for row in found[0].rows if row.most > OVER_BUDGET]
    result = f"over budget: {listing(over)}" if over else "every attack kept its budget"
    return {"tables": [used(run, t) for t in found], "result": result}


SECTION = Section("budget_use", "Budget used by each attack", data)
