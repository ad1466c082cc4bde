"""How robust the models are where nobody attacks: natural corruptions, missing modalities and gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

from avrobust.evaluation import natural
from avrobust.evaluation.natural import MissingRobustness, NaturalRobustness
from avrobust.evaluation.stats import Estimate, percent
from avrobust.report import charts, table
from avrobust.report.figures import Figure, Spec
from avrobust.report.formatting import MODEL, anchor, listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table

HIT = {"A": "Audio", "V": "Visual", "AV": "Both"}  # the modalities that are corrupted, or incomplete


def summaries(run: Run) -> list[NaturalRobustness]:
    """One per model and corrupted modality, in the order of the record; beside the baseline, else the first audio-visual model."""
    order = [*run.record.models]
    found = natural.summaries(run.table, run.corrupted, run.role("baseline") or run.model("AV"))
    return sorted(
        found, key=lambda s: ([*HIT].index(s.subset), order.index(s.model) if s.model in order else len(order))
    )


def overview(found: Sequence[NaturalRobustness], baseline: str | None) -> Table:
    """Accuracy over all corruptions, and what is left of clean accuracy."""
    body: list[Line] = [
        [
            *(HIT[s.subset], s.model),
            *(table.share(s.clean), table.share(s.accuracy, role="strong"), table.share(s.relative)),
            *(table.share(s.mce) if s.mce else table.DASH, table.points(s.effective)),
        ]
        for s in found
    ]
    heads = ["Corrupted", "Model", "Clean", "Corrupted, mean", "Relative", "mCE", "Effective, points"]
    below = (
        "Means over kinds and severities, with 95 % intervals over clips. Relative: corrupted over clean accuracy. "
        f"mCE: the mean over kinds of the error over that of {baseline}; below 100 is better. Effective: points of accuracy "
        f"that {baseline} loses more."
    )
    return table.table("Accuracy under natural corruptions", heads, body, below=below)


def by_severity(run: Run, found: Sequence[NaturalRobustness]) -> list[Figure]:
    """Means over kinds, from clean clips on; a panel for each corrupted modality."""
    axis = {"title": "severity", "values": [0, 1, 2, 3, 4, 5], "format": "d"}
    return [
        _curves(
            run, f"severity {subset}", f"{HIT[subset]} corrupted", "severity", axis,
            {s.model: {0: s.clean, **s.by_severity} for s in found if s.subset == subset},
            "Accuracy over the severity of natural corruptions, means over kinds; severity 0 is clean.",
        )
        for subset in dict.fromkeys(s.subset for s in found)
    ]  # fmt: skip


def _curves(
    run: Run, name: str, title: str, over: str, axis: Spec, lines: Mapping[str, Mapping[Any, Estimate]], caption: str
) -> Figure:
    """A line for each model."""
    rows = [
        {"model": model, over: at} | charts.shares(value)
        for model, line in lines.items()
        for at, value in sorted(line.items())
    ]
    x = {"field": over, "type": "quantitative", "axis": axis}
    spec = charts.lines(x, ["model", over, *charts.SHARES, "clips"], charts.looks({m: run.kind(m) for m in lines}))
    ends = {m: (line[min(line)], line[max(line)]) for m, line in lines.items()}
    told = (f"{m}: from {percent(first.value)} % to {percent(last.value)} %" for m, (first, last) in ends.items())
    return Figure(anchor(name), title, f"{title}. {'; '.join(told)}.", rows, spec, caption=f"{title}. {caption}")


def by_kind(found: Sequence[NaturalRobustness], subset: str) -> Table:
    """Means over severities, a row for each kind."""
    own = [s for s in found if s.subset == subset]
    kinds = dict.fromkeys(kind for s in own for kind in s.by_kind)
    body: list[Line] = [
        [kind.capitalize(), *(table.share(s.by_kind[kind]) if kind in s.by_kind else table.DASH for s in own)]
        for kind in kinds
    ]
    return table.table(f"{HIT[subset]} corrupted, by kind", ["Kind", *(s.model for s in own)], body)


def incomplete(run: Run, found: Sequence[MissingRobustness]) -> dict[str, list[Figure]]:
    """Accuracy by the share that is missing: of clips without a modality, and of clips with a gap."""
    titles = {"missing": "Clips without a modality", "gap": "Gaps within clips"}
    axis = {"title": "share that is missing (%)", "values": [0, 25, 50, 75, 100]}
    made: dict[str, list[Figure]] = {}
    for what, apart, subset in dict.fromkeys((m.what, m.apart, m.subset) for m in found):
        own = [m for m in found if (m.what, m.apart, m.subset) == (what, apart, subset)]
        title = titles.get(what, what.capitalize()) + (", each modality its own" if apart else "")
        lines = {m.model: {0.0: m.clean} | {100 * share: e for share, e in m.by_share.items()} for m in own}
        panel = f"{HIT[subset]} incomplete"
        name, caption = f"{title} {subset}", f"{title}: accuracy over the share that is missing; 0 is clean."
        made.setdefault(title, []).append(_curves(run, name, panel, "share", axis, lines, caption))
    return made


def data(run: Run) -> Mapping[str, Any] | None:
    found, gone = summaries(run), natural.missing(run.table, run.incomplete)
    if not found and not gone:
        return None
    baseline = run.role("baseline") or run.model("AV")
    tables = [overview(found, baseline)] if found else []
    kinds = [by_kind(found, s) for s in HIT if any(f.subset == s for f in found)]
    told = {
        m: listing([f"{s.accuracy} with {HIT[s.subset].lower()} corrupted" for s in found if s.model == m])
        for m in dict.fromkeys(filter(None, (run.subject, run.model("A"), run.model("V"))))
    }
    result = "; ".join(f"the {MODEL[run.kind(m)]} model keeps {numbers}" for m, numbers in told.items() if numbers)
    panels = ({"By severity": by_severity(run, found)} if found else {}) | incomplete(run, gone)
    return {"tables": tables, "panels": panels, "kinds": kinds, "result": f"Nobody attacks: {result}" if result else ""}


SECTION = Section("natural", "Natural corruptions", data)
