"""Whether clips crafted on one model fool the others: attack success by surrogate and victim."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from avrobust.facts import Budget
from avrobust.report import table
from avrobust.report.formatting import ATTACKED, at, joined
from avrobust.report.measured import success
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.claims import claims, counted
from avrobust.report.table import Cell, Column, Line, Table
from avrobust.report.transfers import Transferred, transfers


def tables(run: Run) -> list[Table]:
    """A table for each surrogate, set of attacked modalities and budgets: rows are attacks, columns victims."""
    grouped: dict[tuple[str, Budget, str], list[Transferred]] = defaultdict(list)
    for found in transfers(run):
        grouped[found.subset, found.budget, found.surrogate].append(found)
    made = []
    for (subset, budget, surrogate), every in grouped.items():
        victims = [m for m in run.record.models if m != surrogate and any(m in t.victims for t in every)]
        body: list[Line] = [
            [
                t.attack,
                table.share(t.white_box, role="muted"),
                *(table.share(success(t.victims.get(m))) for m in victims),
                *([_together(t, victims)] if len(victims) > 1 else []),
            ]
            for t in every
        ]
        together: list[Column] = [Column("together", "Victims")] if len(victims) > 1 else []
        heads: list[str | Column] = [
            "Attack",
            Column(surrogate, "White-box"),
            *(Column(m, "Victims") for m in victims),
            *together,
        ]
        title = joined(f"Crafted on {surrogate}", ATTACKED[subset].lower(), at(subset, budget))
        made.append(table.table(title, heads, body, below=READ))
    return made


def _together(t: Transferred, victims: Sequence[str]) -> Cell:
    """Attack success over all victims; of an attack that met some of them only, nothing that could be compared."""
    return table.share(t.transfer, role="strong") if all(m in t.victims for m in victims) else table.DASH


READ = (
    "Attack success: of the clips that a model classifies correctly when clean, the share that it misclassifies now. "
    "Together: over all pairs of a victim and a clip."
)


def data(run: Run) -> Mapping[str, Any] | None:
    found = transfers(run)
    if not found:
        return None
    best = max(found, key=lambda t: t.transfer.value if t.transfer.n else -1.0)
    where = "its victim" if len(best.others) == 1 else "its victims"
    result = f"{best.attack} from {best.surrogate} transfers best and fools {where} on {best.transfer}"
    asked = [c for c in claims(run) if c.family == "transfer" and c.comparisons]
    verdicts = f"claims about transfer: {counted(asked)}" if asked else ""
    return {"tables": tables(run), "result": "; ".join(filter(None, (verdicts, result)))}


SECTION = Section("transfer", "Transfer to other models", data)
