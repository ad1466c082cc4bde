"""Attacks on models that their clips were not crafted on: attack success by surrogate and victim."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import Estimate, among
from avrobust.facts import AttackInfo, Budget
from avrobust.report.measured import success
from avrobust.report.run import Run


@dataclass(frozen=True)
class Transferred:
    """One attack inside one budget on one surrogate: the predictions of each victim, the surrogate itself among them."""

    attack: str
    info: AttackInfo
    subset: str
    budget: Budget
    surrogate: str
    victims: Mapping[str, Predictions]

    @property
    def others(self) -> list[Predictions]:
        """The victims that the clips were not crafted on."""
        return [p for model, p in self.victims.items() if model != self.surrogate]

    @property
    def white_box(self) -> Estimate:
        """Attack success on the surrogate."""
        return success(self.victims.get(self.surrogate))

    @property
    def transfer(self) -> Estimate:
        """Attack success on the others, over all pairs of a victim and a clip that it classifies correctly when clean."""
        return pooled(self.others)


# The facts of an attack on the surrogate itself, its mode, what is attacked, the budget, the surrogate.
Key = tuple[AttackInfo, str, str, Budget, str]


def pooled(victims: Sequence[Predictions]) -> Estimate:
    """Attack success over several victims; a clip is one observation, whatever the number of victims that it meets."""
    if not victims:
        return success(None)
    same = shared(*victims)
    kept, right = (np.concatenate([p[column] for p in same]) for column in ("correct", "correct_clean"))
    return among(~kept, right)


def transfers(run: Run) -> list[Transferred]:
    """All attacks that met a model on which they were not crafted, in the order of tables."""
    found: dict[Key, dict[str, Predictions]] = defaultdict(dict)
    own: dict[Key, str] = {}
    for c, p in run.table.items():
        if p.info.family and c.subset != "clean":
            info = replace(p.info, source="")
            key = info, p.mode, c.subset, c.budget, p.info.source or c.model
            found[key][c.model] = p
            if not p.info.source:
                own[key] = c.attack
    order = [*run.infos]
    made = [
        Transferred(own[key], info, subset, budget, surrogate, victims)
        for key, victims in found.items()
        for info, _, subset, budget, surrogate in [key]
        if key in own and any(model != surrogate for model in victims)
    ]
    return sorted(made, key=lambda t: (t.subset, t.budget, order.index(t.attack), t.surrogate))
