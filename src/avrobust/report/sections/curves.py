"""Accuracy over budgets: the audio-visual model under attack, beside the unimodal models."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from avrobust.evaluation.conditions import Condition
from avrobust.evaluation.stats import Estimate, percent
from avrobust.facts import Budget
from avrobust.report import charts
from avrobust.report.figures import Figure
from avrobust.report.formatting import ATTACKED, MODEL, anchor, at, size
from avrobust.report.measured import accuracy
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section

CHANCE = "chance"
MODALITIES = {"A": "audio", "V": "video", "AV": "both modalities"}


@dataclass(frozen=True)
class Line:
    """One curve: places on the axis and what was measured there.  A `level` is one number, drawn across."""

    name: str
    role: str  # AV, A or V
    places: tuple[int, ...]
    values: tuple[Estimate, ...]
    level: bool = False


def curves(run: Run) -> dict[str, list[Figure]]:
    """By attack, its curves with audio, visual, both attacked: iterative attacks first, as they say more."""
    by_subset = {subset: run.curves(subset) for subset in SUBSETS}
    found = [a for a in run.infos if any(a in curves for curves in by_subset.values())]
    return {
        attack: [_figure(run, attack, s, curves[attack]) for s, curves in by_subset.items() if attack in curves]
        for attack in sorted(found, key=lambda a: run.infos[a].single_step)
    }


def lines(run: Run, attack: str, subset: str, curve: Sequence[Condition]) -> list[Line]:
    """What one panel shows: the subject, each attacked unimodal model beside it, and the one that stays clean."""
    own, values = (
        run.kind(run.subject or ""),
        [accuracy(run.clean(run.subject)), *(accuracy(run.table[c]) for c in curve)],
    )
    found = [Line(MODEL[own], own, tuple(range(len(values))), tuple(values))]
    for kind in ("A", "V"):
        model = run.model(kind)
        clean = run.clean(model)
        if clean is None or kind == own:
            continue
        if kind in subset:
            tried = {i: run.attacked(model, attack, kind, c.budget) for i, c in enumerate(curve, start=1)}
            points = {0: accuracy(clean)} | {i: accuracy(p) for i, p in tried.items() if p is not None}
            if len(points) > 1:
                found.append(Line(f"{MODEL[kind]}, attacked", kind, tuple(points), tuple(points.values())))
        else:
            found.append(Line(f"{MODEL[kind]}, clean", kind, (0, len(curve)), (accuracy(clean),) * 2, level=True))
    return found


def _figure(run: Run, attack: str, subset: str, curve: Sequence[Condition]) -> Figure:
    shown, budgets = lines(run, attack, subset, curve), [c.budget for c in curve]
    steps = ["0", *(at(subset, b) for b in budgets)]
    rows = [
        {"model": line.name, "step": i, "budget": steps[i]} | charts.shares(value)
        for line in shown
        for i, value in zip(line.places, line.values, strict=True)
    ]
    rows += [{"model": CHANCE, "step": i, charts.SHARES[0]: round(100 / run.classes, 2)} for i in (0, len(curve))]
    look = charts.looks(
        {line.name: line.role for line in shown} | {CHANCE: ""}, [CHANCE, *(line.name for line in shown if line.level)]
    )
    spec = charts.lines(_budget_axis(subset, budgets), ["model", "budget", *charts.SHARES, "clips"], look)
    title = ATTACKED[subset]
    caption = f"Robust accuracy under {attack} over the perturbation budget, {MODALITIES[subset]} attacked; bands are 95 % intervals."
    return Figure(
        anchor(f"curve {attack} {subset}"), title, f"{title}, {attack}. {_in_words(shown)}", rows, spec, caption=caption
    )


def _budget_axis(subset: str, budgets: Sequence[Budget]) -> Mapping[str, Any]:
    """Budgets as equal steps from 0 on, a line for each attacked modality in the unit that is easiest to picture."""
    parts = [m for m, letter in (("audio", "A"), ("visual", "V")) if letter in subset]
    sizes = [[size(getattr(b, m), m) for m in parts] for b in budgets]
    ticks = [["0"], *([s.number for s in both] for both in sizes)]
    axis = {
        "title": [f"{m} budget ({s.unit})" for m, s in zip(parts, sizes[-1], strict=True)],
        "values": [*range(len(ticks))],
        "labelExpr": f"{json.dumps(ticks, ensure_ascii=False)}[datum.value]",  # numbers only: no names from files
        "labelOverlap": len(ticks) > 8,
        "labelFontSize": 10,
    }
    return {"field": "step", "type": "quantitative", "scale": {"domain": [0, len(budgets)], "padding": 4}, "axis": axis}


def _in_words(shown: Sequence[Line]) -> str:
    parts = []
    for line in shown:
        first, last = percent(line.values[0].value), percent(line.values[-1].value)
        parts.append(f"{line.name}: {first} %" if line.level else f"{line.name}: from {first} % to {last} %")
    return "; ".join(parts) + "."


def data(run: Run) -> Mapping[str, Any] | None:
    found = curves(run)
    if not found:
        return None
    attack = next(iter(found))
    falls = []
    for subset in SUBSETS:
        if curve := run.curves(subset).get(attack):
            first, last = (accuracy(p) for p in (run.clean(run.subject), run.table[curve[-1]]))
            falls.append(f"{ATTACKED[subset].lower()} {percent(first.value)} to {percent(last.value)} %")
    return {"panels": found, "result": f"{attack}: {'; '.join(falls)}"}


SECTION = Section("curves", "Accuracy over budgets", data)
