"""How robust the models are where nobody attacks: natural corruptions, missing modalities and gaps."""

from collections.abc import Mapping, Sequence
from typing import Any

from avrobust.evaluation import natural
from avrobust.evaluation.natural import MissingRobustness, NaturalRobustness
from avrobust.evaluation.stats import percent
from avrobust.report import table
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


def by_severity(found: Sequence[NaturalRobustness]) -> Table:
    """Means over kinds."""
    severities = sorted({severity for s in found for severity in s.by_severity})
    body: list[Line] = [
        [
            HIT[s.subset],
            s.model,
            *(table.share(s.by_severity[n]) if n in s.by_severity else table.DASH for n in severities),
        ]
        for s in found
    ]
    return table.table("By severity", ["Corrupted", "Model", *map(str, severities)], body)


def by_kind(found: Sequence[NaturalRobustness], subset: str) -> Table:
    """Means over severities, a row for each kind."""
    own = [s for s in found if s.subset == subset]
    kinds = dict.fromkeys(kind for s in own for kind in s.by_kind)
    body: list[Line] = [
        [kind.capitalize(), *(table.share(s.by_kind[kind]) if kind in s.by_kind else table.DASH for s in own)]
        for kind in kinds
    ]
    return table.table(f"{HIT[subset]} corrupted, by kind", ["Kind", *(s.model for s in own)], body)


def incomplete(found: Sequence[MissingRobustness]) -> list[Table]:
    """Accuracy by the share that is missing: of clips without a modality, and of clips with a gap."""
    titles = {"missing": "Clips without a modality", "gap": "Gaps within clips"}
    made = []
    for what, apart in dict.fromkeys((m.what, m.apart) for m in found):
        own = [m for m in found if (m.what, m.apart) == (what, apart)]
        shares = sorted({share for m in own for share in m.by_share})
        body: list[Line] = [
            [
                HIT[m.subset],
                m.model,
                table.share(m.clean),
                *(table.share(m.by_share[s]) if s in m.by_share else table.DASH for s in shares),
            ]
            for m in own
        ]
        title = titles.get(what, what.capitalize()) + (", each modality its own" if apart else "")
        heads = ["Missing from", "Model", "Clean", *(f"{100 * s:g} %" for s in shares)]
        made.append(table.table(title, heads, body))
    return made


def data(run: Run) -> Mapping[str, Any] | None:
    found, gone = summaries(run), natural.missing(run.table, run.incomplete)
    if not found and not gone:
        return None
    baseline = run.role("baseline") or run.model("AV")
    tables = [
        overview(found, baseline),
        by_severity(found),
        *(by_kind(found, s) for s in HIT if any(f.subset == s for f in found)),
    ]
    mine = [s for s in found if s.model == run.subject]
    kept = [
        f"{percent(s.relative.value)} % of clean accuracy left with {HIT[s.subset].lower()} corrupted" for s in mine
    ]
    return {"tables": (tables if found else []) + incomplete(gone), "result": "; ".join(kept)}


SECTION = Section("natural", "Natural corruptions", data)
