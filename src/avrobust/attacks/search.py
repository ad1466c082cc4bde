"""What all searches share: the active set, each clip's best so far, starts, restarts and stopping.  Knows no norms."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from avrobust import engine
from avrobust.objectives import Objective, as_objective, needs_of
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.timing import refuse_timed
from avrobust.types import AV, NAMES, Labels, Model, PerClip, Signals

Numbers = Int[Tensor, " m"]  # of some clips in the batch that a search was given
# Some of the clips: their numbers, a mask, or a stretch of them.
Index = Numbers | Bool[Tensor, " b"] | slice


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """The clips that a search is still at work on: `clips` are their numbers in the batch that it was given.

    `ignored` are the modalities that are known to change nothing.  `over` tells the clips that have left already and only
    fill the batch: see `staying`.
    """

    victim: engine.Victim
    x: Signals
    y: Labels
    threat: Threat
    seeds: Seeds
    clips: Numbers
    ignored: set[str] = field(default_factory=set)
    over: Bool[Tensor, " m"] | None = None

    @classmethod
    def of(
        cls, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds, *objectives: Objective
    ) -> "ActiveSet":
        """All clips of a batch; what the threat leaves alone, and what the objectives need, is computed here, once."""
        victim = engine.as_victim(model, x.map(lambda s: s[:1]))
        needs = sorted({need for objective in objectives for need in needs_of(objective)})
        clips = torch.arange(len(y), device=y.device)
        return cls(victim.fix_unattacked(x, threat, needs), x, y, threat, seeds, clips)

    def __len__(self) -> int:
        return len(self.clips)

    def subset(self, on: Index) -> "ActiveSet":
        """Some of the clips."""
        if isinstance(on, Tensor) and on.dtype == torch.bool:
            on = on.nonzero()[:, 0]  # once: each index by a mask would make a GPU wait
        if isinstance(on, Tensor) and len(on) == len(self):
            return self
        victim, threat, seeds = self.victim.subset(on), self.threat.for_clips(on), self.seeds.subset(on)
        over = None if self.over is None else self.over[on]
        return ActiveSet(victim, subset(self.x, on), self.y[on], threat, seeds, self.clips[on], self.ignored, over)

    def without(self, done: Bool[Tensor, " b"]) -> tuple["ActiveSet", Numbers]:
        """The set without the clips that are done, and which of this one it holds."""
        gone = done if self.over is None else done | self.over
        on = staying(gone)
        return replace(self.subset(on), over=gone[on] if rounded(gone) else None), on

    @property
    def attacked(self) -> Signals:
        """What may change of the clean signals."""
        return self.threat.attacked(self.x)

    def under_way(self) -> "ActiveSet":
        """The same clips after a step: no later one begins at the clean clips."""
        return replace(self, victim=self.victim.without_clean_gradients())

    def value_and_grad(self, objective: Objective, delta: Signals) -> engine.ValueAndGrad:
        """The objective at x + delta, its gradient, and on which clips the attacker has surely succeeded.

        Where logits are not finite the model has no answer: the value is infinite there, and the gradient 0.  A value that is nan
        and a gradient that is not finite are for the search to refuse: `engine.check_sound`.
        """
        value, grad, won = self.victim.value_and_grad(objective, self.x, self.y, self.threat, delta, self.ignored)
        if (over := self.over) is not None:  # nothing that happens to them counts any more
            value, grad = value.masked_fill(over, 0.0), grad.map(lambda g: g.masked_fill(engine.per_clip(over, g), 0.0))
        return value, grad, won

    def value(self, objective: Objective, delta: Signals) -> tuple[PerClip, Bool[Tensor, " b"]]:
        """The objective at x + delta, and on which clips the attacker has surely succeeded."""
        value, won = self.victim.value(objective, self.x, self.y, self.threat, delta)
        return value if self.over is None else value.masked_fill(self.over, 0.0), won


class BestSoFar:
    """Each clip's best perturbation so far, by the objective."""

    def __init__(self, x: Signals, threat: Threat) -> None:
        self.delta: Signals = threat.attacked(x).map(torch.zeros_like)
        self._value = torch.full((len(x.audio),), -torch.inf, device=x.audio.device)  # or finer, as the objective is

    def update_if_better(self, clips: Numbers, value: PerClip, delta: Signals) -> Bool[Tensor, " m"]:
        """Keep `delta` for those of the `clips` on which `value` beats what was there; says which."""
        self._value = self._value.to(torch.promote_types(self._value.dtype, value.dtype))
        on: Index = slice(None) if len(clips) == len(self._value) else clips  # of all, views
        before = self._value[on]
        better: Tensor = value > before
        # Chosen, not indexed by a mask: nobody waits for a GPU to say how many these are.
        self._value[on] = torch.where(better, value, before).to(self._value.dtype)
        for kept, d in zip(self.delta, delta, strict=True):
            kept[on] = torch.where(engine.per_clip(better, d), d, kept[on])
        return better

    def finalize(self, clips: Numbers, delta: Signals) -> None:
        """Keep `delta` for these clips, whatever was there and whatever comes."""
        self._value[clips] = torch.inf
        for kept, d in zip(self.delta, delta, strict=True):
            kept[clips] = d


@dataclass
class Search:
    """A search under way: every place that it evaluates counts, and a clip with nothing left to do leaves the active set.

    That is a clip without finite logits, where nothing can be raised further, and with `stop` one on which the objective
    has surely succeeded.  With `keep` "last", of clips that stay to the end only the last place counts.
    """

    active: ActiveSet
    best: BestSoFar
    objective: Objective
    stop: bool
    keep: str = "best"

    @classmethod
    def of(
        cls,
        model: Model,
        x: Signals,
        y: Labels,
        threat: Threat,
        seeds: Seeds,
        objective: Any,
        *,
        stop: bool,
        keep: str = "best",
    ) -> "Search":
        """A search on all clips of a batch.  Raises `ValueError` for a budget in time, which no perturbation is inside."""
        refuse_timed(threat)
        goal = as_objective(objective)
        return cls(ActiveSet.of(model, x, y, threat, seeds, goal), BestSoFar(x, threat), goal, stop, keep)

    def __len__(self) -> int:
        return len(self.active)

    @property
    def x(self) -> Signals:
        """What may change of the clean signals of the clips that are still active: perturbations and gradients are shaped as this."""
        return self.active.attacked

    @property
    def threat(self) -> Threat:
        """What may be done to them."""
        return self.active.threat

    def value_and_grad(self, delta: Signals, *state: Any) -> tuple[Any, ...]:
        """(value, gradient, delta, *state) at x + delta, each for the clips that stay active.

        `state` is what else a search keeps per clip: signals, anything with `subset`, or None.
        """
        value, grad, won = self.active.value_and_grad(self.objective, delta)
        self.active = self.active.under_way()
        on, _ = self._count(value, won, delta, grad)
        return value[on], *(subset(s, on) for s in (grad, delta, *state))

    def value(self, delta: Signals) -> tuple[Index, Bool[Tensor, " b"]]:
        """Which of the clips that `delta` is for stay active, and on which of them all it is the best so far."""
        return self._count(*self.active.value(self.objective, delta), delta)

    def end(self, delta: Signals) -> None:
        """End a run: keep its last iterate where it is the best so far, or with `keep` "last" in any case."""
        if self.keep == "last":
            left = slice(None) if self.active.over is None else ~self.active.over
            self.best.finalize(self.active.clips[left], subset(delta, left))
        else:
            value, _ = self.active.value(self.objective, delta)
            engine.check_sound(value, None, self.active.seeds.ids)
            self.best.update_if_better(self.active.clips, value, delta)

    def _count(self, value: PerClip, won: Tensor, delta: Signals, grad: Signals | None = None) -> tuple[Index, Tensor]:
        done = value.isposinf() | won if self.stop else value.isposinf()
        if self.active.over is not None:
            done = done & ~self.active.over
        # One question for both: a GPU waits for the answer, in each step.
        sound, some = torch.stack([engine.sound(value, grad), done.any()]).tolist()
        if not sound:
            engine.check_sound(value, grad, self.active.seeds.ids)
        better = torch.ones_like(done)
        if self.keep == "best":
            better = self.best.update_if_better(self.active.clips, value, delta)
        if not some:
            return slice(None), better
        ended = done.nonzero()[:, 0]
        # What succeeded, which is not always the best by the objective.
        self.best.finalize(self.active.clips[ended], subset(delta, ended))
        self.active, on = self.active.without(done)
        return on, better


def rounded(clips: Tensor) -> bool:
    """Whether batches of a search have few sizes only: on a GPU, whose libraries prepare each new one for long.

    Measured on an H100, of a step on both modalities: 9 ms at a size that came before, 70 to 85 ms at a new one.
    """
    return clips.device.type != "cpu"


def staying(gone: Bool[Tensor, " b"]) -> Numbers:
    """Which clips stay in a batch: those that are not gone.

    Where batches have few sizes (`rounded`), as many of those gone stay as make it a power of two, or one and a half.
    """
    left = (~gone).nonzero()[:, 0]
    if not rounded(gone) or not len(left):
        return left
    power = 2 ** math.ceil(math.log2(len(left)))
    size = power if len(left) > power * 3 // 4 else max(power * 3 // 4, 1)
    fill = gone.nonzero()[: max(size - len(left), 0), 0]
    return torch.cat([left, fill]).sort().values


def restarted(
    run: Callable[[Search, Signals], None],
    model: Model,
    x: Signals,
    y: Labels,
    threat: Threat,
    seeds: Seeds,
    objective: Any,
    *,
    stop: bool,
    keep: str,
    restarts: int,
    random: bool,
    start: Signals | None,
) -> Signals:
    """The best clips that some runs of a search find, each on the clips that the ones before left active.

    A run begins at a random place of the threat if `random`, else at the clean clips; `start` replaces the first random one.
    """
    if threat.subset == "clean":
        return x
    search = Search.of(model, x, y, threat, seeds, objective, stop=stop, keep=keep)
    for restart in steps(restarts, "restart"):
        if not len(search):
            break
        if not random:
            delta = search.x.map(torch.zeros_like)
        elif restart == 0 and start is not None:
            delta = threat.attacked(start)
        else:
            delta = random_start(search.active, restart)
        run(search, delta)
    return engine.shift(x, search.best.delta, threat)


def random_start(active: ActiveSet, restart: int) -> Signals:
    """A random perturbation inside the threat, per clip and restart."""
    return random_perturbation(active.threat, active.attacked, active.seeds, restart)


def random_perturbation(threat: Threat, x: Signals, seeds: Seeds, restart: int = 0) -> Signals:
    """Where a search begins: a random perturbation inside the threat, tied to seed, clip and restart; 0 where it is not active."""
    return threat.map(
        lambda ball, s, name: ball.random(s, seeds, "start", name, restart) if ball.active else torch.zeros_like(s),
        x,
        NAMES,
    )


def subset(state: Any, on: Index) -> Any:
    """What a search keeps per clip, for some of the clips.

    >>> subset(AV(torch.arange(3), torch.arange(3)), slice(1, 2))
    AV(audio=tensor([1]), visual=tensor([1]))
    """
    if state is None:
        return None
    return state.map(lambda s: s[on]) if isinstance(state, AV) else state.subset(on)
