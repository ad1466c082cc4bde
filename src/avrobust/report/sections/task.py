"""What tasks other than one class per clip measure: mAP, AUC, errors, recall, by attack and attacked modality."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Condition
from avrobust.evaluation.measures import LabelRanking, Numbers
from avrobust.evaluation.stats import percent
from avrobust.report.formatting import ATTACKED, WHEN, at, listing
from avrobust.report.measured import success
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Line, Table, percentage, share, table

MOST = 12  # labels whose own average precision is shown


@dataclass(frozen=True)
class Row:
    """The clips under one condition: what was attacked, within which budget, and the numbers of the task."""

    attack: str
    attacked: str
    budget: str
    numbers: Numbers


@dataclass(frozen=True)
class Label:
    """A label's average precision on clean clips and under the attack of `TaskTable.worst`."""

    name: str
    clean: float
    attacked: float


@dataclass(frozen=True)
class TaskTable:
    """One model.  `names` are the numbers of its task, `notes` what they leave out, `labels` those that lose most."""

    model: str
    names: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    labels: tuple[Label, ...]
    worst: str


def tables(run: Run) -> list[TaskTable]:
    """A table for each model of another task than classification."""
    models = dict.fromkeys(c.model for c in run.table)
    return [_table(run, model) for model in models if not run.classes_of(model)]


def _table(run: Run, model: str) -> TaskTable:
    measures, order = run.measured(model), ["", *run.infos]

    def place(c: Condition) -> tuple[int, int, Condition]:
        clean = c.subset == "clean"
        return (0, 0, c) if clean else (order.index(c.attack), SUBSETS.index(c.subset), c)

    conditions = sorted((c for c in run.table if c.model == model), key=place)
    rows = tuple(
        Row(
            "none" if c.subset == "clean" else c.attack,
            ATTACKED[c.subset],
            "" if c.subset == "clean" else at(c.subset, c.budget),
            run.numbers[c],
        )
        for c in conditions
    )
    notes = dict.fromkeys(note for c in conditions for note in measures.notes(run.table[c]))
    labels, worst = _labels(run, model) if isinstance(measures, LabelRanking) else ((), "")
    return TaskTable(model, tuple(rows[0].numbers), rows, tuple(notes), labels, worst)


def _labels(run: Run, model: str) -> tuple[tuple[Label, ...], str]:
    """The labels that lose most average precision under the attack that lowers its mean most, and that attack."""
    measures, clean = run.measured(model), run.clean(model)
    attacked = [c for c in run.table if c.model == model and c.subset != "clean"]
    if not isinstance(measures, LabelRanking) or clean is None or not attacked:
        return (), ""
    found = {c: measures.per_label(run.table[c]) for c in attacked}
    worst = min(found, key=lambda c: np.nanmean(found[c]) if not np.isnan(found[c]).all() else np.inf)
    before, after = measures.per_label(clean), found[worst]
    names = run.record.data.classes if len(run.record.data.classes) == len(before) else range(len(before))
    lost = np.where(np.isnan(before - after), -np.inf, before - after)
    on = [int(k) for k in np.argsort(-lost, kind="stable")[:MOST] if np.isfinite(lost[k])]
    labels = tuple(Label(str(names[k]), float(before[k]), float(after[k])) for k in on)
    return labels, f"{worst.attack}, {at(worst.subset, worst.budget)}"


def sentence(run: Run) -> str:
    """What the first model's task measures on clean clips, and on how many of them the worst case over attacks succeeds."""
    clean = next((c for c in run.table if c.subset == "clean"), None)
    if clean is None:
        return ""
    name, number = next(iter(run.numbers[clean].items()))
    worst = run.worst_case_at(run.levels[-1]) if run.levels else {}
    parts = [f"{percent(e.value)} % {WHEN[s]}" for s, p in worst.items() if (e := success(p)).n]
    attacked = f" In the worst case over attacks, the attacker succeeds on {listing(parts)}." if parts else ""
    return f"{name} of {clean.model} on clean clips: {number}.{attacked}"


def measures(found: TaskTable) -> Table:
    """A row per condition, a column per number of the task: in per cent where it is a share."""
    heads = [f"{name}, %" if found.rows[0].numbers[name].share else name for name in found.names]
    body: list[Line] = [
        [r.attack, Cell(r.attacked, (r.budget,) if r.budget else ()), *(share(r.numbers[name]) for name in found.names)]
        for r in found.rows
    ]
    return table(f"Metrics of {found.model}", ["Attack", "Attacked", *heads], body, below=" ".join(found.notes))


def by_label(found: TaskTable) -> Table | None:
    """The labels that lose most average precision; None where that is not measured."""
    body: list[Line] = [(label.name, percentage(label.clean), percentage(label.attacked)) for label in found.labels]
    title = f"Labels of {found.model} that lose most average precision"
    return table(title, ["Label", "Clean", found.worst], body) if body else None


def data(run: Run) -> Mapping[str, Any] | None:
    found = tables(run)
    if not found:
        return None
    return {"tables": [(measures(t), by_label(t)) for t in found], "result": listing(found[0].names)}


SECTION = Section("task", "Metrics of the task", data)
