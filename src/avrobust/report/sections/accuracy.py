"""Clean accuracy, and robust accuracy and attack success by attack and attacked modality."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from avrobust.facts import Budget
from avrobust.report.formatting import MODEL
from avrobust.report.paper import Row, same_budgets
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.report.section import Section
from avrobust.report.tables import Cell, accuracy, average, cell, heading


@dataclass(frozen=True)
class AttackRow:
    """One attack on the subject of the run; `most` is the largest share of a budget that it used on any clip."""

    attack: str
    cells: dict[str, Cell]  # A, V, AV, Avg
    most: float


@dataclass(frozen=True)
class AttackTable:
    """A row per attack, at one set of budgets."""

    level: Level
    heading: str
    rows: tuple[AttackRow, ...]


def clean_cells(run: Run) -> dict[str, Cell]:
    """Clean accuracy of the audio-visual, the audio-only and the visual-only model; of one model alone, its own."""
    printed: dict[str, float] = {}
    if run.printed:
        together = next(iter(run.printed.attacks.values())).clean
        printed = dict(zip(("AV", "A", "V"), (together, *run.printed.unimodal), strict=True))
    return {
        kind: Cell(accuracy(run.clean(run.model(kind))), printed.get(kind))
        for kind in MODEL
        if run.model(kind) or not run.alone
    }


def attack_tables(run: Run) -> list[AttackTable]:
    """A table per set of budgets; on the paper's data its numbers stand beside those at its own budgets."""
    tables: list[AttackTable] = []
    shown: set[Budget] = set()
    model = run.subject
    for level in run.levels:
        # Its own budgets decide who is in a table: one that repeats another table's numbers only would say nothing.
        own = {s: b for s, b in level.items() if b not in shown}
        names = [a for a in run.infos if any(run.attacked(model, a, s, b) for s, b in own.items())]
        rows = tuple(_row(run, attack, level) for attack in names)
        tables.append(AttackTable(level, heading(run, level), rows))
        shown |= set(level.values())
    return tables


def _row(run: Run, attack: str, level: Level) -> AttackRow:
    columns = {s: run.attacked(run.subject, attack, s, level[s]) for s in SUBSETS if s in level}
    row = _printed(run, attack, level)
    printed = {"A": row.a, "V": row.v, "AV": row.av} if row else {}
    cells = {s: cell(columns.get(s), printed.get(s)) for s in SUBSETS}
    cells["Avg"] = Cell(average(columns), row.avg if row else None)
    used = [p[f"used_{m}"] for p in columns.values() if p for m in ("audio", "visual")]
    return AttackRow(attack, cells, max((u.max() for u in used if u.size and u.max() == u.max()), default=0.0))


def _printed(run: Run, attack: str, level: Level) -> Row | None:
    if not (run.printed and run.paper and run.infos[attack].plain and same_budgets(level, run.paper.eps_attack)):
        return None
    return run.printed.attacks.get(run.infos[attack].family)


def data(run: Run) -> Mapping[str, Any]:
    clean = {MODEL[kind]: c for kind, c in clean_cells(run).items()}
    return {"clean": clean, "tables": attack_tables(run), "subject": MODEL[run.kind(run.subject or "")]}


SECTION = Section("accuracy", "Clean and robust accuracy", data)
