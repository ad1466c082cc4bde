"""Every model under the same attacks: undefended, unimodal, and with each defense."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, avg_all, avg_attacked, bootstrap, relative_improvement
from avrobust.report.formatting import MODEL, joined, named
from avrobust.report.paper import Row, same_budgets
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.report.section import Section
from avrobust.report.tables import Cell, average, cell, heading

Columns = dict[str, Predictions | None]  # clean, A, V, AV


@dataclass(frozen=True)
class ModelRow:
    """One model of several, all under one attack."""

    model: str
    about: str  # what distinguishes it
    cells: dict[str, Cell]  # clean, A, V, AV, Avg, and "Avg with clean"
    ri: Estimate  # against the first row, in fractions
    printed_ri: float | None = None


@dataclass(frozen=True)
class ModelTable:
    """Several models under one attack at one set of budgets."""

    attack: str
    heading: str
    level: Level
    rows: tuple[ModelRow, ...]


def defense_tables(run: Run) -> list[ModelTable]:
    """No defense, the unimodal models, and every defense; empty where there is one audio-visual model only."""
    base = run.model("AV")
    others = [m for m in run.defenses if m != base]
    if base is None or not others:
        return []
    models = [base, *(m for kind in ("A", "V") if (m := run.model(kind))), *others]
    printed: dict[str, Row] = {}
    rows = dict(run.printed.defenses) if run.printed else {}
    for m in models:  # the first of a kind stands beside the paper's row
        about = run.about(m)
        if row := rows.pop((run.kind(m), about.loss or "cross_entropy", about.feature_defense or ""), None):
            printed[m] = row
    return model_tables(run, {m: _about(run, m) for m in models}, printed)


def _about(run: Run, model: str) -> str:
    """What distinguishes a model from the first audio-visual one."""
    about, kind = run.about(model), run.kind(model)
    if model == run.model("AV") or kind != "AV":
        return f"{MODEL[kind]}, undefended" if about.undefended and model == run.model("AV") else MODEL[kind]
    loss = named("loss", (about.loss or "") if about.loss != "cross_entropy" else "")
    return joined(loss, named("feature defense", about.feature_defense), named("fine-tuned from", about.start))


def model_tables(run: Run, models: Mapping[str, str], printed: Mapping[str, Row]) -> list[ModelTable]:
    """A table per set of budgets and attack that at least two audio-visual models, the first among them, met."""
    found: list[ModelTable] = []
    if len(models) < 2:
        return found
    first = next(iter(models))
    for level in run.defense_levels:
        same = run.paper is not None and same_budgets(level, run.paper.eps_defense)
        for attack, info in run.infos.items():
            columns = {m: _columns(run, m, attack, level) for m in models}
            met = {m: c for m, c in columns.items() if all(p is not None for p in c.values())}
            if first not in met or sum(run.kind(m) == "AV" for m in met) < 2:
                continue
            # What papers print of defenses is FGSM.
            theirs = printed if same and info.plain and info.single_step and run.modes[attack] == "corrected" else {}
            rows = (_model_row(m, models[m], c, met[first], theirs.get(m)) for m, c in met.items())
            found.append(ModelTable(attack, heading(run, level, defenses=True), level, tuple(rows)))
    return found


def _model_row(model: str, about: str, own: Columns, base: Columns, row: Row | None) -> ModelRow:
    printed = {"clean": row.clean, "A": row.a, "V": row.v, "AV": row.av} if row else {}
    cells = {s: cell(p, printed.get(s)) for s, p in own.items()}
    cells["Avg"] = Cell(average(own), avg_attacked(row.a, row.v, row.av) if row else None)
    every = avg_all(row.clean, row.a, row.v, row.av) if row else None
    cells["Avg with clean"] = Cell(average(own, clean=True), every)
    ri = MISSING
    if own is not base:
        same = shared(*(p for p in [*own.values(), *base.values()] if p is not None))
        ri = bootstrap(np.stack([p["correct"] for p in same], axis=2), _ri)
    return ModelRow(model, about, cells, ri, row.ri if row and np.isfinite(row.ri) else None)


def _columns(run: Run, model: str, attack: str, level: Level) -> Columns:
    """Clean, A, V, AV.  An attack on a modality that a unimodal model does not use leaves it as it is."""
    kind = run.kind(model)
    found: Columns = {"clean": run.clean(model)}
    for subset in SUBSETS:
        met = "".join(letter for letter in subset if letter in kind)
        budget = level.get(subset)
        found[subset] = (
            None if budget is None else run.attacked(model, attack, met, budget) if met else run.clean(model)
        )
    return found


def _ri(clean: Any, a: Any, v: Any, av: Any, base_clean: Any, base_a: Any, base_v: Any, base_av: Any) -> Any:
    return relative_improvement(clean, avg_attacked(a, v, av), base_clean, avg_attacked(base_a, base_v, base_av))


def data(run: Run) -> Mapping[str, Any] | None:
    found = defense_tables(run)
    memories = {name: m.memory for name, m in run.record.models.items() if m.memory}
    return {"tables": found, "memories": memories} if found else None


SECTION = Section("defenses", "Models and defenses", data)
