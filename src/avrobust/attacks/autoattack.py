"""AVAutoAttack: several searches, each on the clips that the ones before it left standing; nothing to tune.

What a robust accuracy is worth depends on the strongest attack that was tried.  Different searches fail on different
models: a loss that saturates, a gradient that vanishes or leads astray, a step of the wrong length.  Their worst case
per clip fails on few.  On two modalities there is one more way to be weak: a joint search may miss what an attack on
one modality finds.  So whatever withstands the joint searches is attacked on each modality alone as well.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks.adaptive import ways
from avrobust.attacks.apgd import APGD
from avrobust.attacks.base import check_settings
from avrobust.attacks.search import ActiveSet, BestSoFar, Search, random_start
from avrobust.attacks.square import Square
from avrobust.config import concise
from avrobust.engine import GradientError, Victim, Way
from avrobust.facts import AttackInfo
from avrobust.objectives import Objective, WithSimilarity, cross_entropy, dlr, dlr_towards, margin
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import InputError, Model, Output, Signals


@dataclass(frozen=True, repr=False)
class AVAutoAttack:
    """The worst case per clip over APGD with several losses and starts, ways around the defense, and Square.

    In this order, each on the clips that still stand, from random starts unless said otherwise:
    1. APGD with cross entropy, the margin, and DLR (of three classes or more);
    2. cross entropy plus and minus the cosine of both features, where the model shows two of one width;
    3. targeted DLR towards the classes that come next on the clean clip, `targets` of them (of four classes or more);
    4. along every one of the `adaptive.ways` around a defense: APGD with cross entropy and the margin;
    5. Square, where all budgets are linf;
    6. where both modalities may be touched: 1 to 5 on sound alone and on picture alone, then APGD with the margin from
       both of what these reached at once, and from there moving one modality at a time.
    What the model itself gets wrong counts, whatever a gradient was taken of.  Attacking both is never weaker than
    attacking one within the same budget, clip by clip.  `steps` and `queries` say how long each search goes on.

    >>> AVAutoAttack().name
    'AVAutoAttack'
    """

    steps: int = 50
    targets: int = 3
    queries: int = 500

    numbers: ClassVar[tuple[str, ...]] = ("steps",)

    def __post_init__(self) -> None:
        check_settings(steps=(self.steps, 2), targets=(self.targets, 0), queries=(self.queries, 1))

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return AttackInfo("AVAutoAttack", self.steps, on_answer=True)

    @property
    def name(self) -> str:
        """How a table calls it."""
        return "AVAutoAttack"

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`: where nothing fooled the model, what came closest to it."""
        if threat.subset == "clean":
            return x
        if y.ndim != 1 or y.is_floating_point():
            raise InputError(
                f"AVAutoAttack is for classification: labels should be class numbers shaped (b), got {y.dtype} shaped "
                f"{tuple(y.shape)}. Use APGD with an objective of your task."
            )
        both = _Run.of(self, model, x, y, threat, seeds)
        both.keep(x.map(torch.zeros_like))
        both.search()
        if threat.subset == "AV":
            starts = x.map(torch.zeros_like)
            for part in threat.subsets()[:2]:
                alone = _Run.of(self, model, x, y, part, seeds)
                alone.subset(both.active.clips)
                alone.search()
                both.keep(alone.best.delta.map(lambda d: d[both.active.clips]))
                starts = starts.map(torch.add, alone.best.delta)
            for alternate in (False, True):
                both.climb(margin, starts.map(lambda d: d[both.active.clips]), alternate=alternate)
        return engine.shift(x, both.best.delta, threat)


@dataclass
class _Run:
    """The searches on one batch inside one threat: the clips that still stand, and the best that was found."""

    settings: AVAutoAttack
    active: ActiveSet
    best: BestSoFar
    ways: tuple[Way, ...]
    nearest: Tensor  # (b k): classes from the likeliest on the clean clip to the least, its own last
    cosines: bool  # whether the model shows an audio and a visual feature of one width
    begun: int = 0  # searches, each of which has its own start

    @classmethod
    def of(cls, settings: AVAutoAttack, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> "_Run":
        active = ActiveSet.of(model, x, y, threat, seeds)
        with torch.no_grad():
            clean = active.victim.output(x, ("features",))
        others = clean.logits.scatter(1, y[:, None], -torch.inf)
        nearest = others.argsort(dim=1, descending=True, stable=True)
        return cls(settings, active, BestSoFar(x, threat), ways(active.victim, x), nearest, comparable(clean))

    @property
    def judge(self) -> Victim:
        """What counts: the model itself, or the mean of a random one's answers."""
        return self.ways[0](self.active.victim)

    def subset(self, clips: Tensor) -> None:
        """Go on with those of these clips (their numbers) that still stand."""
        self.active = self.active.subset(torch.isin(self.active.clips, clips))

    def search(self) -> None:
        """Everything that is tried on what this threat allows at once."""
        classes = self.nearest.shape[1]
        cosines = (WithSimilarity(1.0), WithSimilarity(-1.0)) if self.cosines else ()
        for objective in (cross_entropy, margin, *((dlr,) if classes > 2 else ()), *cosines):
            self.climb(objective)
        for rank in range(min(self.settings.targets, classes - 1) if classes > 3 else 0):
            self.climb(dlr_towards, target=self.nearest[:, rank])
        for way in self.ways[1:]:
            for objective in (cross_entropy, margin):
                self.climb(objective, way=way)
        if len(self.active) and all(ball.norm == "linf" or not ball.active for ball in self.active.threat):
            active, judge = self.active, self.judge
            square = Square(queries=self.settings.queries, stop=judge is active.victim)
            at = square(judge, active.x, active.y, active.threat, active.seeds)
            self.keep(at.map(torch.sub, active.x))

    def climb(
        self,
        objective: Objective,
        start: Signals | None = None,
        *,
        target: Tensor | None = None,
        way: Way | None = None,
        alternate: bool = False,
    ) -> None:
        """APGD on the clips that stand; what it finds counts by its margin on the model itself, whatever it raised."""
        active = self.active
        if not len(active):
            return
        start = random_start(active, self.begun) if start is None else start
        self.begun += 1
        here = replace(
            active,
            victim=(way or self.ways[0])(active.victim),
            clips=torch.arange(len(active), device=active.y.device),
            y=active.y if target is None else torch.stack([active.y, target[active.clips]], 1),
        )
        # Elsewhere than on the model itself, being wrong is no reason to stop.
        search = Search(here, BestSoFar(active.x, active.threat), objective, stop=here.victim is active.victim)
        try:
            APGD(steps=self.settings.steps, alternate=alternate).ascend(search, start)
        except GradientError:
            if way or len(self.ways) == 1:
                raise
            return  # the model says itself that gradients are to be taken of something else
        self.keep(search.best.delta)

    def keep(self, delta: Signals) -> None:
        """Take in one perturbation for each clip that stands; those that fool the model are done with.

        Those that fool a random model once are not: what counts is the mean of its answers, as far up as it goes.
        """
        active = self.active
        if not len(active):
            return
        judge = self.judge
        value, won = replace(active, victim=judge).value(margin, delta)
        self.best.update_if_better(active.clips, value, delta)
        if judge is active.victim:
            self.best.finalize(active.clips[won], delta.map(lambda d: d[won]))
            self.active = active.subset(~won)


def comparable(out: Output) -> bool:
    """Whether the model shows one audio and one visual vector of the same width."""
    f = out.features
    return f is not None and f.audio.ndim == 2 and f.audio.shape == f.visual.shape
