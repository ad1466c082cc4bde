"""Robust accuracy and attack success by attack and attacked modality."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avrobust.evaluation.flags import OVER_BUDGET
from avrobust.evaluation.stats import percent
from avrobust.facts import Budget
from avrobust.report import table
from avrobust.report.formatting import ATTACKED, MODEL, WHEN, budgets, joined
from avrobust.report.measured import Measured, average, heading, measure
from avrobust.report.paper import Row, same_budgets
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Table


@dataclass(frozen=True)
class AttackRow:
    """One attack on the subject of the run; `most` is the largest share of a budget that it used on any clip."""

    attack: str
    cells: dict[str, Measured]  # A, V, AV, Avg
    most: float


@dataclass(frozen=True)
class AttackTable:
    """A row per attack, at one set of budgets."""

    level: Level
    heading: str
    rows: tuple[AttackRow, ...]


def attack_tables(run: Run) -> list[AttackTable]:
    """A table per set of budgets at which the subject was attacked; on the paper's data its numbers stand beside those at its own budgets."""
    tables: list[AttackTable] = []
    shown: set[Budget] = set()
    model = run.subject
    for level in run.levels:
        # Its own budgets decide who is in a table: one that repeats another table's numbers only would say nothing.
        own = {s: b for s, b in level.items() if b not in shown}
        names = [a for a in run.infos if any(run.attacked(model, a, s, b) for s, b in own.items())]
        if rows := tuple(_row(run, attack, level) for attack in names):
            tables.append(AttackTable(level, heading(run, level), rows))
        shown |= set(level.values())
    return tables


def _row(run: Run, attack: str, level: Level) -> AttackRow:
    columns = {s: run.attacked(run.subject, attack, s, level[s]) for s in SUBSETS if s in level}
    row = _printed(run, attack, level)
    printed = {"A": row.a, "V": row.v, "AV": row.av} if row else {}
    cells = {s: measure(columns.get(s), printed.get(s)) for s in SUBSETS}
    cells["Avg"] = Measured(average(columns), row.avg if row else None)
    used = [p[f"used_{m}"] for p in columns.values() if p for m in ("audio", "visual")]
    return AttackRow(attack, cells, max((u.max() for u in used if u.size and u.max() == u.max()), default=0.0))


def _printed(run: Run, attack: str, level: Level) -> Row | None:
    if not (run.printed and run.paper and run.infos[attack].plain and same_budgets(level, run.paper.eps_attack)):
        return None
    return run.printed.attacks.get(run.infos[attack].family)


def by_attack(run: Run, found: AttackTable) -> Table:
    """Robust accuracy and attack success by attack and by what is attacked."""
    subsets = [s for s in SUBSETS if s in found.level]
    heads: list[str | Column] = [
        Column(name, ATTACKED[s]) for s in subsets for name in ("robust accuracy", "attack success")
    ]
    mean = ["Mean robust accuracy"] * (len(subsets) == len(SUBSETS))
    rows: list[Line] = []
    for row in found.rows:
        over = (f"up to {row.most:.2f} × its budget",) if row.most > OVER_BUDGET else ()
        pairs = ((table.accuracy(row.cells[s]), table.share(row.cells[s].success)) for s in subsets)
        cells = [cell for pair in pairs for cell in pair]
        rows.append([Cell(row.attack, over), *cells, *(table.accuracy(row.cells["Avg"], role="strong") for _ in mean)])
    title = joined("Robust accuracy", found.heading.lower())
    return table.table(title, ["Attack", *heads, *mean], rows, above=budgets(found.level))


def _result(found: list[AttackTable]) -> str:
    """What the attack with the lowest mean leaves, in one line."""
    rows = [row for row in found[-1].rows if row.most <= OVER_BUDGET]
    means = [(row.cells["Avg"].ours.value, "on average", row.attack) for row in rows if row.cells["Avg"].ours.n]
    single = [(row.cells[s].ours.value, WHEN[s], row.attack) for row in rows for s in SUBSETS if row.cells[s].ours.n]
    value, when, attack = min(means or single, default=(math.nan, "", ""))
    return f"{attack} leaves {percent(value)} % {when}" if attack else ""


def data(run: Run) -> Mapping[str, Any] | None:
    found = attack_tables(run)
    if not found:
        return None
    return {
        "tables": [by_attack(run, t) for t in found], "subject": MODEL[run.kind(run.subject or "")],
        "result": _result(found),
    }  # fmt: skip


SECTION = Section("accuracy", "Robust accuracy by attack", data)
