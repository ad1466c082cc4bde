"""How figures are drawn: inline SVG.  Text stays text; colours are the page's own, so that figures follow its light and dark.

Each figure is one panel about as wide as a phone: the page sets them side by side where there is room.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

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
