"""What tables of the page share: a number with its count and interval, the paper's beside it, and means over columns."""

from collections.abc import Mapping
from dataclasses import dataclass

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, among, avg_all, avg_attacked, estimate
from avrobust.report.paper import same_budgets
from avrobust.report.run import SUBSETS, Level, Run


@dataclass(frozen=True)
class Measured:
    """One number of a table; `printed` is the paper's, in per cent, None where it has none.

    `success`: of the clips that were correct when clean, the share that the attack turned wrong.
    """

    ours: Estimate
    printed: float | None = None
    success: Estimate = MISSING


def measure(predictions: Predictions | None, printed: float | None = None) -> Measured:
    """Accuracy under one condition, and the attack's success; missing stays missing."""
    return Measured(accuracy(predictions), printed, success(predictions))


def accuracy(predictions: Predictions | None) -> Estimate:
    """The share of correct predictions with its interval; missing stays missing."""
    return MISSING if predictions is None else estimate(predictions["correct"].astype(float))


def success(predictions: Predictions | None) -> Estimate:
    """The attack success rate: of the clips correct when clean, the share that is wrong now."""
    if predictions is None or predictions.condition.subset == "clean":
        return MISSING
    return among(~predictions["correct"], predictions["correct_clean"])


def average(columns: Mapping[str, Predictions | None], *, clean: bool = False) -> Estimate:
    """`avg_attacked`, or with `clean` `avg_all`, over the clips that all these conditions share."""
    found = [columns.get(s) for s in (("clean", *SUBSETS) if clean else SUBSETS)]
    known = [p for p in found if p is not None]
    if len(known) < len(found):
        return MISSING
    return estimate((avg_all if clean else avg_attacked)(*(p["correct"].astype(float) for p in shared(*known))))


def heading(run: Run, level: Level, *, defenses: bool = False) -> str:
    """What is said above a table of one set of budgets, beside a paper; nothing without one."""
    printed = run.paper and (run.paper.eps_defense if defenses else run.paper.eps_attack)
    if not printed:
        return ""
    return "At the paper's budgets" if same_budgets(level, printed) else "At other budgets"


def clips_differ(run: Run) -> str:
    """That clean columns are over other clips than attacked ones, as a sentence; nothing where they are the same."""
    model = run.subject
    clean = run.clean(model)
    attacked = [set(p.clips) for c, p in run.table.items() if c.model == model and c.subset != "clean"]
    if clean is None or not attacked:
        return ""
    fewest = min(attacked, key=len)
    if len(fewest) >= len(clean.clips):
        return ""
    return (
        f"Clean accuracy is over all {len(clean.clips)} readable test clips, robust accuracy over {len(fewest)} of them. "
        "Differences and means are over the clips that both sides share."
    )
