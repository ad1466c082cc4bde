"""AVAutoAttack: several searches without settings to tune, each on the clips that survived the ones before.

A robust accuracy is only as good as the strongest attack behind it.  Different searches fail on different models: a loss
saturates, a gradient vanishes or misleads, a step has the wrong length.  The worst case over them, clip by clip, rarely
fails.  With two modalities there is one more weakness: a joint search may miss what an attack on one modality finds.  So
the clips that survive the joint searches are attacked on each modality alone as well.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks.adaptive import ways
from avrobust.attacks.apgd import APGD
from avrobust.attacks.base import check_settings, goal, search_info
from avrobust.attacks.search import ActiveSet, BestSoFar, Search, random_start
from avrobust.attacks.square import Square
from avrobust.config import concise
from avrobust.engine import GradientError, Victim, Way
from avrobust.facts import AttackInfo
from avrobust.objectives import (
    Objective,
    Raised,
    Undetected,
    as_objective,
    cross_entropy,
    dlr,
    dlr_towards,
    margin,
)
from avrobust.progress import part
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import InputError, Labels, Model, Signals


@dataclass(frozen=True, repr=False)
class AVAutoAttack:
    """The worst case per clip over APGD with several losses and starts, ways around the defense, and Square.

    In this order, each on the clips that survive, from random starts unless stated otherwise:
    1. APGD with cross entropy and the margin: of the model, then adaptively along each of the `adaptive.ways` around a defense;
    2. APGD with DLR (of three classes or more); with the margin while it hides, where the model says which modality it takes for
       attacked;
    3. targeted DLR towards the `targets` classes that are most likely on the clean clip (of four classes or more);
    4. Square, where all budgets are linf;
    5. where both modalities are attacked: 1 to 4 on audio alone and on visual alone, then APGD with the margin from the
       sum of both results, and again from there, moving one modality at a time.
    Success is judged by the model itself, whatever gradients were taken of.  Attacking both modalities is never weaker
    than attacking one within the same budget, clip by clip.  `steps` and `queries` bound each search.

    With an `objective`, which `evaluate` gives it in other tasks than classification, it stands for all losses: 2 and 3 are
    left out.  Without one, raises `InputError` for labels that are not class numbers (b).  What fools most for least comes
    first: see `benchmarks/strength.py`.

    >>> AVAutoAttack().name
    'AVAutoAttack'
    """

    steps: int = 50
    targets: int = 3
    queries: int = 500
    objective: Objective | Raised | None = None

    numbers: ClassVar[tuple[str, ...]] = ("steps",)

    def __post_init__(self) -> None:
        check_settings(self.objective, steps=(self.steps, 2), targets=(self.targets, 0), queries=(self.queries, 1))

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        told = None if self.objective is None else search_info("", 0, self.objective)
        known = {"on_answer": told.on_answer, "objective": told.objective} if told else {"on_answer": True}
        return AttackInfo("AVAutoAttack", self.steps, search="worst case", **known)

    @property
    def name(self) -> str:
        """Display name."""
        return f"AVAutoAttack{goal(self.objective)}"

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`; of a clip that survives, those that raise its goal most."""
        if threat.subset == "clean":
            return x
        if self.objective is None and (y.ndim != 1 or y.is_floating_point()):
            raise InputError(
                f"AVAutoAttack without an objective is for classification: labels should be class numbers shaped (b), got {y.dtype} "
                f"shaped {tuple(y.shape)}. Give that of your task: AVAutoAttack(objective=...)."
            )
        both = _Run.of(self, model, x, y, threat, seeds)
        both.keep(both.active.attacked.map(torch.zeros_like))
        several = threat.subset == "AV"
        with part(0.3 if several else 1):
            both.search()
        if several:
            starts = none = x.map(torch.zeros_like)
            for one in threat.subsets()[:2]:
                alone = _Run.of(self, model, x, y, one, seeds)
                alone.subset(both.active.clips)
                with part(0.3):
                    alone.search()
                found, starts = (one.replaced(rest, by=alone.best.delta) for rest in (none, starts))
                both.keep(found.map(lambda d: d[both.active.clips]))
            with part(0.1):
                for alternate in (False, True):
                    both.climb(both.goal, starts.map(lambda d: d[both.active.clips]), alternate=alternate)
        return engine.shift(x, both.best.delta, threat)


@dataclass
class _Run:
    """The searches on one batch inside one threat: the clips that survive, and the best perturbations so far."""

    settings: AVAutoAttack
    active: ActiveSet
    best: BestSoFar
    ways: tuple[Way, ...]
    goal: Objective  # by which results count
    first: tuple[Objective, ...]  # that are raised along each way, the model itself being the first
    further: tuple[Objective, ...]  # that are raised on the model itself
    nearest: Tensor  # (b k): classes from the most to the least likely on the clean clip, the true one last; (b 0) without classes
    begun: int = 0  # searches so far; each has its own random start

    @classmethod
    def of(cls, settings: AVAutoAttack, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> "_Run":
        aim = margin if settings.objective is None else as_objective(settings.objective)
        active, best = ActiveSet.of(model, x, y, threat, seeds, aim), BestSoFar(x, threat)
        around = ways(active.victim, x)
        if settings.objective is not None:
            return cls(settings, active, best, around, aim, (aim,), (), torch.empty(len(y), 0))
        with torch.no_grad():
            clean = active.victim.output(x, ("suspicion",))
        others = clean.logits.scatter(1, y[:, None], -torch.inf)
        nearest = others.argsort(dim=1, descending=True, stable=True)
        hiding = (Undetected(margin),) if clean.suspicion else ()
        further = (*((dlr,) if nearest.shape[1] > 2 else ()), *hiding)
        return cls(settings, active, best, around, aim, (cross_entropy, margin), further, nearest)

    @property
    def judge(self) -> Victim:
        """Judges success: the model itself, or the mean output of a random model."""
        return self.ways[0](self.active.victim)

    def subset(self, clips: Tensor) -> None:
        """Keep those of these clips (their numbers) that survive."""
        self.active = self.active.subset(torch.isin(self.active.clips, clips))

    @property
    def targets(self) -> int:
        """How many other classes it searches towards."""
        classes = self.nearest.shape[1]
        return min(self.settings.targets, classes - 1) if classes > 3 else 0

    def search(self) -> None:
        """All searches inside this threat."""
        for way in self.ways:
            for objective in self.first:
                self.climb(objective, way=way)
        for objective in self.further:
            self.climb(objective)
        for rank in range(self.targets):
            self.climb(dlr_towards, target=self.nearest[:, rank])
        if len(self.active) and all(ball.norm == "linf" or not ball.active for ball in self.active.threat):
            active, judge = self.active, self.judge
            square = Square(
                queries=self.settings.queries, stop=judge is active.victim, objective=self.settings.objective
            )
            at = square(judge, active.x, active.y, active.threat, active.seeds)
            self.keep(active.threat.attacked(at.map(torch.sub, active.x)))

    def climb(
        self,
        objective: Objective,
        start: Signals | None = None,
        *,
        target: Tensor | None = None,
        way: Way | None = None,
        alternate: bool = False,
    ) -> None:
        """APGD on the clips that survive; its result counts by the goal on the judge, whatever objective it raised."""
        active, way = self.active, way or self.ways[0]
        if not len(active):
            return
        start = random_start(active, self.begun) if start is None else start
        self.begun += 1
        here = replace(
            active,
            victim=way(active.victim),
            clips=torch.arange(len(active), device=active.y.device),
            y=active.y if target is None else torch.stack([active.y, target[active.clips]], 1),
        )
        # Misclassification by a stand-in is no reason to stop.
        search = Search(here, BestSoFar(active.x, active.threat), objective, stop=here.victim is active.victim)
        count = len(self.ways) * len(self.first) + len(self.further) + self.targets + 1  # Square is the last one
        try:
            with part(1 / count, f"search {self.begun}"):
                APGD(steps=self.settings.steps, alternate=alternate).ascend(search, start)
        except GradientError:
            if way is not self.ways[0] or len(self.ways) == 1:
                raise
            return  # the model names others to take gradients of
        self.keep(search.best.delta)

    def keep(self, delta: Signals) -> None:
        """Take in one perturbation for each clip that survives; the clips that it misclassifies leave the active set.

        On a random model no clip leaves: one misclassification proves little, so the mean margin is raised to the end.
        """
        active = self.active
        if not len(active):
            return
        judge = self.judge
        value, won = replace(active, victim=judge).value(self.goal, delta)
        engine.check_sound(value, None, active.seeds.ids)
        self.best.update_if_better(active.clips, value, delta)
        if judge is active.victim:
            self.best.finalize(active.clips[won], delta.map(lambda d: d[won]))
            self.active, _ = active.without(won)
