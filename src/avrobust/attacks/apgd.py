"""APGD: gradient ascent that finds its own step length, clip by clip (Croce & Hein, ICML 2020, algorithm 1)."""

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from avrobust import engine
from avrobust.attacks.base import check_settings, chosen, goal, search_info
from avrobust.attacks.search import Index, Search, restarted
from avrobust.config import concise
from avrobust.facts import AttackInfo
from avrobust.objectives import Objective, Raised
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Labels, Model, PerClip, Signals

MOMENTUM = 0.75  # the paper's alpha: the weight of a new step against the last one
ENOUGH = 0.75  # the paper's rho: the share of steps between two checkpoints that should raise the objective


@dataclass(frozen=True, repr=False)
class APGD:
    """Steps of twice the budget at first, halved when they stop paying, each time from the best place so far.

    Each clip has one step length for both modalities, a share of the budget, which keeps them in proportion.  With `stop`, a
    clip leaves the search once the objective has surely succeeded on it, as in AutoAttack.  With `alternate`, one modality
    moves at a time: audio on even steps, visual on odd ones.  `objective` None is cross entropy, or in `evaluate` that of its
    task.

    >>> APGD().name, APGD(steps=100, restarts=5).name, APGD(alternate=True).name
    ('APGD-50', 'APGD-100x5', 'APGD-50, alternating')
    """

    steps: int = 50
    restarts: int = 1
    stop: bool = True
    alternate: bool = False
    objective: Objective | Raised | None = None

    numbers: ClassVar[tuple[str, ...]] = ("steps", "restarts")

    def __post_init__(self) -> None:
        check_settings(self.objective, steps=(self.steps, 2), restarts=(self.restarts, 1))

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return search_info(
            "APGD",
            self.steps,
            self.objective,
            restarts=self.restarts,
            variant="alternating" if self.alternate else "",
        )

    @property
    def name(self) -> str:
        """Display name."""
        times = f"x{self.restarts}" if self.restarts > 1 else ""
        return f"APGD-{self.steps}{times}{', alternating' if self.alternate else ''}{goal(self.objective)}"

    def __call__(
        self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds, *, start: Signals | None = None
    ) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`; the perturbation `start` replaces the first random start."""
        return restarted(
            self.ascend, model, x, y, threat, seeds, chosen(self.objective),
            stop=self.stop, keep="best", restarts=self.restarts, random=True, start=start,
        )  # fmt: skip

    def ascend(self, search: Search, delta: Signals) -> None:
        """One run from `delta`, by the objective of the search."""
        looks = checkpoints(self.steps)
        here = _Place.start(delta)
        for k in steps(self.steps):
            value, grad, _, here = search.value_and_grad(here.delta, here)
            if not len(search):
                return
            here.note(value, grad)
            if k in looks:
                here.shorten(k - max((c for c in looks if c < k), default=0))
            turn = search.threat
            if self.alternate and turn.subset == "AV":
                turn = turn.only("AV"[k % 2])
            here.move(search.x, search.threat, turn, first=k == 0)
        search.end(here.delta)


def checkpoints(steps: int) -> frozenset[int]:
    """The steps after which step lengths are adapted (the paper's w_j): the start, 22 % of all steps, then closer and closer.

    >>> sorted(checkpoints(100))[:4]
    [0, 22, 41, 57]
    """
    before, here, found = 0.0, 0.22, {0}
    while here < 1:
        found.add(math.ceil(round(here * steps, 6)))  # rounding may add to a whole number
        before, here = here, here + max(here - before - 0.03, 0.06)
    return frozenset(found)


@dataclass
class _Place:
    """The state of the search on each clip."""

    delta: Signals
    before: Signals  # where it was a step ago
    grad: Signals
    best: Signals
    best_grad: Signals
    value: PerClip
    best_value: PerClip
    best_value_then: PerClip  # at the last checkpoint
    rises: PerClip  # steps since then that raised the value
    length: PerClip  # of a step, as a share of the budget
    shortened: Bool[Tensor, " b"]  # whether the last checkpoint halved it

    @classmethod
    def start(cls, delta: Signals) -> "_Place":
        none = torch.full((len(delta.audio),), -torch.inf, device=delta.audio.device)
        zero = torch.zeros_like(none)
        return cls(delta, delta, delta, delta, delta, none, none, none, zero, zero + 2, zero.bool())

    def subset(self, on: Index) -> "_Place":
        every = {field.name: getattr(self, field.name) for field in fields(self)}
        those: dict[str, Any] = {k: v.map(lambda s: s[on]) if isinstance(v, AV) else v[on] for k, v in every.items()}
        return _Place(**those)

    def note(self, value: PerClip, grad: Signals) -> None:
        """Take in the objective and its gradient at the current point."""
        self.rises = self.rises + (value > self.value)
        self.value, self.grad = value, grad
        better = value > self.best_value
        self.best_value = torch.where(better, value, self.best_value)
        self.best, self.best_grad = _where(better, self.delta, self.best), _where(better, grad, self.best_grad)

    def shorten(self, interval: int) -> None:
        """Halve the steps of clips that no longer gain, and send those back to their best point."""
        stuck = (self.rises < ENOUGH * interval) | (~self.shortened & (self.best_value <= self.best_value_then))
        self.length = torch.where(stuck, self.length / 2, self.length)
        self.shortened, self.best_value_then, self.rises = stuck, self.best_value, torch.zeros_like(self.rises)
        self.delta, self.grad = _where(stuck, self.best, self.delta), _where(stuck, self.best_grad, self.grad)

    def move(self, x: Signals, threat: Threat, turn: Threat, *, first: bool) -> None:
        """One step along the gradient where it is a modality's `turn`, and a part of the last move on top."""
        share = 1.0 if first else MOMENTUM
        ahead = self.delta.map(
            lambda d, m: torch.addcmul(d, engine.per_clip(self.length, d), m), turn.map(Ball.ascent, self.grad, x)
        )
        ahead = threat.map(Ball.project, ahead, x)
        mixed = self.delta.map(
            lambda d, a, b: torch.add(d, a - d, alpha=share).add_(d - b, alpha=1 - share), ahead, self.before
        )
        self.before, self.delta = self.delta, threat.map(Ball.project, mixed, x)


def _where(clips: Tensor, new: Signals, old: Signals) -> Signals:
    return new.map(lambda n, o: torch.where(engine.per_clip(clips, n), n, o), old)
