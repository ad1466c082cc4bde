"""Which modality is attacked?  What the models that say so take for attacked, clean and attacked."""

from collections.abc import Mapping, Sequence
from typing import Any

from avrobust.evaluation.suspicion import CALLED, Suspicion, suspected
from avrobust.report import table
from avrobust.report.formatting import ATTACKED, physical
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.table import Column, Line, Table

HEADS = {"none": "none", "A": "audio", "V": "visual", "AV": "both"}


def by_model(found: Sequence[Suspicion], model: str) -> Table:
    """A row per attack and budget: area under the curve, what the model takes for attacked, and what slips through."""
    subsets = ("clean", *SUBSETS)
    own = sorted(
        (s for s in found if s.condition.model == model),
        key=lambda s: (subsets.index(s.condition.subset), s.condition.budget, s.condition.attack),
    )
    body: list[Line] = [
        [
            table.Cell(ATTACKED[s.condition.subset], _budget(s)),
            s.condition.attack,
            *map(table.share, s.auc.values()),
            *(table.share(s.called[name]) for name in CALLED),
            table.share(s.accuracy),
            table.share(s.unnoticed, role="strong"),
        ]
        for s in own
    ]
    heads = [
        Column("Attacked"), Column("Attack"), Column("audio", "AUC, %"), Column("visual", "AUC, %"),
        *(Column(HEADS[name], "Taken for attacked, %") for name in CALLED),
        Column("Accuracy where nothing is suspected"), Column("Wrong and unnoticed"),
    ]  # fmt: skip
    return table.table(f"What {model} suspects", heads, body)


def _budget(s: Suspicion) -> tuple[str, ...]:
    b = s.condition.budget
    return tuple(physical(m, name) for name, m in (("audio", b.audio), ("visual", b.visual)) if m.eps)


def data(run: Run) -> Mapping[str, Any] | None:
    found = suspected(run.table)
    if not found:
        return None
    models = dict.fromkeys(s.condition.model for s in found)
    worst = [max((s for s in found if s.condition.model == m), key=lambda s: s.unnoticed.value) for m in models]
    result = "; ".join(f"{s.condition.model}: up to {s.unnoticed} wrong and unnoticed" for s in worst[:2])
    return {"tables": [by_model(found, m) for m in models], "result": result}


SECTION = Section("suspicion", "Which modality is attacked?", data)
