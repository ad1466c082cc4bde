"""Every model under the same attacks: undefended, unimodal, and with each defense."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, avg_all, avg_attacked, bootstrap, relative_improvement
from avrobust.report import table
from avrobust.report.formatting import ATTACKED, MODEL, budgets, joined, listing, named
from avrobust.report.measured import Measured, average, heading, measure
from avrobust.report.paper import Row, same_budgets
from avrobust.report.record import Codes
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Number, Table, number, percentage

Columns = dict[str, Predictions | None]  # clean, A, V, AV


@dataclass(frozen=True)
class ModelRow:
    """One model of several, all under one attack."""

    model: str
    about: str  # what distinguishes it
    cells: dict[str, Measured]  # clean, A, V, AV, Avg, and "Avg with clean"
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


BASE = "RI is over {} clips, those that were attacked, and so is the clean accuracy in it; the clean accuracy shown is over {}."


def under_attack(found: ModelTable, last: Literal["RI", "Avg with clean"]) -> Table:
    """A row per model: clean accuracy, robust accuracy and attack success by what is attacked, and a last column."""
    pairs = [Column(name, ATTACKED[s]) for s in SUBSETS for name in ("robust accuracy", "attack success")]
    name = {"RI": "RI, points", "Avg with clean": "Mean with clean"}[last]
    body: list[Line] = []
    for i, row in enumerate(found.rows):
        own = [cell for s in SUBSETS for cell in (table.accuracy(row.cells[s]), table.share(row.cells[s].success))]
        end = table.accuracy(row.cells["Avg with clean"])
        if last == "RI":
            end = table.points(row.ri, paper=row.printed_ri) if i else Cell("0", (), Number(0.0))
        about = (row.about.replace("_", " "),) if row.about else ()
        body.append(
            [
                Cell(row.model, about),
                table.accuracy(row.cells["clean"]),
                *own,
                table.accuracy(row.cells["Avg"], role="strong"),
                end,
            ]
        )
    counts = [
        listing([str(n) for n in sorted({e.n for e in some if e.n})])
        for some in ([row.ri for row in found.rows], [row.cells["clean"].ours for row in found.rows])
    ]
    below = BASE.format(*counts) if last == "RI" and counts[0] != counts[1] else ""
    return table.table(
        joined(found.attack, found.heading.lower()), ["Model", "Clean accuracy", *pairs, "Mean robust accuracy", name], body,
        above=budgets(found.level), below=below,
    )  # fmt: skip


def _model_row(model: str, about: str, own: Columns, base: Columns, row: Row | None) -> ModelRow:
    printed = {"clean": row.clean, "A": row.a, "V": row.v, "AV": row.av} if row else {}
    cells = {s: measure(p, printed.get(s)) for s, p in own.items()}
    cells["Avg"] = Measured(average(own), avg_attacked(row.a, row.v, row.av) if row else None)
    every = avg_all(row.clean, row.a, row.v, row.av) if row else None
    cells["Avg with clean"] = Measured(average(own, clean=True), every)
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
    if not found:
        return None
    models = len(found[0].rows)
    return {
        "tables": [under_attack(t, "RI") for t in found], "codes": codes(memories) if memories else None,
        "result": f"{models} models under {listing([t.attack for t in found])}",
    }  # fmt: skip


def codes(memories: Mapping[str, Mapping[Any, Codes]]) -> Table:
    """How sparse the codes of the feature memories are: means over test clips."""
    body: list[Line] = [
        [
            name,
            modality,
            number(code.nonzero, f"{code.nonzero:.1f}"),
            percentage(code.residual),
            number(code.iterations, f"{code.iterations:.0f}"),
            number(code.gap, f"{code.gap:.1e}"),
        ]
        for name, memory in memories.items()
        for modality, code in memory.items()
    ]
    heads = ["Model", "Modality", "Nonzero coefficients", "Residual, % of the feature", "Iterations", "Duality gap"]
    below = "Means over test clips. A code without zero coefficients is not sparse."
    return table.table("Sparse codes of the feature memories", heads, body, below=below)


SECTION = Section("defenses", "Models and defenses", data)
