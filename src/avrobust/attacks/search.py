"""What all searches share: the active set, each clip's best so far, restarts and stopping.  Knows no norms."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avrobust import engine
from avrobust.objectives import margin
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Model, Objective, PerClip, Signals

# Some of the clips: a mask, or all of them.
Index = Tensor | slice


@dataclass(frozen=True, eq=False)
class ActiveSet:
    """The clips that a search is still at work on: `clips` are their numbers in the batch that it was given.

    `aim` are the classes that an objective gets instead of the labels; a clip is then won when it is wrong by its label.
    `ignored` are the modalities that are known to change nothing.
    """

    model: Model
    x: Signals
    y: Tensor
    threat: Threat
    seeds: Seeds
    clips: Tensor
    aim: Tensor | None = None
    ignored: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> "ActiveSet":
        """All clips of a batch; what the threat leaves alone is computed here, once."""
        return cls(engine.fix_unattacked(model, x, threat), x, y, threat, seeds, torch.arange(len(y), device=y.device))

    def __len__(self) -> int:
        return len(self.clips)

    def subset(self, on: Index) -> "ActiveSet":
        """The clips where `on`, or a stretch of them."""
        if isinstance(on, Tensor) and bool(on.all()):
            return self
        x, aim = self.x.map(lambda s: s[on]), None if self.aim is None else self.aim[on]
        seeds = self.seeds.subset(torch.arange(len(self), device=self.y.device)[on])
        return ActiveSet(
            engine.subset(self.model, on),
            x,
            self.y[on],
            self.threat.for_clips(on),
            seeds,
            self.clips[on],
            aim,
            self.ignored,
        )

    def value_and_grad(self, objective: Objective, delta: Signals) -> engine.ValueAndGrad:
        """The objective at x + delta, its gradient, and on which clips the attacker has surely won.

        Where logits are not finite the model has no answer: the value is infinite there, and the gradient 0.
        """
        looked = engine.value_and_grad(
            self.model, objective, self.x, self._goal, self.y, self.threat, delta, self.ignored
        )
        return engine.checked(looked, self.seeds.ids)

    @torch.no_grad()
    def value(self, objective: Objective, delta: Signals) -> tuple[PerClip, Tensor]:
        """The objective at x + delta, and on which clips the attacker has surely won."""
        model, heard = engine.record_logits(self.model)
        value = objective(model, engine.shift(self.x, delta, self.threat), self._goal)
        engine.check_value(value, objective, len(self))
        value, won = engine.outcome(value, self.model, heard, objective if self.aim is None else margin, self.y)
        engine.checked((value, self.x.map(torch.zeros_like), won), self.seeds.ids)
        return value, won

    @property
    def _goal(self) -> Tensor:
        return self.y if self.aim is None else self.aim


class BestSoFar:
    """Each clip's best perturbation so far, by the objective."""

    def __init__(self, x: Signals, threat: Threat) -> None:
        self.delta: Signals = x.map(torch.zeros_like)
        self._touched = threat.map(lambda ball: ball.active)
        self._value = torch.full((len(x.audio),), -torch.inf, device=x.audio.device)  # or finer, as the objective is

    def update_if_better(self, clips: Tensor, value: PerClip, delta: Signals) -> Tensor:
        """Keep `delta` for those of the `clips` (their numbers) on which `value` beats what was there; says which."""
        self._value = self._value.to(torch.promote_types(self._value.dtype, value.dtype))
        better: Tensor = value > self._value[clips]
        self._keep(clips[better], value[better], delta.map(lambda d: d[better]))
        return better

    def finalize(self, clips: Tensor, delta: Signals) -> None:
        """Keep `delta` for these clips, whatever was there and whatever comes."""
        self._keep(clips, torch.full_like(self._value[clips], torch.inf), delta)

    def _keep(self, clips: Tensor, value: PerClip, delta: Signals) -> None:
        self._value[clips] = value.to(self._value.dtype)
        for kept, new, touched in zip(self.delta, delta, self._touched, strict=True):
            if touched:
                kept[clips] = new


@dataclass
class Search:
    """A search under way: every place that it evaluates counts, and a clip with nothing left to do is left alone.

    That is a clip without an answer, where nothing can be raised further, and with `stop` one on which the objective
    has surely succeeded.
    """

    active: ActiveSet
    best: BestSoFar
    objective: Objective
    stop: bool

    def __len__(self) -> int:
        return len(self.active)

    def value_and_grad(self, delta: Signals) -> tuple[Index, PerClip, Signals]:
        """Which of the clips that `delta` is for go on, and the objective and its gradient on these."""
        value, grad, won = self.active.value_and_grad(self.objective, delta)
        on, _ = self._count(value, won, delta)
        return on, value[on], subset(grad, on)

    def value(self, delta: Signals) -> tuple[Index, Tensor]:
        """Which of the clips that `delta` is for go on, and on which of them all it is the best so far."""
        return self._count(*self.active.value(self.objective, delta), delta)

    def update_if_better(self, delta: Signals) -> None:
        """Keep the last iterate of a run where it is the best so far; all clips stay in the search."""
        self.best.update_if_better(self.active.clips, self.active.value(self.objective, delta)[0], delta)

    def finalize(self, delta: Signals) -> None:
        """Keep the last iterate of a run, whatever was there."""
        self.best.finalize(self.active.clips, delta)

    def _count(self, value: PerClip, won: Tensor, delta: Signals) -> tuple[Index, Tensor]:
        better = self.best.update_if_better(self.active.clips, value, delta)
        done = value.isposinf() | won if self.stop else value.isposinf()
        if not bool(done.any()):
            return slice(None), better
        # What succeeded, which is not always the best by the objective.
        self.best.finalize(self.active.clips[done], subset(delta, done))
        self.active = self.active.subset(~done)
        return ~done, better


def restarted(
    count: int,
    run: Callable[[Search, int], None],
    model: Model,
    x: Signals,
    y: Tensor,
    threat: Threat,
    seeds: Seeds,
    objective: Objective,
    stop: bool,
) -> Signals:
    """The best that `count` runs of a search find, each on the clips that the ones before it left standing."""
    if threat.subset == "clean":
        return x
    search = Search(ActiveSet.of(model, x, y, threat, seeds), BestSoFar(x, threat), objective, stop)
    for restart in range(count):
        if len(search):
            run(search, restart)
    return engine.shift(x, search.best.delta, threat)


def subset(signals: Signals, on: Index) -> Signals:
    """The signals of some of the clips."""
    return signals.map(lambda s: s[on])


def random_start(active: ActiveSet, restart: int) -> Signals:
    """A random perturbation inside the threat, per clip and restart."""
    names = AV(audio="audio", visual="visual")
    return active.threat.map(
        lambda ball, s, name: ball.random(s, active.seeds, "start", name, restart), active.x, names
    )
