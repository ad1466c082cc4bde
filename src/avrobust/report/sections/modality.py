"""Clean and robust accuracy of the audio-only, the visual-only and the audio-visual model: what the page says first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate
from avrobust.report import formatting
from avrobust.report.formatting import ATTACKED, MODEL, listing
from avrobust.report.measured import accuracy, clips_differ, success
from avrobust.report.run import Level, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Table, share, table


@dataclass(frozen=True)
class Row:
    """One model: clean accuracy, and by attacked subset the worst case over `attacks`.

    A unimodal model is `untouched` where its modality is not attacked: its clean accuracy on the clips that were.
    """

    model: str
    kind: str
    clean: Estimate
    attacked: Mapping[str, Estimate]
    untouched: frozenset[str]
    attacks: tuple[str, ...]


def level(run: Run) -> Level:
    """The budgets of the table: the last, largest ones."""
    return run.levels[-1] if run.levels else {}


def rows(run: Run) -> list[Row]:
    """The models that stand for their kinds, the audio-visual one last."""
    kinds = [kind for kind in ("A", "V", "AV") if run.model(kind)]
    return [_row(run, model, kind) for kind in kinds if (model := run.model(kind))]


def subject(run: Run) -> Row | None:
    """The row of the model that the tables of attacks are about."""
    return next((row for row in rows(run) if row.model == run.subject), None)


def _row(run: Run, model: str, kind: str) -> Row:
    budgets, clean, own = level(run), run.clean(model), run.worst_case_at(level(run))
    met = {s: s if model == run.subject else "".join(letter for letter in s if letter in kind) for s in budgets}
    wanted = [(model, letters, budgets[s]) for s, letters in met.items() if letters]
    worst = dict(zip((s for s in budgets if met[s]), run.worst_case(wanted), strict=True))
    found = {s: accuracy(worst[s]) if met[s] else _same_clips(clean, own[s]) for s in budgets}
    untouched = frozenset(s for s in budgets if not met[s])
    return Row(model, kind, accuracy(clean), found, untouched, tuple(run.common_attacks(wanted)))


def _same_clips(clean: Predictions | None, attacked: Predictions | None) -> Estimate:
    return accuracy(shared(clean, attacked)[0]) if clean and attacked else MISSING


def by_modality(run: Run) -> Table:
    """The table of `rows`."""
    found, budgets = rows(run), level(run)
    printed = run.printed_clean
    body: list[Line] = [
        [
            Cell(MODEL[row.kind], () if row.model == row.kind else (row.model,)),
            share(row.clean, paper=printed.get(row.kind)),
            *(_cell(e, s in row.untouched) for s, e in row.attacked.items()),
        ]
        for row in found
    ]
    return table(
        "Clean and robust accuracy by modality",
        ["Model", "Clean", *(ATTACKED[s] for s in budgets)],
        body,
        above=formatting.budgets(budgets),
        below=_below(run, found),
    )


def _cell(e: Estimate, untouched: bool) -> Cell:
    cell = share(e, role="muted" if untouched else "strong")
    return replace(cell, small=(*cell.small, "not attacked")) if untouched and e.n else cell


def _below(run: Run, found: list[Row]) -> str:
    over: dict[tuple[str, ...], list[str]] = {}
    for row in found:
        if row.attacks:
            over.setdefault(row.attacks, []).append(MODEL[row.kind])
    juries = [f"{listing(a)}{f' ({listing(names)})' if len(over) > 1 else ''}" for a, names in over.items()]
    seeds = len(run.seeds)
    parts = [
        "Per cent of clips classified correctly, with count and 95 % interval"
        + (f"; means over {seeds} seeds, and intervals range over clips and seeds." if seeds > 1 else "."),
        f"Attacked: the worst case over {'; '.join(juries)}; a clip counts if the model withstands every attack."
        if juries
        else "",
        clips_differ(run),
    ]
    return " ".join(filter(None, parts))


def data(run: Run) -> Mapping[str, Any] | None:
    return {"table": by_modality(run)} if rows(run) else None


def by_task(run: Run) -> Table:
    """Of models that do not classify: the first number of their task on clean clips, and the attacker's success."""
    models = [c.model for c in run.table if c.subset == "clean" and not run.classes_of(c.model)]
    budgets = level(run)
    body: list[Line] = []
    for model in dict.fromkeys(models):
        clean = run.clean(model)
        name, number = next(iter(run.measured(model).numbers(clean, clean).items())) if clean else ("", MISSING)
        worst = run.worst_case([(model, s, b) for s, b in budgets.items()])
        cells = (share(success(p), role="strong") for p in worst)
        body.append([Cell(model, (MODEL[run.kind(model)],)), name, share(number), *cells])
    heads: list[str | Column] = [
        "Model",
        "Measure",
        "Clean",
        *(Column(ATTACKED[s], "Attack success, %") for s in budgets),
    ]
    return table(
        "Clean metric and attack success",
        heads,
        body,
        above=formatting.budgets(budgets),
        below="Attack success: of the clips that are right when clean, the share that is wrong in the worst case over attacks.",
    )


def data_of_tasks(run: Run) -> Mapping[str, Any] | None:
    found = by_task(run)
    return {"table": found} if found.rows else None


SECTION = Section("modality", "Accuracy by modality", data, folds=False)
OF_OTHER_TASKS = Section("modality", "Clean metric and attack success", data_of_tasks, folds=False)
