"""Which modality is attacked?  What the models that say so take for attacked, and how they abstain, clean and attacked."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from avrobust.evaluation.stats import MISSING, Estimate
from avrobust.evaluation.suspicion import ABSTAINING, CALLED, Curve, Suspicion, suspected
from avrobust.report import charts, table
from avrobust.report.figures import PANEL, Figure, Row
from avrobust.report.formatting import ATTACKED, anchor, physical
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Table

HEADS = {"none": "none", "A": "audio", "V": "visual", "AV": "both"}
ALONE = {"A": "audio", "V": "visual"}  # attacked by itself: the other modality says nothing about the detector then
POINTS = 120  # of a curve that is drawn; a step more would be narrower than its line


def compared(own: Mapping[str, Sequence[Suspicion]]) -> Table | None:
    """A row per model, each number under the attack that is worst for it; None where there is one model only."""
    body: list[Line] = []
    for model, found in own.items():
        hit = {subset: [s for s in found if s.condition.subset == subset] for subset in SUBSETS}
        body.append([
            model,
            *(_worst([(s.auc[modality], s) for s in hit[subset]], min) for subset, modality in ALONE.items()),
            *(_worst([(s.risk[by], s) for s in hit["AV"]], max) for by in ABSTAINING),
            _worst([(s.unnoticed, s) for s in found], max),
        ])  # fmt: skip
    heads = [
        Column("Model"), *(Column(ATTACKED[subset], "AUC of that modality, %") for subset in ALONE),
        *(Column(f"by {by}", "AURC, both attacked, %") for by in ABSTAINING), Column("Wrong and unnoticed"),
    ]  # fmt: skip
    below = (
        "Each number is under the attack that is worst for the model; its interval does not know that it was chosen."
    )
    return table.table("Detectors compared", heads, body, below=below) if len(body) > 1 else None


def _worst(found: Sequence[tuple[Estimate, Suspicion]], worst: Callable[..., tuple[Estimate, Suspicion]]) -> Cell:
    """The worst of these numbers, its attack in small print; a dash where there is none."""
    known = [(e, s) for e, s in found if not math.isnan(e.value)]
    if not known:
        return table.share(MISSING)
    estimate, under = worst(known, key=lambda pair: pair[0].value)
    cell = table.share(estimate)
    return replace(cell, small=(*cell.small, under.condition.attack))


def by_model(found: Sequence[Suspicion], model: str) -> Table:
    """A row per attack and budget: area under the curve, and what the model takes for attacked."""
    body: list[Line] = [
        [*_condition(s), *map(table.share, s.auc.values()), *(table.share(s.called[name]) for name in CALLED)]
        for s in found
    ]
    heads = [
        Column("Attacked"), Column("Attack"), Column("audio", "AUC, %"), Column("visual", "AUC, %"),
        *(Column(HEADS[name], "Taken for attacked, %") for name in CALLED),
    ]  # fmt: skip
    return table.table(f"What {model} suspects", heads, body)


def abstention(found: Sequence[Suspicion], model: str) -> Table:
    """A row per attack and budget: what is gained by leaving clips to others."""
    body: list[Line] = [
        [
            *_condition(s),
            *(table.share(s.risk[by]) for by in ABSTAINING),
            table.share(s.trusted),
            table.share(s.accuracy),
            table.share(s.unnoticed, role="strong"),
        ]
        for s in found
    ]
    heads = [
        Column("Attacked"), Column("Attack"), *(Column(f"by {by}", "AURC, %") for by in ABSTAINING),
        Column("Nothing is suspected"), Column("Accuracy there"), Column("Wrong and unnoticed"),
    ]  # fmt: skip
    return table.table(f"When {model} abstains", heads, body)


def _condition(s: Suspicion) -> tuple[Cell, str]:
    b = s.condition.budget
    sizes = tuple(physical(m, name) for name, m in (("audio", b.audio), ("visual", b.visual)) if m.eps)
    return Cell(ATTACKED[s.condition.subset], sizes), s.condition.attack


def figures(found: Sequence[Suspicion], model: str) -> list[Figure]:
    """ROC curves of either modality attacked alone, and risk over coverage with both attacked; a line for each attack and budget."""
    made = []
    for subset, modality in ALONE.items():
        curves = {name: s.roc[modality] for name, s in _lines(found, subset).items()}
        title = f"ROC, {ATTACKED[subset].lower()}"
        made += _curves(model, title, curves, ("false alarms", "detected"), chance=True)
    curves = {f"{name}, by {by}": curve for name, s in _lines(found, "AV").items() for by, curve in s.coverage.items()}
    return made + _curves(model, "Risk over coverage, both attacked", curves, ("coverage", "risk"))


def _lines(found: Sequence[Suspicion], subset: str) -> dict[str, Suspicion]:
    """The conditions under which these modalities are attacked, by the attack; where it has several budgets, by these too."""
    mine = [s for s in found if s.condition.subset == subset]
    several = len({s.condition.budget for s in mine}) > 1
    return {s.condition.attack + (f", {s.condition.budget.attacked}" if several else ""): s for s in mine}


def _curves(
    model: str, title: str, curves: Mapping[str, Curve], axes: tuple[str, str], *, chance: bool = False
) -> list[Figure]:
    """One figure, or none where there is no curve."""
    if not curves:
        return []
    over, value = (f"{name}, %" for name in axes)
    rows: list[Row] = [
        {"attack": name, over: round(100 * float(x), 2), value: round(100 * float(y), 2)}
        for name, (along, up) in curves.items()
        for x, y in list(zip(along, up, strict=True))[:: max(1, len(along) // POINTS)]
    ]
    if chance:
        rows += [{"attack": "chance", over: v, value: v} for v in (0, 100)]
    kinds = dict.fromkeys(curves, "AV") | ({"chance": ""} if chance else {})
    look = charts.looks(kinds, ["chance"] if chance else [])
    axis = {"title": f"{axes[0]} (%)", "values": [0, 25, 50, 75, 100]}
    x = {"field": over, "type": "quantitative", "scale": {"domain": [0, 100]}, "axis": axis}
    names = (value, *charts.SHARES[1:])
    spec = charts.lines(
        x, ["attack", over, value], look, "attack", band=False, marked=False, title=f"{axes[1]} (%)", names=names
    )
    caption = f"{title}: {model}; {axes[1]} over {axes[0]} in per cent, of the first seed."
    return [Figure(anchor(f"{title} {model}"), title, f"{title}, {model}.", rows, spec, PANEL, caption)]


def data(run: Run) -> Mapping[str, Any] | None:
    subsets = ("clean", *SUBSETS)
    found = sorted(
        suspected(run.table),
        key=lambda s: (subsets.index(s.condition.subset), s.condition.budget, s.condition.attack),
    )
    if not found:
        return None
    models = dict.fromkeys([*run.record.models, *(s.condition.model for s in found)])
    own = {m: those for m in models if (those := [s for s in found if s.condition.model == m])}
    worst = [max(those, key=lambda s: s.unnoticed.value) for those in own.values()]
    result = "; ".join(f"{s.condition.model}: up to {s.unnoticed} wrong and unnoticed" for s in worst[:2])
    shown = [(m, by_model(those, m), abstention(those, m), figures(those, m)) for m, those in own.items()]
    return {"compared": compared(own), "models": shown, "result": result}


SECTION = Section("suspicion", "Which modality is attacked?", data)
