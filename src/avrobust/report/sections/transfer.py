"""Whether clips crafted on one model fool the others: attack success by surrogate and victim."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from avrobust.evaluation.stats import percent
from avrobust.facts import Budget
from avrobust.report import table
from avrobust.report.formatting import ATTACKED, at, joined
from avrobust.report.measured import success
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table
from avrobust.report.transfers import Transferred, transfers


def tables(run: Run) -> list[Table]:
    """A table for each set of attacked modalities and budgets: rows are attacks and surrogates, columns victims."""
    by_budget: dict[tuple[str, Budget], list[Transferred]] = defaultdict(list)
    for found in transfers(run):
        by_budget[found.subset, found.budget].append(found)
    made = []
    for (subset, budget), every in by_budget.items():
        victims = [m for m in run.record.models if any(m in t.victims for t in every)]
        body: list[Line] = []
        for t in every:
            cells = [table.share(success(t.victims.get(m)), role="muted" if m == t.surrogate else "") for m in victims]
            body.append([t.attack, t.surrogate, *cells, table.share(t.transfer, role="strong")])
        heads = ["Attack", "Surrogate", *victims, "Mean of the others"]
        title = joined(ATTACKED[subset], at(subset, budget))
        made.append(
            table.table(
                title, heads, body,
                below="Attack success: of the clips that the victim classifies correctly when clean, the share that it misclassifies now. "
                "Muted: white-box, on the surrogate itself.",
            )
        )  # fmt: skip
    return made


def data(run: Run) -> Mapping[str, Any] | None:
    found = transfers(run)
    if not found:
        return None
    best = max(found, key=lambda t: t.transfer.value if t.transfer.n else -1.0)
    result = f"{best.attack} from {best.surrogate} fools the others on {percent(best.transfer.value)} % of the clips"
    return {"tables": tables(run), "result": result}


SECTION = Section("transfer", "Transfer to other models", data)
