"""Two or more models beside each other → one self-contained HTML page."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from avrobust.evaluation.versus import WORST, Contest, Versus
from avrobust.files import write_bytes
from avrobust.report import charts
from avrobust.report.export import PageTables
from avrobust.report.figures import Figure, figures_in
from avrobust.report.formatting import ATTACKED, at, listing
from avrobust.report.page import environment
from avrobust.report.sections.doubts import alike


def html(versus: Versus, command: str = "") -> str:
    """The page as text."""
    ends = [abs(end) for c in versus.contests for gap in c.gaps for end in (gap.low, gap.high)]
    content = {
        "versus": versus, "flags": [alike(raised) for raised in versus.flags], "groups": _groups(versus), "command": command, "worst": WORST,
        "extent": math.ceil(10 * max(ends, default=1.0)) / 10 or 1.0, "figures": [accuracies(versus), *differences(versus)],
        "title": listing(versus.names), "called": called,
    }  # fmt: skip
    return (
        environment()
        .get_template("templates/versus.html.j2")
        .render(content, shown=PageTables(), drawn=[*figures_in(content["figures"])])
    )


def write(versus: Versus, page: Path | str, command: str = "") -> Path:
    """Write the page, whole or not at all; returns its path."""
    return write_bytes(Path(page), html(versus, command).encode())


def _groups(versus: Versus) -> Mapping[str, list[Contest]]:
    """The conditions by what was attacked within which budget."""
    groups: dict[str, list[Contest]] = {}
    for c in versus.contests:
        clean = c.subset == "clean"
        groups.setdefault(ATTACKED[c.subset] + ("" if clean else f" within {at(c.subset, c.budget)}"), []).append(c)
    return groups


def called(c: Contest) -> str:
    """A condition without its budget."""
    return "Clean" if c.subset == "clean" else "Worst case" if c.attack == WORST else c.attack


def final(versus: Versus) -> dict[str, Contest]:
    """What decides, by what was attacked within which budget: clean, and of each budget the worst case or the only attack.

    Attacks that exceeded it are left out.
    """
    groups = ([c for c in contests if c.inside] for contests in _groups(versus).values())
    found = [inside[-1] for inside in groups if inside]
    budgets = {"A": ("A",), "V": ("V",), "AV": ("A", "V"), "clean": ()}
    return {"; ".join([ATTACKED[c.subset], *(at(part, c.budget) for part in budgets[c.subset])]): c for c in found}


def accuracies(versus: Versus) -> Figure:
    """Clean accuracy and the worst case of every model, by what was attacked."""
    shown = final(versus)
    rows = [
        {"attacked": where, "model": name} | charts.shares(e)
        for where, c in shown.items()
        for name, e in zip(versus.names, c.accuracy, strict=True)
    ]
    look = charts.looks(dict.fromkeys(versus.names, "AV"))
    title = f"Clean accuracy and the worst case of {listing(versus.names)}"
    spec = charts.bars("attacked", "model", look, ["attacked", "model", *charts.SHARES, "clips"])
    size = charts.bars_size(len(shown), len(look))
    return Figure(
        "accuracy",
        "Accuracy by what is attacked",
        f"{title}. {versus.answer}",
        rows,
        spec,
        size,
        f"{title}; lines are 95 % intervals.",
    )


def differences(versus: Versus) -> Iterator[Figure]:
    """Every model minus the first, in points, with the interval of the paired test; nothing without one."""
    names = ("difference, points", "from", "to")
    rows = [
        {"attacked": where, "model": name}
        | {key: round(100 * v, 2) for key, v in zip(names, (gap.difference, gap.low, gap.high), strict=True)}
        | {"p": round(gap.p, 4), "clips": gap.n}
        for where, c in final(versus).items()
        for name, gap in zip(versus.names[1:], c.gaps, strict=False)
    ]
    if not rows:
        return
    look = {
        name: own for name, own in charts.looks(dict.fromkeys(versus.names, "AV")).items() if name != versus.names[0]
    }
    title = f"Difference from {versus.names[0]}, paired clip by clip"
    yield Figure(
        "difference",
        title,
        f"{title}: {versus.answer}",
        rows,
        charts.differences("attacked", "model", look, names),
        charts.bars_size(len(final(versus)), len(look)),
        f"{title}, in points; lines are 95 % intervals, corrected for their number.",
    )
