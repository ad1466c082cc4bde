"""The figures of a budget grid: the map of robust accuracy, its growth with both budgets, and the smallest budgets."""

import json
import math
from typing import Any

import numpy as np

from avrobust.evaluation.stats import estimate, percent
from avrobust.report import charts
from avrobust.report.budget_grid import GridResult, half
from avrobust.report.figures import AUDIO, INK, MUTED, VISUAL, Figure
from avrobust.report.formatting import size

BINS_DB = 4.0
HALF = (440, 340)


def landscape(grid: GridResult) -> Figure:
    """Robust accuracy as a map: the audio budget to the right, the visual one upwards, a cell for each pair."""
    named = {modality: _named(grid, modality) for modality in ("audio", "visual")}
    rows = [
        {"audio step": a, "visual step": v, "audio budget": named["audio"][a], "visual budget": named["visual"][v]}
        | charts.shares(estimate(cell["correct"]))
        for v, row in enumerate(grid.cells)
        for a, cell in enumerate(row)
    ]
    accuracy = charts.SHARES[0]
    colour = {
        "field": accuracy, "type": "quantitative", "scale": {"scheme": "viridis", "domain": [0, 100]},
        "legend": {"title": accuracy, "orient": "right", "gradientLength": 220},
    }  # fmt: skip
    cells = {
        "x": _budgets(grid, "audio", AUDIO, named["audio"]),
        "y": _budgets(grid, "visual", VISUAL, named["visual"]) | {"sort": "descending"},
    }
    dark = f"datum['{accuracy}'] > 60"  # of viridis, whose upper end is light
    spec = {
        "layer": [
            {"mark": "rect", "encoding": cells | {"color": colour, "tooltip": charts.tooltip([*rows[0]][2:])}},
            {
                "mark": {"type": "text", "fontSize": 11},
                "encoding": cells
                | {
                    "text": {"field": accuracy, "type": "quantitative", "format": ".0f"},
                    "color": {"condition": {"test": dark, "value": "#000"}, "value": "#fff"},
                },
            },
        ]
    }
    corners = (grid.cells[v][a] for v, a in ((0, 0), (0, -1), (-1, 0), (-1, -1)))
    text = "Robust accuracy over both budgets: clean {} %, at the full audio budget {} %, at the full visual budget {} %, at both {} %."
    alt = text.format(*(percent(float(c["correct"].mean())) for c in corners))
    title = "Robust accuracy by both budgets"
    return Figure("budget-plane", title, alt, rows, spec, (700, 520), f"{title}, in per cent.")


def _named(grid: GridResult, modality: str) -> list[str]:
    """The budgets of one modality in the unit that is easiest to picture."""
    return ["0", *(size(budget, modality).number for budget in grid.budgets(modality)[1:])]


def _budgets(grid: GridResult, modality: str, colour: str, named: list[str]) -> dict[str, Any]:
    axis = {
        "title": f"{modality} budget ({size(grid.budgets(modality)[-1], modality).unit})", "titleColor": colour,
        "labelExpr": f"{json.dumps(named, ensure_ascii=False)}[datum.value]", "labelAngle": 0, "ticks": False, "domain": False,
    }  # fmt: skip
    return {"field": f"{modality} step", "type": "ordinal", "axis": axis}


def growth(grid: GridResult) -> Figure:
    """Accuracy as the share of the budgets grows: of both together, and of one modality only."""
    floor = min(s for s in grid.together if s)
    level = np.arange(1, grid.about["levels"] + 1) / grid.about["levels"]
    series = {
        "both": {s: estimate(a["correct"]) for s, a in grid.together.items() if s},
        "audio only": dict(zip(level, (estimate(a["correct"]) for a in grid.cells[0][1:]), strict=True)),
        "video only": dict(zip(level, (estimate(row[0]["correct"]) for row in grid.cells[1:]), strict=True)),
        "clean": dict.fromkeys((floor, 1.0), estimate(grid.cells[0][0]["correct"])),
    }
    share = "share of the budgets, %"
    rows = [
        {"attacked": name, share: round(100 * float(s), 4)} | charts.shares(e)
        for name, found in series.items()
        for s, e in found.items()
    ]
    look = charts.looks({"both": "AV", "audio only": "A", "video only": "V", "clean": ""}, ["clean"])
    ticks = [t for t in (0.1, 0.3, 1, 3, 10, 30, 100) if t >= 99 * floor]
    axis = {"title": "share of the largest budgets (%)", "values": ticks, "format": "~g"}
    x = {"field": share, "type": "quantitative", "scale": {"type": "log", "domain": [100 * floor, 100]}, "axis": axis}
    title, both = "Robust accuracy as both budgets grow", series["both"]
    alt = f"Accuracy falls from {percent(float(grid.correct().mean()))} % to {percent(both[max(both)].value)} % as both budgets grow. {half(grid)}"
    spec = charts.lines(x, ["attacked", share, *charts.SHARES, "clips"], look, "attacked")
    return Figure("budget-growth", title, alt, rows, spec, HALF, f"{title}; bands are 95 % intervals.")


def spread(grid: GridResult) -> Figure:
    """How many clips have which smallest budget."""
    smallest = grid.smallest
    floor = min(s for s in grid.together if s)
    bins = math.ceil(-20 * math.log10(floor) / BINS_DB)
    edges = [10 ** (-BINS_DB * k / 20) for k in range(bins, -1, -1)]
    # The smallest budget lies between the largest step withstood and the smallest that fools, which is what is counted.
    inside = np.digitize(smallest[np.isfinite(smallest) & (smallest > 0)], np.array(edges) * (1 + 1e-9), right=True)
    counts = [(smallest == 0).sum(), *np.bincount(inside, minlength=len(edges)), np.isinf(smallest).sum()]
    names = ["wrong clean", *(f"{float(f'{100 * e:.2g}'):g}" for e in edges), "never fooled"]
    rows = [{"smallest share, %": name, "clips": int(count)} for name, count in zip(names, counts, strict=True)]
    axis = {
        "title": "smallest share that fools the clip (%, up to)",
        "labelExpr": "split(datum.label, ' ')",
        "labelAngle": 0,
        "labelFontSize": 10,
    }
    x = {"field": "smallest share, %", "type": "nominal", "sort": names, "axis": axis}
    y = {"field": "clips", "type": "quantitative", "axis": {"title": "clips", "tickMinStep": 1}}
    apart = {
        "condition": {"test": {"field": "smallest share, %", "oneOf": [names[0], names[-1]]}, "value": MUTED},
        "value": INK,
    }
    spec = {
        "layer": [
            {"mark": {"type": "bar", "opacity": 0.75}, "encoding": {"x": x, "y": y, "color": apart, "tooltip": charts.tooltip([*rows[0]])}},
            {
                "transform": [{"filter": "datum.clips > 0"}],
                "mark": {"type": "text", "dy": -6, "color": MUTED},
                "encoding": {"x": x, "y": y, "text": {"field": "clips"}},
            },
        ]
    }  # fmt: skip
    title = "The smallest joint budget of each clip"
    alt = f"{counts[0]} clips are misclassified when clean, {counts[-1]} withstand both budgets in full; the others lie in between."
    return Figure("smallest-budgets", title, alt, rows, spec, HALF, f"{title}, as a share of the largest budgets.")
