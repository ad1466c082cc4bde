"""The page's tables as values: every number with its count and interval, and the paper's beside it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Budget, Predictions, shared
from avrobust.evaluation.flags import OVER_BUDGET
from avrobust.evaluation.stats import (
    MISSING,
    Estimate,
    avg_all,
    avg_attacked,
    bootstrap,
    estimate,
    relative_improvement,
)
from avrobust.report.load import SUBSETS, Level, Run
from avrobust.report.paper import Row, same_budgets


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
    """Table 1, once per set of budgets; on the paper's data its numbers stand beside those at its own budgets."""
    printed = {row.name: row for row in run.printed.attacks} if run.printed else {}
    sound, picture = run.printed.unimodal if run.printed else (None, None)
    together = next((row.clean for row in printed.values()), None)
    clean = {
        s: Cell(right(run.clean(run.model(s))), theirs)
        for s, theirs in (("AV", together), ("A", sound), ("V", picture))
    }
    tables: list[AttackTable] = []
    shown: set[Budget] = set()
    for level in run.levels():
        # Its own budgets decide who is in a table: one that repeats another table's numbers only would say nothing.
        own = {s: b for s, b in level.items() if b not in shown}
        # Attacks with another loss than the usual one stand in the table of defenses.
        names = [
            a for a in run.modes if run.usual(a) and any(run.attacked(run.model("AV"), a, s, b) for s, b in own.items())
        ]
        same = run.beside is not None and same_budgets(level, run.beside.eps_attack)
        rows = tuple(_row(run, a, level, printed.get(run.method(a)) if same else None) for a in names)
        tables.append(AttackTable(level, clean, rows))
        shown |= set(level.values())
    return tables


def _row(run: Run, attack: str, level: Level, printed: Row | None) -> AttackRow:
    model = run.model("AV")
    answers = {s: run.attacked(model, attack, s, level[s]) for s in SUBSETS if s in level}
    theirs = {"A": printed.a, "V": printed.v, "AV": printed.av, "Avg": printed.avg} if printed else {}
    cells = {s: Cell(right(answers.get(s)), theirs.get(s)) for s in SUBSETS}
    cells["Avg"] = Cell(average(answers), theirs.get("Avg"))
    return AttackRow(attack, run.modes[attack], cells)


def right(answers: Predictions | None) -> Estimate:
    """Accuracy with its interval; missing stays missing."""
    return MISSING if answers is None else estimate(answers["correct"])


def average(answers: dict[str, Predictions | None]) -> Estimate:
    """`avg_attacked` over the clips that all three attacked conditions share."""
    found = [answers.get(s) for s in SUBSETS]
    if any(a is None for a in found):
        return MISSING
    same = shared(*(a for a in found if a is not None))
    return estimate(avg_attacked(*(a["correct"].astype(float) for a in same)))


def clips_differ(run: Run) -> str:
    """That clean columns are over other clips than attacked ones, as a sentence; nothing where they are the same."""
    model = run.model("AV")
    clean = run.clean(model)
    attacked = [set(a.clips) for c, a in run.table.items() if c.model == model and c.subset != "clean"]
    if clean is None or not attacked:
        return ""
    fewest = min(attacked, key=len)
    if len(fewest) >= len(clean.clips):
        return ""
    return (
        f"Columns are over different clips: clean ones over all {len(clean.clips)} test clips that can be read, attacked "
        f"ones over {len(fewest)} of them. Differences, means and RI are over the clips that both sides share."
    )


@dataclass(frozen=True)
class Tile:
    """One of the numbers at the top of the page, and the number it should be read against, on the same clips."""

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
        other = {"A": "V", "V": "A"}
        for s, answers in run.fooled(level).items():
            clean = run.clean(run.model(other[s])) if s in other else None
            both = shared(clean, answers) if clean and answers else None
            tiles.append(Tile(s, level[s], right(answers), other.get(s, ""), right(both[0]) if both else MISSING))
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
    """One model of several, all under one attack: a row of the paper's Table 2 or 3."""

    name: str  # as the paper calls it
    model: str
    cells: dict[str, Cell]  # clean, A, V, AV, Avg, and "Avg with clean"
    ri: Estimate  # against the first row, in fractions
    paper_ri: float | None = None


@dataclass(frozen=True)
class ModelTable:
    """Several models under one attack at one set of budgets."""

    attack: str
    level: Level
    rows: tuple[ModelRow, ...]


def fusion_tables(run: Run) -> list[ModelTable]:
    """Table 2: the fusions, under each attack that all of them met; empty where there is one fusion only."""
    printed = {row.name: row for row in run.printed.fusions} if run.printed else {}
    names = {m: FUSED.get(str(run.told(m).get("fusion")), m) for m in run.fusions()}
    return _model_tables(run, names, printed)


def defense_tables(run: Run) -> list[ModelTable]:
    """Table 3: no defense, one modality alone, and every defense; empty where there is no defense."""
    printed = {row.name: row for row in run.printed.defenses} if run.printed else {}
    base = run.model("AV")
    others = [m for m in run.defenses() if m != base]
    if base is None or not others:
        return []
    names = {base: "None"}
    names |= {m: f"Unimodal {kind}" for kind in ("A", "V") if (m := run.model(kind))}
    names |= {m: m.replace(f"{base}, ", "None, ") for m in others}
    return _model_tables(run, names, printed)


FUSED = {"concat": "Concat", "sum": "Sum", "film": "FiLM", "gated-sum": "Gated-Sum", "gated-concat": "Gated-Concat"}


def _model_tables(run: Run, names: dict[str, str], printed: dict[str, Row]) -> list[ModelTable]:
    """A table per set of budgets and attack that at least two audio-visual models met."""
    found: list[ModelTable] = []
    if len(names) < 2:
        return found
    first = next(iter(names))
    for level in run.defense_levels():
        same = run.beside is not None and same_budgets(level, run.beside.eps_defense)
        for attack in run.modes:
            columns = {m: _columns(run, m, attack, level) for m in names}
            met = {m: c for m, c in columns.items() if all(a is not None for a in c.values())}
            if first not in met or sum(run.kind(m) == "AV" for m in met) < 2:
                continue
            plain = run.method(attack) == "FGSM" and run.usual(attack) and run.modes[attack] == "corrected"
            theirs = printed if same and plain else {}
            rows = (_model_row(names[m], m, c, met[first], theirs.get(names[m])) for m, c in met.items())
            found.append(ModelTable(attack, level, tuple(rows)))
    return found


def _model_row(
    name: str,
    model: str,
    own: dict[str, Predictions | None],
    base: dict[str, Predictions | None],
    printed: Row | None,
) -> ModelRow:
    theirs = {"clean": printed.clean, "A": printed.a, "V": printed.v, "AV": printed.av} if printed else {}
    cells = {s: Cell(right(a), theirs.get(s)) for s, a in own.items()}
    mean, with_clean = average(own), average_with_clean(own)
    attacked = avg_attacked(printed.a, printed.v, printed.av) if printed else None
    cells["Avg"] = Cell(mean, attacked)
    every = avg_all(printed.clean, printed.a, printed.v, printed.av) if printed else None
    cells["Avg with clean"] = Cell(with_clean, every)
    ri = MISSING
    if own is not base:
        same = shared(*(a for a in [*own.values(), *base.values()] if a is not None))
        ri = bootstrap(np.stack([a["correct"] for a in same], axis=2), _ri)
    return ModelRow(name, model, cells, ri, printed.ri if printed and np.isfinite(printed.ri) else None)


def _columns(run: Run, model: str, attack: str, level: Level) -> dict[str, Predictions | None]:
    """Clean, A, V, AV.  A model of one modality does not notice attacks on the other."""
    kind = run.kind(model)
    found: dict[str, Predictions | None] = {"clean": run.clean(model)}
    for subset in SUBSETS:
        met = "".join(letter for letter in subset if letter in kind)
        budget = level.get(subset)
        found[subset] = (
            None if budget is None else run.attacked(model, attack, met, budget) if met else run.clean(model)
        )
    return found


def average_with_clean(answers: dict[str, Predictions | None]) -> Estimate:
    """`avg_all` over the clips that the clean and all three attacked conditions share."""
    found = [answers.get(s) for s in ("clean", *SUBSETS)]
    if any(a is None for a in found):
        return MISSING
    same = shared(*(a for a in found if a is not None))
    return estimate(avg_all(*(a["correct"].astype(float) for a in same)))


def _ri(clean: Any, a: Any, v: Any, av: Any, base_clean: Any, base_a: Any, base_v: Any, base_av: Any) -> Any:
    return relative_improvement(clean, avg_attacked(a, v, av), base_clean, avg_attacked(base_a, base_v, base_av))
