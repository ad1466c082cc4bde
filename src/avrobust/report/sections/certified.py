"""Certified robustness: what smoothed models withstand for certain, beside what attacks on them leave correct."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from avrobust.evaluation.certified import Certified, certified, listed
from avrobust.evaluation.stats import percent
from avrobust.report import charts, table
from avrobust.report.figures import Figure
from avrobust.report.formatting import ATTACKED, anchor, at
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Line, Table

CERTIFIED = "certified"
STEPS = 80  # of a curve


def found_in(run: Run) -> list[Certified]:
    """One per model and certificate, in the order of the record."""
    order = [*run.record.models]
    found = certified(run.smoothed, run.table)
    return sorted(found, key=lambda c: order.index(c.model) if c.model in order else len(order))


def overview(found: Sequence[Certified]) -> Table:
    """A row per model and certificate: what smoothing costs, what it certifies, and how far."""
    body: list[Line] = []
    for c in found:
        kind = c.certificate
        half = kind.alone(float(np.median(c.reach)))
        body.append(
            [
                c.model,
                Cell(c.name, (f"{int(c.here['draws'].max()):,} votes, alpha {c.alpha:g}",)),
                table.share(c.base),
                table.share(c.accuracy(), role="strong"),
                table.share(c.abstained),
                *(table.number(size, f"{size:.3g}", kind.unit) if size else table.DASH for size in half),
            ]
        )
    heads = [
        "Model",
        "Smoothed by",
        "Clean accuracy",
        "Smoothed accuracy",
        "Abstained",
        "Audio alone",
        "Visual alone",
    ]
    below = (
        "Clean accuracy is that of the model itself. Smoothed accuracy, which is certified accuracy at distance 0: the smoothed "
        "model is right, and sure of it; where it abstains it is not. Audio alone, visual alone: up to which size of a perturbation half of the clips are certified, counting those that are not at all."
    )
    return table.table("What smoothing certifies", heads, body, below=below)


def beside(found: Sequence[Certified]) -> Table:
    """A row per attack on a smoothed model: the lower bound beside the upper one."""
    body: list[Line] = []
    for c in found:
        for a in c.attacks:
            subset = a.condition.subset
            crossed = f"broken: {listed(a.broken)}" if a.broken else "no"
            body.append(
                [
                    Cell(c.model),
                    Cell(ATTACKED[subset], (a.condition.attack, at(subset, a.condition.budget))),
                    table.number(a.distance, f"{a.distance:.3g}"),
                    table.share(a.certified),
                    table.share(a.correct, role="strong"),
                    crossed,
                ]
            )
    heads = ["Model", "Attacked", "Distance", "Certified: lower bound", "Correct: upper bound", "Certificate broken"]
    below = (
        "Distance: that of the largest perturbation, in the unit of the curves. Certified: the share of clips that no perturbation of that "
        "distance changes. Correct: the share that this attack, on the same smoothed model, leaves correct."
    )
    return table.table("Certified beside attacked", heads, body, below=below)


def curve(c: Certified) -> Figure:
    """Certified accuracy over the distance of a perturbation, and each attack where it belongs."""
    reach = c.reach
    far = max(
        [float(reach[np.isfinite(reach)].max(initial=0.0)), *(a.distance for a in c.attacks if np.isfinite(a.distance))]
    )
    far = 1.05 * far or 1.0
    rows = [
        {"bound": CERTIFIED, "distance": round(float(d), 4)} | charts.shares(c.accuracy(float(d)))
        for d in np.linspace(0, far, STEPS)
    ]
    rows += [
        {"bound": ATTACKED[a.condition.subset], "distance": round(a.distance, 4), "attack": a.condition.attack}
        | charts.shares(a.correct)
        for a in c.attacks
        if np.isfinite(a.distance)
    ]
    subsets = dict.fromkeys(a.condition.subset for a in c.attacks)
    look = charts.looks({CERTIFIED: "", **{ATTACKED[s]: s for s in subsets}})
    title = f"{c.model}: {c.name}"
    return Figure(
        anchor(f"certified {title}"),
        title,
        f"{title}. Certified accuracy falls from {percent(c.accuracy().value)} % to {percent(c.accuracy(far / 2).value)} % at half of the axis.",
        rows,
        _spec(c.certificate.axis, look),
        caption=f"Certified accuracy of {title} over the distance of a perturbation (line), and what attacks leave correct (marks); 95 % intervals.",
    )


def _spec(axis: str, look: Mapping[str, Any]) -> dict[str, Any]:
    value, low, high = charts.SHARES
    both, y = charts.by_series(look, "bound"), charts.percent_axis()
    x = {"field": "distance", "type": "quantitative", "axis": {"title": axis}}
    place = {"x": x, "color": both["color"], "opacity": charts.seen()}

    def of(bound: str) -> list[dict[str, Any]]:
        return [{"filter": {"field": "bound", "equal": bound}}]

    band = {
        "transform": of(CERTIFIED),
        "mark": {"type": "area", "interpolate": "step-after"},
        "encoding": place | {"y": y | {"field": low}, "y2": {"field": high}, "opacity": charts.seen(0.13)},
    }
    line = {
        "transform": of(CERTIFIED),
        "params": [charts.switch("bound")],
        "mark": {"type": "line", "interpolate": "step-after", "strokeWidth": 1.8},
        "encoding": place | {"y": y, "tooltip": charts.tooltip(["distance", value, low, high, "clips"])},
    }
    attacks = []
    for i, bound in enumerate(kinds := [*look][1:] or [""]):  # without points, the legend would show the line as one
        aside: dict[str, Any] = {
            "xOffset": 6 * (i - (len(kinds) - 1) / 2)
        }  # in pixels: attacks of equal size hide each other
        attacks += [
            {
                "transform": of(bound),
                "mark": {"type": "rule", "strokeWidth": 1.4} | aside,
                "encoding": place | {"y": y | {"field": low}, "y2": {"field": high}},
            },
            {
                "transform": of(bound),
                "mark": {"type": "point", "filled": True, "size": 60} | aside,
                "encoding": place | {"y": y, "shape": both["shape"], "tooltip": charts.tooltip(["bound", "attack", "distance", value, low, high, "clips"])},
            },
        ]  # fmt: skip
    return {"layer": [band, line, *attacks]}


def data(run: Run) -> Mapping[str, Any] | None:
    found = found_in(run)
    if not found:
        return None
    best = max(found, key=lambda c: c.accuracy().value)
    broken = sum(bool(a.broken) for c in found for a in c.attacks)
    attacks = sum(len(c.attacks) for c in found)
    crossed = f"; {broken} of {attacks} attacks break a certificate" if attacks else ""
    nearest = next((f", certified {a.certified} at distance {a.distance:.3g}" for a in best.attacks), "")
    return {
        "tables": [overview(found), *([beside(found)] if attacks else [])],
        "figures": [curve(c) for c in found],
        "result": f"{best.title}: smoothed accuracy {best.accuracy()}{nearest}{crossed}",
    }


SECTION = Section("certified", "Certified robustness", data)
