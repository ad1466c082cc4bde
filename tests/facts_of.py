"""What rows say of attacks that never ran: the facts behind the names that tests give them."""

import re
from dataclasses import asdict, replace

from avrobust.facts import AttackInfo, Budget, ModalityBudget

SEARCH = re.compile(r"(FGSM|PGD|MIM|APGD|Square|AVAutoAttack)(?:-(\d+))?(?: published)?(?: \((.+?)\))?(?: from (.+))?")


def facts_of(attack: str) -> dict[str, object]:
    """Columns of rows; of a name that is none of ours, that nothing is known."""
    m = SEARCH.fullmatch(attack)
    if not m:
        return asdict(AttackInfo())
    family, steps, objective, source = m.groups()
    search = {"Square": "queries", "AVAutoAttack": "worst case"}.get(family, "gradient")
    info = AttackInfo(family, int(steps or 1), 1, objective or "cross_entropy", search=search)
    return asdict(replace(info, on_answer=objective != "attention moved", source=source or ""))


def budget_of(audio: float = 0.0, visual: float = 0.0, norm: str = "linf", visual_unit: str = "linear") -> Budget:
    """Budgets of these sizes; 0 for a modality that is not attacked."""
    parts = ((audio, "linear"), (visual, visual_unit))
    return Budget(*(ModalityBudget(float(eps), norm, unit) if eps else ModalityBudget() for eps, unit in parts))
