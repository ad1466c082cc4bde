"""The parts that several figures share, in Vega-Lite: series in colours of their modality, intervals, axes in per cent."""

from collections.abc import Mapping, Sequence
from typing import Any

from avrobust.evaluation.stats import Estimate
from avrobust.report.figures import AUDIO, INK, MUTED, VISUAL, WIDE, Row, Spec
from avrobust.report.formatting import ATTACKED

# By modality; variants differ in colour, dash and mark.
COLOURS = {
    "AV": (INK, *(f"var(--{name})" for name in ("purple", "good", "magenta", "teal", "amber"))),
    "A": (AUDIO,),
    "V": (VISUAL,),
}
MARKS = {"AV": ("circle", "diamond", "cross", "triangle-down"), "A": ("square",), "V": ("triangle-up",)}
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])
LEVEL = {"dash": [5, 3], "mark": "stroke"}  # of a number that does not depend on the axis
ACCURACY = "accuracy (%)"
SHARES = ("accuracy, %", "from", "to")  # a number with the ends of its 95 % interval
SUCCESS = ("attack success, %", "from", "to")


def shares(e: Estimate, names: tuple[str, str, str] = SHARES) -> dict[str, Any]:
    """A fraction and its interval in per cent, with the clips it is of; nothing where it is missing."""
    if not e.n:
        return {}
    value, low, high = (round(100 * v, 2) for v in (e.value, e.low, e.high))
    return dict(zip(names, (value, low, high), strict=True)) | {"clips": e.n}


def looks(kinds: Mapping[str, str], levels: Sequence[str] = ()) -> dict[str, Row]:
    """By series, its colour, dash and mark: `kinds` says the modalities ("AV", "A", "V"; "" for none) of each.

    >>> looks({"one": "AV", "two": "AV", "three": "A"})["two"]
    {'colour': 'var(--purple)', 'dash': [6, 3], 'mark': 'diamond'}
    """
    found: dict[str, Row] = {}
    for kind in dict.fromkeys(kinds.values()):
        for i, name in enumerate(n for n, k in kinds.items() if k == kind):
            colours, marks = COLOURS.get(kind, (MUTED,)), MARKS.get(kind, ("stroke",))
            own = {"colour": colours[i % len(colours)], "dash": DASHES[i % len(DASHES)], "mark": marks[i % len(marks)]}
            found[name] = own | (LEVEL if name in levels else {})
    return {name: found[name] for name in kinds}


def by_series(look: Mapping[str, Row], name: str) -> dict[str, Any]:
    """The channels that tell series apart, with a legend that switches them."""

    def scale(part: str) -> Spec:
        return {"domain": [*look], "range": [own[part] for own in look.values()]}

    field = {"field": name, "type": "nominal"}
    legend = {"title": None, "symbolOpacity": 1, "columns": 1 if max(map(len, look), default=0) > 22 else 2}
    return {
        "color": field | {"scale": scale("colour"), "legend": legend},
        "shape": field | {"scale": scale("mark"), "legend": legend},
        "strokeDash": field | {"scale": scale("dash"), "legend": None},
    }


def seen(opacity: float = 1.0) -> Spec:
    """A series as it is; faint while the legend has others switched on."""
    return {"condition": {"param": "series", "value": opacity}, "value": 0.04}


def switch(name: str) -> Spec:
    """A click on a name of the legend shows that series alone, further clicks add others, a double click shows all."""
    return {"name": "series", "select": {"type": "point", "fields": [name], "toggle": "true"}, "bind": "legend"}


# Drag to move; the wheel zooms only with a key, so that a page still scrolls; a double click goes back.
ZOOM: Spec = {
    "name": "zoom", "select": {"type": "interval", "zoom": "wheel![event.ctrlKey || event.metaKey || event.shiftKey]"}, "bind": "scales",
}  # fmt: skip


def percent_axis(title: str = ACCURACY, field: str = SHARES[0]) -> dict[str, Any]:
    """Accuracy upwards, from 0 to 100 %."""
    axis = {"title": title, "values": [0, 25, 50, 75, 100]}
    return {"field": field, "type": "quantitative", "scale": {"domain": [0, 100]}, "axis": axis}


def tooltip(columns: Sequence[str]) -> list[Row]:
    """What is shown of a row that is pointed at."""
    return [{"field": name} for name in columns]


def lines(
    x: Spec,
    columns: Sequence[str],
    look: Mapping[str, Row],
    series: str = "model",
    *,
    band: bool = True,
    marked: bool = True,
    title: str = ACCURACY,
    names: tuple[str, str, str] = SHARES,
) -> Spec:
    """Series over an axis: a line, a mark for each value unless they are too many, and a band for its interval."""
    both = by_series(look, series)
    colour = {"color": both["color"]}
    y, low, high = percent_axis(title, names[0]), *names[1:]
    bands = {
        "mark": {"type": "area", "clip": True},
        "encoding": {"x": x, "y": y | {"field": low}, "y2": {"field": high}, "opacity": seen(0.13), **colour},
    }
    stroke = {
        "mark": {"type": "line", "clip": True, "strokeWidth": 1.8},
        "encoding": {"x": x, "y": y, "opacity": seen(), "strokeDash": both["strokeDash"], **colour},
        "params": [switch(series), ZOOM],
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 42, "clip": False},
        "encoding": {"x": x, "y": y, "opacity": seen(), "shape": both["shape"], "tooltip": tooltip(columns), **colour},
    }
    apart = {part: {"strokeDash": "independent"} for part in ("scale", "legend")}  # or the legend's marks were dashed
    return {"layer": [*([bands] if band else []), stroke, *([points] if marked else [])], "resolve": apart}


def bars(group: str, series: str, look: Mapping[str, Row], columns: Sequence[str]) -> Spec:
    """A bar with its interval for each series in each group, groups downwards."""
    place, (_, low, high) = _places(group, series, look), SHARES
    bar = {
        "mark": {"type": "bar", "height": {"band": 0.82}},
        "params": [switch(series)],
        "encoding": place | {"x": percent_axis(), "opacity": seen(0.55), "tooltip": tooltip(columns)},
    }
    return {"layer": [bar, _interval(place, percent_axis(), low, high)]}


def differences(group: str, series: str, look: Mapping[str, Row], names: Sequence[str]) -> Spec:
    """A mark with its interval for each series in each group, beside a line at 0; `names` are (value, low, high)."""
    value, low, high = names
    place = _places(group, series, look)
    x = {"field": value, "type": "quantitative", "axis": {"title": "difference in accuracy (points)", "grid": True}}
    zero = {"mark": {"type": "rule", "color": MUTED}, "encoding": {"x": {"datum": 0}}}
    mark = {
        "mark": {"type": "point", "filled": True, "size": 60},
        "params": [switch(series)],
        "encoding": place | {"x": x, "opacity": seen(), "tooltip": tooltip([group, series, *names, "p", "clips"])},
    }
    return {"layer": [zero, _interval(place, x, low, high), mark]}


def _places(group: str, series: str, look: Mapping[str, Row]) -> dict[str, Any]:
    axis = {"title": None, "labelLimit": 230, "labelExpr": "split(datum.label, '; ')", "ticks": False, "domain": False}
    return {
        "y": {"field": group, "type": "nominal", "sort": None, "axis": axis},
        "yOffset": {"field": series, "type": "nominal", "sort": [*look]},
        "color": by_series(look, series)["color"],
    }


def _interval(place: Spec, x: Spec, low: str, high: str) -> Spec:
    ends = {"x": {**x, "field": low}, "x2": {"field": high}, "opacity": seen()}
    return {"mark": {"type": "rule", "strokeWidth": 1.6}, "encoding": {**place, **ends}}


def by_condition(subsets: Sequence[str]) -> dict[str, Row]:
    """The looks of what is attacked, by its name; for bars."""
    colours = {"clean": MUTED, "A": AUDIO, "V": VISUAL, "AV": INK}
    return {ATTACKED[s]: {"colour": colours[s], "mark": "square", "dash": [1, 0]} for s in subsets}


def bars_size(groups: int, series: int, width: int = WIDE[0]) -> tuple[int, int]:
    """Room for so many bars, their axis and their legend."""
    return width, 90 + groups * max(8 + 15 * series, 46)
