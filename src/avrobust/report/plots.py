"""Curves as inline SVG.  Text stays text; colours are the page's own, so that figures follow its light and dark.

Each figure is one panel about as wide as a phone: the page sets them side by side where there is room.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from avrobust.evaluation.conditions import Budget, Condition
from avrobust.evaluation.stats import Estimate, percent
from avrobust.report.formatting import grey
from avrobust.report.load import Run
from avrobust.report.tables import right

# matplotlib wants colours, the page wants names: each name travels as a colour that nothing else has.
INK, MUTED, RULE, AUDIO, VISUAL = "#010101", "#020202", "#030303", "#040404", "#050505"
NAMES = {
    INK: "currentColor",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    AUDIO: "var(--audio)",
    VISUAL: "var(--visual)",
}
ROLE = {"AV": INK, "A": AUDIO, "V": VISUAL}
MARK = {"AV": "o", "A": "s", "V": "^"}
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # names come from files: a dollar sign is a dollar sign
    "font.family": "sans-serif",
    "font.size": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.linewidth": 0.7,
    "text.color": INK,
}


@dataclass(frozen=True)
class Panel:
    """A figure with its caption and the sentence that stands for it where it cannot be seen."""

    title: str
    svg: Markup
    alt: str


@dataclass(frozen=True)
class Line:
    """One curve: places on the axis and what was measured there.  A `level` is one number, drawn across."""

    name: str
    role: str  # AV, A or V
    places: tuple[int, ...]
    values: tuple[Estimate, ...]
    level: bool = False


def curves(run: Run, attack: str) -> list[Panel]:
    """The paper's Figure 3 for one attack: accuracy over budgets with sound, picture, both attacked."""
    model = run.model("AV")
    found = []
    for subset in ("A", "V", "AV"):
        curve = run.curves(model, subset).get(attack) if model else None
        if curve:
            found.append(_panel(run, attack, subset, curve))
    return found


def attacks_with_curves(run: Run) -> list[str]:
    """Attacks that have a curve on some subset: iterative ones first, as they say more."""
    model = run.model("AV")
    found = {a for s in ("A", "V", "AV") for a in (run.curves(model, s) if model else ())}
    return sorted(found, key=lambda a: (run.infos[a].single_step, list(run.modes).index(a)))


def lines(run: Run, attack: str, subset: str, curve: Sequence[Condition]) -> list[Line]:
    """What one panel shows: both modalities together, each attacked single modality, and the one that is left clean."""
    pair = [right(run.clean(run.model("AV"))), *(right(run.table[c]) for c in curve)]
    found = [Line("together", "AV", tuple(range(len(pair))), tuple(pair))]
    for kind, name in (("A", "sound alone"), ("V", "picture alone")):
        clean = run.clean(run.model(kind))
        if clean is None:
            continue
        if kind in subset:
            tried = {i: run.attacked(run.model(kind), attack, kind, c.budget) for i, c in enumerate(curve, start=1)}
            points = {0: right(clean)} | {i: right(a) for i, a in tried.items() if a is not None}
            if len(points) > 1:
                found.append(Line(f"{name}, attacked", kind, tuple(points), tuple(points.values())))
        else:
            found.append(Line(f"{name}, clean", kind, (0, len(curve)), (right(clean),) * 2, level=True))
    return found


def _panel(run: Run, attack: str, subset: str, curve: Sequence[Condition]) -> Panel:
    shown = lines(run, attack, subset, curve)
    title = {"A": "Sound attacked", "V": "Picture attacked", "AV": "Both attacked"}[subset]
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": f"{attack} {subset}"}):
        figure, axes = canvas(4.7, 3.9)
        for line in shown:
            _draw(axes, line)
        percent_axis(axes)
        axes.axhline(run.chance, color=MUTED, lw=0.8, ls=(0, (1, 2)))
        axes.text(
            0.02,
            run.chance + 0.012,
            "guessing",
            color=MUTED,
            fontsize=9,
            transform=axes.get_yaxis_transform(),
        )
        _budget_axis(axes, subset, [c.budget for c in curve])
        _name_lines(axes, shown, len(curve))
        svg = as_svg(figure, f"{title}: {attack}")
    return Panel(title, svg, f"{title}, {attack}. {_in_words(shown)}")


def training(run: Run) -> Panel | None:
    """Validation accuracy after each epoch, a line per model; None when no model left a curve."""
    curves = {name: about.get("curve") for name, about in (run.about.get("models") or {}).items()}
    known = {name: curve for name, curve in curves.items() if curve}
    if not known:
        return None
    with matplotlib.rc_context(STYLE | {"svg.hashsalt": "training"}):
        figure, axes = canvas(5.6, 3.2)
        ends = []
        for name, curve in known.items():
            epochs, values = [e["epoch"] for e in curve], [e["val_accuracy"] for e in curve]
            colour = ROLE[run.kind(name)]
            axes.plot(epochs, values, color=colour, lw=1.6, marker=MARK[run.kind(name)], ms=3.5)
            ends.append((values[-1], name, colour))
        last = max(e["epoch"] for curve in known.values() for e in curve)
        percent_axis(axes)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        name_lines(axes, last, ends)
        svg = as_svg(figure, "training")
    text = "; ".join(f"{name} ends at {percent(c[-1]['val_accuracy'])} %" for name, c in known.items())
    return Panel("Validation accuracy over epochs", svg, f"Validation accuracy over epochs: {text}.")


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A panel of this many inches, with room for its axes' names and for those of its lines."""
    figure = Figure(figsize=(width, height))
    # Fixed margins, in inches: axes of neighbouring panels stand in line, and names have room on the right.
    left, right, bottom, top = 0.58, 1.08, 0.7, 0.1
    axes = figure.add_axes((left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2.5, width=0.7)
    axes.grid(axis="y", color=RULE, lw=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def percent_axis(axes: Axes) -> None:
    """Accuracy upwards, from 0 to 100 %."""
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))


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
    """Budgets as equal steps from 0 on, linf ones in thousandths as in the paper, and beneath in a physical unit."""
    names = ["0", *(_tick(subset, b) for b in budgets)]
    axes.set_xticks(range(len(names)), names, fontsize=9, linespacing=1.25)
    axes.set_xlim(-0.15, len(names) - 1)
    b = budgets[-1]
    heard, seen = (" (10⁻³)" if words.startswith("linf") else "" for words in (b.audio, b.visual))
    sound = f"sound ε{heard}" + (", dBFS" if subset == "A" and heard else "")
    picture = f"picture ε{' normalised' if b.visual.endswith('normalised') else ''}{seen}"
    picture += ", grey levels of 255" if subset == "V" and seen else ""
    axes.set_xlabel({"A": sound, "V": picture, "AV": f"{sound}; {picture}"}[subset], fontsize=9.5)


def _tick(subset: str, budget: Budget) -> str:
    if subset == "A":
        level = f"{20 * math.log10(budget.eps_audio):.0f}".replace("-", "−")
        return _short(budget.eps_audio, budget.audio) + (f"\n{level}" if budget.audio.startswith("linf") else "")
    if subset == "V":
        known = budget.visual.startswith("linf")
        levels = f"\n{grey(budget.eps_visual, budget.visual):.2g}" if known else ""
        return _short(budget.eps_visual, budget.visual) + levels
    return f"{_short(budget.eps_audio, budget.audio)}\n{_short(budget.eps_visual, budget.visual)}"


def _short(eps: float, words: str) -> str:
    """A budget in thousandths, or without its leading zero: there is little room on an axis."""
    if words.startswith("linf"):
        return f"{1000 * eps:.3g}"
    return f"{eps:.3g}".removeprefix("0") if eps else "0"


def _name_lines(axes: Axes, shown: Sequence[Line], last: int) -> None:
    name_lines(
        axes,
        last,
        [(line.values[-1].value, line.name.replace(", ", "\n"), ROLE[line.role]) for line in shown],
    )


def name_lines(axes: Axes, last: float, ends: Sequence[tuple[float, str, str]]) -> None:
    """Names at the lines' ends, moved apart just enough not to overlap."""
    place = -1.0
    for value, name, colour in sorted(ends):
        height = 0.05 * (1 + name.count("\n"))
        place = max(value, place + height / 2)
        axes.annotate(
            name, (last, place), xytext=(7, 0), textcoords="offset points", color=colour, fontsize=9.5, va="center",
            linespacing=1.05, annotation_clip=False,
        )  # fmt: skip
        place += height / 2 + 0.015


def _in_words(shown: Sequence[Line]) -> str:
    parts = []
    for line in shown:
        first, last = percent(line.values[0].value), percent(line.values[-1].value)
        parts.append(f"{line.name}: {first} %" if line.level else f"{line.name}: from {first} % to {last} %")
    return "; ".join(parts) + "."


def as_svg(figure: Figure, name: str) -> Markup:
    """The figure as a part of a page; `name` keeps its ids apart from those of others."""
    buffer = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=empty)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    for colour, own in NAMES.items():
        text = text.replace(colour, own)
    # Ids must differ between figures on one page; sizes come from the page.
    prefix = re.sub(r"\W+", "", name)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'<svg ([^>]*?)height="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r"; font-family: [^;\"]*", "", text)  # the page's own
    return Markup(text)
