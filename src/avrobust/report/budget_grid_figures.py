"""The figures of a budget grid: the map of robust accuracy, its growth with both budgets, and the smallest budgets."""

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from avrobust.evaluation.stats import estimate, percent
from avrobust.report.budget_grid import GridResult, half
from avrobust.report.formatting import size
from avrobust.report.plots import (
    AUDIO,
    INK,
    MARK,
    MUTED,
    STYLE,
    VISUAL,
    Panel,
    as_svg,
    canvas,
    name_lines,
    percent_axis,
)

TERRACES = tuple(k / 10 for k in range(1, 10))  # a contour for each tenth of the clips
SHADE = 0.07  # of ink, for each terrace
BINS_DB = 4.0


def landscape(grid: GridResult) -> Panel:
    """Robust accuracy as a map: the audio budget to the right, the visual one upwards, a contour for each tenth."""
    share = np.arange(grid.about["levels"] + 1) / grid.about["levels"]
    height = np.array([[cell["correct"].mean() for cell in row] for row in grid.cells])
    crossed = [t for t in TERRACES if height.min() < t < height.max()]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "grid"}):
        figure = Figure(figsize=(7.6, 5.9))
        axes = figure.add_axes((0.095, 0.125, 0.865, 0.855))
        for terrace in crossed:  # one upon the other, so that they darken upwards
            axes.contourf(share, share, height, [terrace, 2], colors=[INK], alpha=SHADE)
        if crossed:
            thick = [2.0 if t == 0.5 else 0.8 for t in crossed]
            drawn = axes.contour(share, share, height, crossed, colors=[INK], linewidths=thick)
            axes.clabel(drawn, fmt=lambda t: f"{t:.0%}".replace("%", " %"), fontsize=9.5)
        axes.plot(*(p.ravel() for p in np.meshgrid(share, share)), ".", color=MUTED, ms=2.5, clip_on=False)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=7)
        _budget_ticks(axes, share, grid, "audio")
        _budget_ticks(axes, share, grid, "visual")
        svg = as_svg(figure, "grid")
    ends = percent(height[0, 0]), percent(height[0, -1]), percent(height[-1, 0]), percent(height[-1, -1])
    text = "Robust accuracy over both budgets: clean {} %, at the full audio budget {} %, at the full visual budget {} %, at both {} %."
    return Panel("Robust accuracy by both budgets", svg, text.format(*ends))


def _budget_ticks(axes: Axes, share: np.ndarray, grid: GridResult, modality: str) -> None:
    sizes = [size(budget, modality) for budget in grid.budgets(modality)[1:]]
    axis, name, colour = (axes.xaxis, "audio", AUDIO) if modality == "audio" else (axes.yaxis, "visual", VISUAL)
    axis.set_ticks(share, ["0", *(s.number for s in sizes)])
    axis.set_label_text(f"{name} budget, {sizes[-1].unit}", color=colour)


def growth(grid: GridResult) -> Panel:
    """Accuracy as the share of the budgets grows: of both together, and of one modality only."""
    floor = min(s for s in grid.together if s)
    level = np.arange(1, grid.about["levels"] + 1) / grid.about["levels"]
    both = {s: estimate(a["correct"]) for s, a in grid.together.items() if s}
    alone = {
        "A": [estimate(a["correct"]) for a in grid.cells[0][1:]],
        "V": [estimate(row[0]["correct"]) for row in grid.cells[1:]],
    }
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "growth"}):
        figure, axes = canvas(5.6, 4.1)
        axes.set_xscale("log")
        low, high = [e.low for e in both.values()], [e.high for e in both.values()]
        axes.fill_between([*both], low, high, color=INK, alpha=0.1, lw=0)
        axes.plot([*both], [e.value for e in both.values()], color=INK, lw=2.0)
        names = {"AV": ("both", INK, both[max(both)].value)}
        for kind, colour, name in (("A", AUDIO, "audio only"), ("V", VISUAL, "video only")):
            axes.plot(
                level, [e.value for e in alone[kind]], color=colour, lw=1.3, marker=MARK[kind], ms=4, clip_on=False
            )
            names[kind] = name, colour, alone[kind][-1].value
        clean = float(grid.correct().mean())
        axes.axhline(clean, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        axes.text(1, clean + 0.015, "clean", color=MUTED, fontsize=9, ha="right")
        percent_axis(axes)
        _share_axis(axes, floor)
        name_lines(axes, 1.0, [(value, name, colour) for name, colour, value in names.values()])
        svg = as_svg(figure, "growth")
    text = f"Accuracy falls from {percent(clean)} % to {percent(both[max(both)].value)} % as both budgets grow."
    return Panel(
        "Robust accuracy as both budgets grow",
        svg,
        f"{text} {half(grid)}",
    )


def _share_axis(axes: Axes, floor: float) -> None:
    axes.set_xlim(floor, 1)
    ticks = [t for t in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if t >= floor * 0.99]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{100 * t:.3g} %" for t in ticks])
    axes.set_xlabel("share of the largest budgets")


def spread(grid: GridResult) -> Panel:
    """How many clips have which smallest budget."""
    smallest = grid.smallest
    floor = min(s for s in grid.together if s)
    bins = math.ceil(-20 * math.log10(floor) / BINS_DB)
    edges = [10 ** (-BINS_DB * k / 20) for k in range(bins, -1, -1)]
    # The smallest budget lies between the largest step withstood and the smallest that fools, which is what is counted.
    inside = np.digitize(smallest[np.isfinite(smallest) & (smallest > 0)], np.array(edges) * (1 + 1e-9), right=True)
    counts = [(smallest == 0).sum(), *np.bincount(inside, minlength=len(edges)), np.isinf(smallest).sum()]
    names = ["\nwrong\nclean", *(f"{float(f'{100 * e:.2g}'):g}" for e in edges), "\nnever\nfooled"]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "spread"}):
        figure, axes = canvas(5.6, 4.1)
        colours = [MUTED, *[INK] * len(edges), MUTED]
        axes.bar(range(len(counts)), counts, color=colours, alpha=0.75, width=0.82)
        for i, count in enumerate(counts):
            if count:
                axes.text(i, count, str(count), ha="center", va="bottom", fontsize=9, color=MUTED)
        axes.set_xticks(range(len(names)), names, fontsize=8.5)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.set_ylabel("clips")
        axes.set_xlabel("smallest share that fools the clip, per cent, up to")
        svg = as_svg(figure, "spread")
    text = f"{counts[0]} clips are misclassified when clean, {counts[-1]} withstand both budgets in full; the others lie in between."
    return Panel("The smallest joint budget of each clip", svg, text)
