"""AVAutoAttack: several searches, each on the clips that the ones before it left standing; nothing to tune.

What a robust accuracy is worth depends on the strongest attack that was tried.  Different searches fail on different
models: a loss that saturates, a gradient that vanishes, a step of the wrong length.  Their worst case per clip fails
on few.  On two modalities there is one more way to be weak: a joint search may miss what an attack on one modality
finds.  So those come first, and the joint searches also start from what they found.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from avrobust.attacks import engine
from avrobust.attacks.apgd import APGD
from avrobust.attacks.gradient import concise, random_start, shift
from avrobust.attacks.square import Square
from avrobust.objectives import cross_entropy, dlr, margin
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Model, Objective, Signals


@dataclass(frozen=True, repr=False)
class AVAutoAttack:
    """The worst case per clip over APGD with three losses, from several starts, and Square.

    At the budgets of both modalities, in this order, each on the clips that still stand: APGD with cross entropy on
    sound alone and on picture alone; on both, from both of these solutions at once; on both from random starts, with
    cross entropy, the margin, and DLR (of three classes or more); Square (linf budgets only).  Where only one
    modality may be touched, that one's searches.

    `steps` and `queries` say how long each search goes on.  Attacking both is never weaker than attacking one with
    the same budgets, as what fools a clip alone is kept.

    >>> AVAutoAttack().name
    'AVAutoAttack'
    """

    steps: int = 50
    queries: int = 500

    def __repr__(self) -> str:
        return concise(self)

    @property
    def name(self) -> str:
        """How a table calls it."""
        return "AVAutoAttack"

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`: where nothing fooled the model, what came closest to it."""
        if threat.subset == "clean":
            return x
        found = engine.Found(x, threat)
        work = engine.Work.of(engine.pinned(model, x, threat), x, y, seeds)
        _clean, wrong = work.value(margin, x)
        found.settle(work.clips[wrong], x.map(lambda s: torch.zeros_like(s[wrong])))
        work = work.take(~wrong)
        starts = x.map(torch.zeros_like)
        if threat.subset == "AV" and len(work):
            for part in threat.subsets()[:2]:
                work, reached = self._alone(model, x, y, part, seeds, work, found)
                starts = starts.map(torch.add, reached)
            if len(work):
                work = self._from(starts.map(lambda s: s[work.clips]), cross_entropy, work, threat, found)
        losses: tuple[Objective, ...] = (cross_entropy, margin, *((dlr,) if _classes(model, x) > 2 else ()))
        for restart, objective in enumerate(losses):
            if len(work):
                start = random_start(work.x, threat, work.seeds, restart)
                work = self._from(start, objective, work, threat, found)
        if len(work) and all(ball.norm == "linf" or not ball.active for ball in threat):
            adversarial = Square(queries=self.queries)(work.model, work.x, work.y, threat, work.seeds)
            value, _ = work.value(margin, adversarial)
            found.offer(work.clips, value, adversarial.map(torch.sub, work.x))
        return shift(x, found.delta, threat)

    def _alone(
        self, model: Model, x: Signals, y: Tensor, part: Threat, seeds: Seeds, work: engine.Work, found: engine.Found
    ) -> tuple[engine.Work, Signals]:
        """APGD on one modality, the other's stream computed once; what it reached is returned for a joint start."""
        on = torch.zeros_like(y, dtype=torch.bool)
        on[work.clips] = True
        alone = engine.Work.of(engine.pinned(model, x, part), x, y, seeds).take(on)
        reached = engine.Found(x, part)
        if len(alone):
            start = random_start(alone.x, part, alone.seeds, 0)
            left = APGD(steps=self.steps).search(alone, start, part, reached)
            stands = torch.isin(work.clips, left.clips)
            fooled = work.clips[~stands]
            found.settle(fooled, reached.delta.map(lambda d: d[fooled]))
            work = work.take(stands)
        return work, reached.delta

    def _from(
        self, start: Signals, objective: Objective, work: engine.Work, threat: Threat, found: engine.Found
    ) -> engine.Work:
        """APGD on all that may be touched; what it finds counts by its margin, whatever it raised."""
        own = engine.Found(work.x, threat)
        here = engine.Work(work.model, work.x, work.y, work.seeds, torch.arange(len(work), device=work.y.device))
        left = APGD(steps=self.steps, objective=objective).search(here, start, threat, own)
        value, _ = work.value(margin, shift(work.x, own.delta, threat))
        fooled = torch.ones(len(work), dtype=torch.bool, device=work.y.device)
        fooled[left.clips] = False
        found.offer(work.clips, value, own.delta)
        found.settle(work.clips[fooled], own.delta.map(lambda d: d[fooled]))
        return work.take(~fooled)


@torch.no_grad()
def _classes(model: Model, x: Signals) -> int:
    """How many classes the model tells apart: asked of one clip."""
    return int(model(x.map(lambda s: s[:1])).shape[1])
