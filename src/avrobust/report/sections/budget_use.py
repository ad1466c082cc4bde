"""How much of its budget each attack used, measured on the adversarial clips themselves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.flags import OVER_BUDGET
from avrobust.report import formatting, table
from avrobust.report.formatting import joined, listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.accuracy import AttackTable, attack_tables
from avrobust.report.table import Cell, Column, Line, Table

# What is measured: the modalities attacked, the one that is looked at, and its distance to the clean signal.
COLUMNS = {
    ("A", "audio"): ("Audio attacked", "snr_db"),
    ("V", "visual"): ("Visual attacked", "psnr_db"),
    ("AV", "audio"): ("Both attacked, audio", "snr_db"),
    ("AV", "visual"): ("Both attacked, visual", "psnr_db"),
}


@dataclass(frozen=True)
class Use:
    """Shares of one modality's budget that an attack used, over clips (1 is all of it), and decibels.

    `db` is the median over clips of SNR for audio, of PSNR for video; `outside` the share of clips over budget.
    """

    mean: float
    most: float
    outside: float
    db: float


def uses(run: Run, table: AttackTable) -> dict[str, dict[tuple[str, str], Use]]:
    """By attack, then by (subset, modality), on the subject of the run, at the budgets of one table."""
    found: dict[str, dict[tuple[str, str], Use]] = {row.attack: {} for row in table.rows}
    for attack, mine in found.items():
        for (subset, modality), (_, db) in COLUMNS.items():
            budget = table.level.get(subset)
            p = run.attacked(run.subject, attack, subset, budget) if budget else None
            if p is not None and p["correct"].size:
                used = p[f"used_{modality}"]
                use = Use(used.mean(), used.max(), (used > OVER_BUDGET).mean(), float(np.median(p[db])))
                mine[subset, modality] = use
    return found


def used(run: Run, found: AttackTable) -> Table:
    """Mean and largest share of the budget over clips, and the median distance to the clean signal."""
    heads: list[Column] = []
    body: list[Line] = []
    for (_, modality), (name, _) in COLUMNS.items():
        decibels = "median SNR, dB" if modality == "audio" else "median PSNR, dB"
        heads += [Column(head, name) for head in ("mean", "most", decibels)]
    for attack, mine in uses(run, found).items():
        cells = [cell for key in COLUMNS for cell in _cells(mine.get(key))]
        outside = max((u.outside for u in mine.values()), default=math.nan)
        body.append([attack, *cells, table.percentage(outside, role="over" if outside > 0 else "")])
    title = joined("Share of the budget used", found.heading.lower())
    return table.table(
        title, ["Attack", *heads, "Clips over budget, %, at most"], body, above=formatting.budgets(found.level)
    )


def _cells(use: Use | None) -> tuple[Cell, Cell, Cell]:
    if use is None:
        return table.DASH, table.DASH, table.DASH
    mean, most = (table.number(v, f"{v:.2f}", role="over" if v > OVER_BUDGET else "") for v in (use.mean, use.most))
    return mean, most, table.number(use.db, formatting.decibel(use.db))


def data(run: Run) -> Mapping[str, Any] | None:
    found = attack_tables(run)
    if not found:
        return None
    over = [f"{row.attack} ({row.most:.2f} ×)" for row in found[0].rows if row.most > OVER_BUDGET]
    result = f"over budget: {listing(over)}" if over else "every attack kept its budget"
    return {"tables": [used(run, t) for t in found], "result": result}


SECTION = Section("budget_use", "Budget used by each attack", data)
