"""Accuracy over budgets: the audio-visual model under attack, beside the unimodal models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.axes import Axes

from avrobust.evaluation.conditions import Condition
from avrobust.evaluation.stats import Estimate, percent
from avrobust.facts import Budget, ModalityBudget
from avrobust.report.formatting import ATTACKED, MODEL, size
from avrobust.report.measured import accuracy
from avrobust.report.plots import MARK, MUTED, ROLE, STYLE, Panel, as_svg, canvas, name_lines, percent_axis
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section


@dataclass(frozen=True)
class Line:
    """One curve: places on the axis and what was measured there.  A `level` is one number, drawn across."""

    name: str
    role: str  # AV, A or V
    places: tuple[int, ...]
    values: tuple[Estimate, ...]
    level: bool = False


def curves(run: Run) -> dict[str, list[Panel]]:
    """By attack, its curves with audio, visual, both attacked: iterative attacks first, as they say more."""
    by_subset = {subset: run.curves(subset) for subset in SUBSETS}
    found = [a for a in run.infos if any(a in curves for curves in by_subset.values())]
    return {
        attack: [_panel(run, attack, s, curves[attack]) for s, curves in by_subset.items() if attack in curves]
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


def _panel(run: Run, attack: str, subset: str, curve: Sequence[Condition]) -> Panel:
    shown = lines(run, attack, subset, curve)
    title = ATTACKED[subset]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"{attack} {subset}"}):
        figure, axes = canvas(4.7, 3.9)
        for line in shown:
            _draw(axes, line)
        percent_axis(axes)
        axes.axhline(1 / run.classes, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        axes.text(
            0.02,
            1 / run.classes + 0.012,
            "chance",
            color=MUTED,
            fontsize=9,
            transform=axes.get_yaxis_transform(),
        )
        _budget_axis(axes, subset, [c.budget for c in curve])
        name_lines(axes, len(curve), [(e.values[-1].value, e.name.replace(", ", "\n"), ROLE[e.role]) for e in shown])
        svg = as_svg(figure, f"{title}: {attack}")
    return Panel(title, svg, f"{title}, {attack}. {_in_words(shown)}")


def _draw(axes: Axes, line: Line) -> None:
    colour, values = ROLE[line.role], [e.value for e in line.values]
    band = [e.low for e in line.values], [e.high for e in line.values]
    axes.fill_between(line.places, *band, color=colour, alpha=0.08 if line.level else 0.14, lw=0)
    if line.level:
        axes.plot(line.places, values, color=colour, lw=1.2, ls=(0, (5, 2.5)))
    else:
        thick = 2.2 if line.role == "AV" else 1.3
        axes.plot(line.places, values, color=colour, lw=thick, marker=MARK[line.role], ms=4.5, clip_on=False)


def _budget_axis(axes: Axes, subset: str, budgets: Sequence[Budget]) -> None:
    """Budgets as equal steps from 0 on, linf ones in thousandths, and beneath in a physical unit where one is attacked."""
    parts = [m for m, letter in (("audio", "A"), ("visual", "V")) if letter in subset]
    ticks = ["0", *("\n".join(_short(getattr(b, m)) for m in parts) for b in budgets)]
    names = []
    for modality in parts:
        last: ModalityBudget = getattr(budgets[-1], modality)
        name = f"{modality} ε" + (" normalised" if last.unit == "normalised" else "")
        names.append(name + (" (10⁻³)" if last.norm == "linf" else ""))
    if len(parts) == 1 and last.norm == "linf":
        sizes = [size(getattr(b, modality), modality) for b in budgets]
        ticks = [tick + (f"\n{s.number}" if s else "") for tick, s in zip(ticks, [None, *sizes], strict=True)]
        names.append(sizes[-1].unit)
    axes.set_xticks(range(len(ticks)), ticks, fontsize=9, linespacing=1.25)
    axes.set_xlim(-0.15, len(ticks) - 1)
    axes.set_xlabel((", " if len(parts) == 1 else "; ").join(names), fontsize=9.5)


def _short(budget: ModalityBudget) -> str:
    """A budget in thousandths, or without its leading zero: there is little room on an axis."""
    if budget.norm == "linf":
        return f"{1000 * budget.eps:.3g}"
    return f"{budget.eps:.3g}".removeprefix("0") if budget.eps else "0"


def _in_words(shown: Sequence[Line]) -> str:
    parts = []
    for line in shown:
        first, last = percent(line.values[0].value), percent(line.values[-1].value)
        parts.append(f"{line.name}: {first} %" if line.level else f"{line.name}: from {first} % to {last} %")
    return "; ".join(parts) + "."


def data(run: Run) -> Mapping[str, Any] | None:
    found = curves(run)
    return {"panels": found} if found or not run.alone else None


SECTION = Section("curves", "Accuracy over budgets", data)
