"""The page's tables as values: every number with its count and interval, and the paper's beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.answers import Answers, Budget, shared
from avrobust.evaluation.flags import OVER_BUDGET
from avrobust.evaluation.metrics import (
    MISSING,
    Estimate,
    avg_attacked,
    bootstrap,
    estimate,
    relative_improvement,
)
from avrobust.report import paper
from avrobust.report.read import SUBSETS, Level, Run, method


@dataclass(frozen=True)
class Cell:
    """One number of a table; `paper` is the paper's, in per cent, None where it has none."""

    ours: Estimate
    paper: float | None = None


@dataclass(frozen=True)
class AttackRow:
    """One attack's row of Table 1."""

    attack: str
    mode: str
    cells: dict[str, Cell]  # A, V, AV, Avg


@dataclass(frozen=True)
class AttackTable:
    """Table 1 at one set of budgets: a row per attack, and what no attack touches."""

    level: Level
    clean: dict[str, Cell]  # AV, A, V
    rows: tuple[AttackRow, ...]


def attack_tables(run: Run) -> list[AttackTable]:
    """Table 1, once per set of budgets; the paper's numbers stand in the first."""
    printed = {row.name: row for row in paper.TABLE_1[benchmark(run)]}
    unimodal = paper.UNIMODAL[benchmark(run)]
    clean = {
        "AV": Cell(right(run.clean(run.model("AV"))), paper.TABLE_1[benchmark(run)][0].clean),
        "A": Cell(right(run.clean(run.model("A"))), unimodal[0]),
        "V": Cell(right(run.clean(run.model("V"))), unimodal[1]),
    }
    tables: list[AttackTable] = []
    shown: set[Budget] = set()
    for level in run.levels():
        # Its own budgets decide who is in a table: one that repeats another table's numbers only would say nothing.
        own = {s: b for s, b in level.items() if b not in shown}
        names = [a for a in run.modes if any(run.attacked(run.model("AV"), a, s, b) for s, b in own.items())]
        rows = tuple(_row(run, a, level, None if tables else printed.get(method(a))) for a in names)
        tables.append(AttackTable(level, clean, rows))
        shown |= set(level.values())
    return tables


def _row(run: Run, attack: str, level: Level, printed: paper.Row | None) -> AttackRow:
    model = run.model("AV")
    answers = {s: run.attacked(model, attack, s, level[s]) for s in SUBSETS if s in level}
    theirs = {"A": printed.a, "V": printed.v, "AV": printed.av, "Avg": printed.avg} if printed else {}
    cells = {s: Cell(right(answers.get(s)), theirs.get(s)) for s in SUBSETS}
    cells["Avg"] = Cell(average(answers), theirs.get("Avg"))
    return AttackRow(attack, run.modes[attack], cells)


def right(answers: Answers | None) -> Estimate:
    """Accuracy with its interval; missing stays missing."""
    return MISSING if answers is None else estimate(answers["correct"])


def average(answers: dict[str, Answers | None]) -> Estimate:
    """`avg_attacked` over the clips that all three attacked conditions share."""
    found = [answers.get(s) for s in SUBSETS]
    if any(a is None for a in found):
        return MISSING
    same = shared(*(a for a in found if a is not None))
    return estimate(avg_attacked(*(a["correct"].astype(float) for a in same)))


def benchmark(run: Run) -> str:
    """Which of the paper's two data sets stands beside the run's."""
    return "Kinetics-Sounds" if "kinetics" in str(run.data.get("name", "")).lower() else "MIT-MUSIC"


@dataclass(frozen=True)
class Tile:
    """One of the numbers at the top of the page, and the number it should be read against."""

    subset: str
    budget: Budget | None
    ours: Estimate
    against: str
    other: Estimate


def glance(run: Run) -> list[Tile]:
    """The pair clean, and in the worst case over attacks with sound, picture, both attacked."""
    levels = run.levels()
    model, sound, picture = (run.model(kind) for kind in ("AV", "A", "V"))
    alone = {"A": right(run.clean(sound)), "V": right(run.clean(picture))}
    better = "A" if alone["A"].value > alone["V"].value else "V"
    tiles = [Tile("clean", None, right(run.clean(model)), better, alone[better])]
    if levels:
        level = levels[-1]
        worst = run.worst([(model, s, b) for s, b in level.items()])
        other = {"A": "V", "V": "A"}
        for (s, b), answers in zip(level.items(), worst, strict=True):
            against = other.get(s, "")
            tiles.append(Tile(s, b, right(answers), against, alone.get(against, MISSING)))
    return tiles


@dataclass(frozen=True)
class Reach:
    """How far an attack went in one modality: shares of its budget over clips (1 is all of it), and decibels.

    `db` is the median over clips of SNR for sound, of PSNR for a picture; `outside` the share of clips beyond.
    """

    mean: float
    most: float
    outside: float
    db: float


def reaches(run: Run, table: AttackTable) -> dict[str, dict[tuple[str, str], Reach]]:
    """By attack, then by (subset, modality), on the audio-visual model, at the budgets of one table."""
    found: dict[str, dict[tuple[str, str], Reach]] = {}
    for row in table.rows:
        for subset, budget in table.level.items():
            a = run.attacked(run.model("AV"), row.attack, subset, budget)
            if a is None or not a["correct"].size:
                continue
            for modality, letter, db in (("audio", "A", "snr_db"), ("visual", "V", "psnr_db")):
                if letter in subset:
                    used = a[f"used_{modality}"]
                    reach = Reach(used.mean(), used.max(), (used > OVER_BUDGET).mean(), float(np.median(a[db])))
                    found.setdefault(row.attack, {})[subset, modality] = reach
    return found


@dataclass(frozen=True)
class ModelRow:
    """One audio-visual model of several, all under one attack: the shape of the paper's Tables 2 and 3."""

    model: str
    clean: Estimate
    cells: dict[str, Estimate]  # A, V, AV, Avg
    ri: Estimate  # against the first model


def model_table(run: Run, attack: str, level: Level) -> list[ModelRow]:
    """Every audio-visual model under one attack, with RI against the first; empty when there is one model only."""
    names = run.models("AV")
    if len(names) < 2:
        return []
    return [_model_row(run, name, names[0], attack, level) for name in names]


def _model_row(run: Run, name: str, base: str, attack: str, level: Level) -> ModelRow:
    columns = {m: _columns(run, m, attack, level) for m in (name, base)}
    answers = columns[name]
    cells = {s: right(answers.get(s)) for s in SUBSETS} | {"Avg": average(answers)}
    every = [*columns[name].values(), *columns[base].values()]
    ri = MISSING
    if name != base and len(every) == 8 and all(a is not None for a in every):
        same = shared(*(a for a in every if a is not None))
        ri = bootstrap(np.stack([a["correct"] for a in same], axis=2), _ri)
    return ModelRow(name, right(answers.get("clean")), cells, ri)


def _columns(run: Run, model: str, attack: str, level: Level) -> dict[str, Answers | None]:
    attacked = {s: run.attacked(model, attack, s, level[s]) for s in SUBSETS if s in level}
    return {"clean": run.clean(model)} | attacked


def _ri(clean: Any, a: Any, v: Any, av: Any, base_clean: Any, base_a: Any, base_v: Any, base_av: Any) -> Any:
    return relative_improvement(clean, avg_attacked(a, v, av), base_clean, avg_attacked(base_a, base_v, base_av))
