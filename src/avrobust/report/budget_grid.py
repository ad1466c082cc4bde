"""A plane of budgets, as `avrobust grid` wrote it → one self-contained HTML page, and a few lines for the terminal."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from scipy import stats

from avrobust.evaluation.conditions import Condition, Predictions, tabulate
from avrobust.evaluation.stats import Proportion, estimate, percent
from avrobust.facts import Budget
from avrobust.files import write_bytes
from avrobust.progress import duration
from avrobust.report.formatting import at, audio_budget, joined, machine, size, software, visual_budget
from avrobust.report.load import RunError
from avrobust.report.page import environment
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


@dataclass(frozen=True)
class Median:
    """The middle of some numbers, and where that of all such clips lies; inf: beyond what was tried."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class Surface:
    """Every answer of a plane by its budgets.  `about` says what was asked."""

    about: Mapping[str, Any]
    table: Mapping[Condition, Predictions]

    @classmethod
    def read(cls, path: Path) -> "Surface":
        """From the Parquet file of a plane.  Raises `RunError` when it is something else."""
        try:
            rows = pq.read_table(path)
            return cls(json.loads(rows.schema.metadata[b"avrobust"])["about"], tabulate(rows))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path}: expected the rows of a plane, as `avrobust grid` writes them: {error}.") from None

    @property
    def top(self) -> Budget:
        """All of both budgets."""
        return max(c.budget for c in self.table)

    def share(self, budget: Budget) -> tuple[float, float]:
        """Which share of the largest budgets these are: of sound, of picture."""
        return budget.audio.eps / self.top.audio.eps, budget.visual.eps / self.top.visual.eps

    @cached_property
    def cells(self) -> list[list[Predictions]]:
        """The plane: a row for each picture's budget, from 0 on, and in it one for each sound's."""
        levels = [k / self.about["levels"] for k in range(self.about["levels"] + 1)]
        place = {tuple(round(s, 9) for s in self.share(c.budget)): a for c, a in self.table.items()}
        return [[place[round(a, 9), round(v, 9)] for a in levels] for v in levels]

    @cached_property
    def together(self) -> dict[float, Predictions]:
        """The answers by the share of both budgets, where it is the same one, from 0 on."""
        shares = {c: self.share(c.budget) for c in self.table}
        return {a: self.table[c] for c, (a, v) in sorted(shares.items(), key=lambda i: i[1]) if math.isclose(a, v)}

    @cached_property
    def smallest(self) -> Float[np.ndarray, " n"]:
        """The smallest share of both budgets that fools each clip: 0 if it is wrong anyway, inf if none does."""
        right = np.stack([a["correct"][0] for a in self.together.values()], 1)
        shares = np.array([*self.together, math.inf])
        smallest: np.ndarray = shares[np.where(right.all(1), right.shape[1], right.argmin(1))]
        return smallest

    def right(self) -> np.ndarray:
        """Which clips the model gets right when nobody attacks."""
        clean: np.ndarray = self.cells[0][0]["correct"][0]
        return clean


def median(values: Float[np.ndarray, " n"]) -> Median:
    """The middle value, and the 95 % interval that the ranks give (exact whatever the values' distribution).

    >>> median(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, np.inf, np.inf]))
    Median(value=0.5, low=0.2, high=inf, n=9)
    """
    n, ranked = len(values), np.sort(values)
    if not n:
        return Median(math.nan, math.nan, math.nan, 0)
    rank = int(stats.binom.ppf(0.025, n, 0.5))
    low, high = (ranked[rank - 1], ranked[n - rank]) if rank else (0.0, math.inf)
    return Median(float(ranked[(n - 1) // 2]), float(low), float(high), n)


def landscape(surface: Surface) -> Panel:
    """Robust accuracy as a map: sound's budget to the right, the picture's upwards, a contour for each tenth."""
    share = np.arange(surface.about["levels"] + 1) / surface.about["levels"]
    height = np.array([[cell["correct"].mean() for cell in row] for row in surface.cells])
    crossed = [t for t in TERRACES if height.min() < t < height.max()]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "plane"}):
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
        _budget_ticks(axes, share, [row.condition.budget for row in surface.cells[0]], "audio")
        _budget_ticks(axes, share, [row[0].condition.budget for row in surface.cells], "visual")
        svg = as_svg(figure, "plane")
    ends = percent(height[0, 0]), percent(height[0, -1]), percent(height[-1, 0]), percent(height[-1, -1])
    text = "Robust accuracy over both budgets: {} % where nothing is attacked, {} % at all of the sound's, {} % at all of the picture's, {} % at all of both."
    return Panel("Clips still right, by both budgets", svg, text.format(*ends))


def _budget_ticks(axes: Axes, share: np.ndarray, budgets: Sequence[Budget], modality: str) -> None:
    labels, unit = zip(*(size(b, modality) for b in budgets), strict=True)
    axis, name = (axes.xaxis, "the sound's budget") if modality == "audio" else (axes.yaxis, "the picture's budget")
    axis.set_ticks(share, ["0", *labels[1:]])
    axis.set_label_text(f"{name}, {unit[-1]}", color=AUDIO if modality == "audio" else VISUAL)


def growth(surface: Surface) -> Panel:
    """Accuracy as the share of the budgets grows: of both together, and of each one alone."""
    floor = min(s for s in surface.together if s)
    level = np.arange(1, surface.about["levels"] + 1) / surface.about["levels"]
    both = {s: estimate(a["correct"]) for s, a in surface.together.items() if s}
    alone = {
        "A": [estimate(a["correct"]) for a in surface.cells[0][1:]],
        "V": [estimate(row[0]["correct"]) for row in surface.cells[1:]],
    }
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "growth"}):
        figure, axes = canvas(5.6, 4.1)
        axes.set_xscale("log")
        low, high = [e.low for e in both.values()], [e.high for e in both.values()]
        axes.fill_between([*both], low, high, color=INK, alpha=0.1, lw=0)
        axes.plot([*both], [e.value for e in both.values()], color=INK, lw=2.0)
        names = {"AV": ("both", INK, both[max(both)].value)}
        for kind, colour, name in (("A", AUDIO, "sound alone"), ("V", VISUAL, "picture alone")):
            axes.plot(
                level, [e.value for e in alone[kind]], color=colour, lw=1.3, marker=MARK[kind], ms=4, clip_on=False
            )
            names[kind] = name, colour, alone[kind][-1].value
        clean = float(surface.right().mean())
        axes.axhline(clean, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        axes.text(1, clean + 0.015, "nothing attacked", color=MUTED, fontsize=9, ha="right")
        percent_axis(axes)
        _share_axis(axes, floor)
        name_lines(axes, 1.0, [(value, name, colour) for name, colour, value in names.values()])
        svg = as_svg(figure, "growth")
    text = f"Accuracy falls from {percent(clean)} % to {percent(both[max(both)].value)} % as both budgets grow."
    return Panel(
        "Clips still right, as the budgets grow together",
        svg,
        f"{text} {half(surface)}",
    )


def _share_axis(axes: Axes, floor: float) -> None:
    axes.set_xlim(floor, 1)
    ticks = [t for t in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1) if t >= floor * 0.99]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([f"{100 * t:.3g} %" for t in ticks])
    axes.set_xlabel("share of the largest budgets")


def spread(surface: Surface) -> Panel:
    """How many clips have which smallest budget."""
    smallest = surface.smallest
    floor = min(s for s in surface.together if s)
    bins = math.ceil(-20 * math.log10(floor) / BINS_DB)
    edges = [10 ** (-BINS_DB * k / 20) for k in range(bins, -1, -1)]
    # The smallest budget lies between the rung that it stands and the one that it falls at, which is what is counted.
    inside = np.digitize(smallest[np.isfinite(smallest) & (smallest > 0)], np.array(edges) * (1 + 1e-9), right=True)
    counts = [(smallest == 0).sum(), *np.bincount(inside, minlength=len(edges)), np.isinf(smallest).sum()]
    names = ["\nwrong\nanyway", *(f"{float(f'{100 * e:.2g}'):g}" for e in edges), "\nnever\nfalls"]
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
        axes.set_xlabel("smallest share that fools it, per cent, up to")
        svg = as_svg(figure, "spread")
    text = f"{counts[0]} clips are wrong anyway, {counts[-1]} stand at all of both budgets, the others fall in between."
    return Panel("The smallest joint budget of each clip", svg, text)


def html(surface: Surface) -> str:
    """The page as text."""
    cells = surface.cells
    corners = {"clean": cells[0][0], "A": cells[0][-1], "V": cells[-1][0], "AV": cells[-1][-1]}
    return (
        environment()
        .get_template("templates/budget_grid.html.j2")
        .render(
            about=surface.about,
            title=f"How much does it take to fool {name(surface.about['model'])}?",
            answer=answer(surface),
            unread=unread(surface),
            corners={s: (a.condition.budget, estimate(a["correct"])) for s, a in corners.items()},
            cells=cells,
            estimate=estimate,
            half=half(surface),
            known=known(surface),
            checked=checked(surface),
            panels=[growth(surface), spread(surface)],
            landscape=landscape(surface),
            facts=facts(surface),
        )
    )


def write(rows: Path, page: Path) -> Path:
    """The page of a plane's rows, whole or not at all."""
    write_bytes(page, html(Surface.read(rows)).encode())
    return page


def name(model: str) -> str:
    """A model as a heading calls it.

    >>> name("runs/quick/models/AV-0/net.safetensors"), name("my_package:model")
    ('AV-0', 'my_package:model')
    """
    return Path(model).parent.name if Path(model).stem == "net" else Path(model).name


def known(surface: Surface) -> dict[str, int]:
    """How many answers an attack gave, and how many are implied."""
    how = np.concatenate([a["how"][0] for c, a in surface.table.items() if c.subset != "clean"])
    return {name: int((how == name).sum()) for name in ("computed", "fooled", "stands")}


def checked(surface: Surface) -> Proportion:
    """Of the implied answers that were tried after all, how many were as implied."""
    return Proportion(surface.about["checked"] - surface.about["missed"], surface.about["checked"])


def unread(surface: Surface) -> str:
    """How many clips are missing from all of this, as a sentence; empty if none is."""
    count = surface.about.get("unread")
    if not count:
        return ""
    return (
        f"{count} of {surface.about['listed']} clips could not be read and are not counted: "
        f"avrobust show {surface.about['prepared']}"
    )


def half(surface: Surface) -> str:
    """At which budgets half of the clips that it gets right are fooled, as a sentence."""
    m = median(surface.smallest[surface.right()])
    if not m.n:
        return "It gets no clip right, so there is nothing to fool."
    if math.isinf(m.value):
        return f"More than half of the {m.n} clips that it gets right still stand when {changed(surface.top)}."
    budget = surface.together[m.value].condition.budget
    ends = "all of them, or more" if math.isinf(m.high) else f"{100 * m.high:.3g} %"
    return (
        f"Half of the {m.n} clips that it gets right fall at {100 * m.value:.3g} % of both budgets or less: "
        f"{changed(budget)}. The 95 % interval of that share runs from {100 * m.low:.3g} % to {ends}."
    )


def answer(surface: Surface) -> str:
    """The page's one sentence."""
    m = median(surface.smallest[surface.right()])
    if not m.n or math.isinf(m.value):
        return half(surface)
    return f"Half of the clips that it gets right fall when {changed(surface.together[m.value].condition.budget)}, or less."


def changed(budget: Budget) -> str:
    """Both budgets as a phrase."""
    heard, seen = audio_budget(budget), visual_budget(budget)
    return f"the sound may change by {heard} and the picture by {seen}"


def facts(surface: Surface) -> list[tuple[str, str]]:
    """What was asked and of what, as (name, text)."""
    about, clips = surface.about, len(surface.smallest)
    found = [
        ("Model", str(about["model"])),
        ("Attack", str(about["attack"])),
        ("Budgets", f"up to {at('AV', surface.top)}; {about['levels']} equal steps of each, and {len(surface.together) - 1} shares of both"),
        ("Clips", joined(f"{clips}", about.get("data"))),
        ("Seed", str(about["seed"])),
        ("Cost", f"{about['attacks']:,} attacks, {about['attacks'] / clips:.1f} for a clip; {duration(about['seconds'])}"),
        ("Machine", machine(about.get("world") or {})),
        ("Code", software(about.get("code") or {})),
    ]  # fmt: skip
    return [(name, text) for name, text in found if text]


def summary(surface: Surface) -> str:
    """A plane in a few lines: accuracy in per cent, the picture's budgets upwards, the sound's to the right."""
    cells = surface.cells
    across = [size(a.condition.budget, "audio") for a in cells[0]]
    rows = [[f"picture, {size(cells[-1][0].condition.budget, 'visual')[1]}", "0", *(n for n, _ in across[1:])]]
    for row in reversed(cells):
        height = size(row[0].condition.budget, "visual")[0] if row[0].condition.budget.visual.eps else "0"
        rows.append([height, *(percent(float(a["correct"].mean())) for a in row)])
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(v.rjust(w) for v, w in zip(r, widths, strict=True)) for r in rows]
    fell = checked(surface)
    return "\n".join(
        [
            f"Per cent of {len(surface.smallest)} clips still right; to the right the sound's budget, {across[-1][1]}:",
            *lines,
            half(surface),
            f"Of {fell.n} implied answers that were tried after all, {fell.n - fell.k} were wrong.",
            *filter(None, [unread(surface)]),
        ]
    )
