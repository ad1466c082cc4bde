"""What a figure is: rows, and how Vega-Lite draws them.  One value becomes a part of a page, SVG, and a vector PDF.

Colours are the page's own names, so that figures follow its light and dark; files get the light ones.
docs/decisions/0029-figures-are-vega-lite.md says why.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, cached_property, lru_cache
from typing import Any
from zlib import crc32

import vl_convert
from markupsafe import Markup

from avrobust.report.table import Cell, Table, number, table

Spec = Mapping[str, Any]
Row = Mapping[str, Any]

# The page's colours, as its style sheet has them on paper.
LIGHT = {
    "ink": "#1c1b19", "muted": "#6d6a64", "rule": "#e4e0d8", "audio": "#0067a5", "visual": "#b04800",
    "good": "#2e6b3f", "amber": "#8a5a00", "purple": "#7b4ab8", "magenta": "#b0306f", "teal": "#007c89",
}  # fmt: skip
INK, MUTED, RULE, AUDIO, VISUAL = (f"var(--{name})" for name in ("ink", "muted", "rule", "audio", "visual"))
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, sans-serif"
CONFIG: Spec = {
    "background": "transparent",
    "font": FONT,
    "aria": False,  # `alt` and the table of the rows say it
    "view": {"stroke": None},
    "text": {"color": INK},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "gridColor": RULE, "domainColor": MUTED, "tickColor": MUTED, "tickSize": 4,
        "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal", "labelLimit": 0, "titleLimit": 0, "labelFlush": False,
    },
    "axisX": {"grid": False},
    "legend": {
        "labelColor": INK, "titleColor": MUTED, "labelFontSize": 11, "titleFontSize": 11, "titleFontWeight": "normal",
        "labelLimit": 0, "orient": "bottom", "columns": 2, "columnPadding": 14, "symbolStrokeWidth": 2, "symbolSize": 70,
    },
}  # fmt: skip
PANEL, WIDE = (340, 300), (700, 340)  # pixels; on a phone a panel fills the screen
INCHES = {1: 3.25, 2: 6.875}  # the width of a paper's column, and of both
PIXELS, POINTS = 96, 72  # in an inch
# What a page says once for all figures, or already.
SPARE = re.compile(
    r' (font-family|pointer-events|aria-hidden|aria-roledescription|role|class)="[^"]*"| (opacity|stroke-opacity|fill-opacity)="1"'
    r'|<path [^>]*d=""[^>]*/>|<path [^>]*d="M0,0h0v0h0Z"[^>]*/>'
)
PLACE = "data:,image-{:04d}"


@dataclass(frozen=True, eq=False)
class Figure:
    """`spec` draws `rows`: Vega-Lite without data, size and style.  `name` is its file's, `alt` says what it shows.

    `caption` stands below it in a paper.  A figure that is not `live` has nothing to point at or to switch off.

    >>> figure = Figure("a-b", "A", "One point.", [{"x": 1}], {"mark": "point", "encoding": {"x": {"field": "x"}}})
    >>> figure.whole()["data"], figure.svg()[:4]
    ({'values': [{'x': 1}]}, '<svg')
    """

    name: str
    title: str
    alt: str
    rows: Sequence[Row]
    spec: Spec
    size: tuple[int, int] = PANEL
    caption: str = ""
    live: bool = True

    def whole(self, width: int | None = None) -> dict[str, Any]:
        """The specification with everything it needs, `width` pixels wide in all; default: as on the page."""
        wide, high = self.size
        size = (
            {"width": wide, "height": high}
            if width is None
            else {"width": width, "height": round(high * min(1, width / wide))}
        )
        fit = {"autosize": {"type": "fit", "contains": "padding"}, "padding": 2}
        return {"data": {"values": [*self.rows]}} | size | fit | dict(self.spec) | {"config": CONFIG}

    @cached_property
    def table(self) -> Table:
        """The rows as a table: what is drawn, no more and no less."""
        columns = [*dict.fromkeys(name for row in self.rows for name in row)]
        return table(
            f"Data of {self.title}", columns, [[_cell(row.get(name)) for name in columns] for row in self.rows]
        )

    @cached_property
    def drawing(self) -> Markup:
        """The figure as it stands in a page before it is touched, and without JavaScript."""
        drawn = SPARE.sub("", _draw(self.whole()))
        prefix = f"f{crc32(f'{self.name} {self.alt}'.encode()):x}-"  # ids differ between the figures of a page
        drawn = re.sub(r'\bid="', f'id="{prefix}', drawn)
        return Markup(re.sub(r"url\(#", f"url(#{prefix}", drawn))

    def embedded(self) -> Markup:
        """The specification for a script element: nothing in it ends the element."""
        return embed(self.whole())

    def svg(self, inches: float | None = None) -> str:
        """The figure as a file of its own, in the colours of paper: so wide, by default as wide as on the page."""
        return _draw(on_paper(self.whole(None if inches is None else round(inches * PIXELS))))

    def pdf(self, inches: float | None = None) -> bytes:
        """The same as vector PDF; its text stays text."""

        def points(pixels: re.Match[str]) -> str:
            return f'{pixels[1]}="{float(pixels[2]) * POINTS / PIXELS:g}"'

        head, body = self.svg(inches).split("viewBox", 1)
        in_points = re.sub(r'\b(width|height)="([\d.]+)"', points, head)  # svg_to_pdf takes a pixel for a point
        return bytes(vl_convert.svg_to_pdf(f"{in_points}viewBox{body}"))


def _cell(value: str | float | None) -> Cell:
    """What a row says under one name; a dash where it says nothing."""
    return (
        Cell(value)
        if isinstance(value, str)
        else number(math.nan if value is None else value, f"{value:g}" if value is not None else "—")
    )


def figures_in(content: object) -> Iterator[Figure]:
    """The figures in what a page shows, wherever they are, in its order."""
    if isinstance(content, Figure):
        yield content
    elif isinstance(content, Mapping):
        for part in content.values():
            yield from figures_in(part)
    elif isinstance(content, list | tuple):
        for part in content:
            yield from figures_in(part)
    elif is_dataclass(content):
        for part in fields(content):
            yield from figures_in(getattr(content, part.name))


def embed(value: object) -> Markup:
    """JSON for a script element.

    >>> embed({"model": "</script><b>$%"})
    Markup('{"model":"\\\\u003c/script\\\\u003e\\\\u003cb\\\\u003e$%"}')
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def on_paper(spec: dict[str, Any]) -> dict[str, Any]:
    """The same with colours in place of the page's names for them."""
    plain: dict[str, Any] = json.loads(re.sub(r"var\(--(\w+)\)", lambda name: LIGHT[name[1]], json.dumps(spec)))
    return plain


@cache
def library() -> Markup:
    """Vega, Vega-Lite and Vega-Embed for a page, once: about 0.9 MB, and nothing is fetched."""
    return Markup(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _draw(spec: dict[str, Any]) -> str:
    """A specification as SVG.  Figures that differ in their image only are drawn once, and it is put in afterwards."""
    text = json.dumps(spec)
    images = re.findall(r"data:image/png;base64,[\w+/=]+", text)
    for i, image in enumerate(images):
        text = text.replace(image, PLACE.format(i))
    drawn = _drawn(text)
    for i, image in enumerate(images):
        drawn = drawn.replace(PLACE.format(i), image)
    return drawn


@lru_cache(maxsize=256)
def _drawn(spec: str) -> str:
    drawn = str(vl_convert.vegalite_to_svg(spec))
    return re.sub(r"(\.\d\d)\d+", r"\1", drawn)  # a hundredth of a pixel is enough
