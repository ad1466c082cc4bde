"""The gradient at the clean clips, computed once per stream, whatever attacks, budgets and subsets begin there."""

import torch
from torch import Tensor

from avrobust.config import differ
from avrobust.engine.victim import ValueAndGrad, Victim
from avrobust.objectives import Objective, needs_of
from avrobust.threat import Threat
from avrobust.types import AV, Labels, PerClip, Signals


class CleanGradientCache:
    """Gradients at the clean clips, per objective and modality: each computed when it is first asked for.

    There, the audio's gradient is the same whatever may be done to the frames: FGSM on both at once, with any budgets,
    needs no more than FGSM on audio and FGSM on the frames have found.  Of a random feature defense, one draw serves them all.
    """

    def __init__(self, x: Signals, y: Labels) -> None:
        self.x, self.y = x, y
        self._found: list[tuple[tuple[object, ...], tuple[PerClip, Tensor, Tensor]]] = []

    def holds(self, x: Signals, delta: Signals | None, y: Labels, threat: Threat) -> bool:
        """Whether x + delta are the clean clips, with their labels, and anything may be done to them."""
        # A search that has left them has moved its first clip, as a rule: later steps pay for a look at that one.
        if delta is not None and any(bool(d[:1].any()) or bool(d.any()) for d in delta):
            return False
        return threat.subset != "clean" and all(map(_same, (*x, y), (*self.x, self.y)))

    def get(
        self,
        victim: Victim,
        setting: tuple[object, ...],
        objective: Objective,
        threat: Threat,
        ignored: set[str] | None,
    ) -> ValueAndGrad:
        """What `victim.value_and_grad` gives at the clean clips; `setting` is whatever else it depends on."""
        grads = {}
        for part in threat.subset:  # "A", "V"
            value, grads[part], won = self._of(part, victim, (part, objective, *setting), objective, ignored)
        return value, AV("A", "V").map(grads.get, threat.attacked(self.x)), won

    def _of(
        self, part: str, victim: Victim, key: tuple[object, ...], objective: Objective, ignored: set[str] | None
    ) -> tuple[PerClip, Tensor, Tensor]:
        for known, found in self._found:
            if not differ(known, key):
                return found
        threat = Threat.linf(audio=1.0, visual=1.0).only(part)
        alone = victim.fix_unattacked(self.x, threat, needs_of(objective))
        value, grad, won = alone.value_and_grad(objective, self.x, self.y, threat, ignored=ignored)
        self._found.append((key, (value, grad.audio if part == "A" else grad.visual, won)))
        return self._found[-1][1]


def _same(s: Tensor, kept: Tensor) -> bool:
    return s.dtype == kept.dtype and torch.equal(s, kept)
