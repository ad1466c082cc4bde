"""Search along the gradient inside a threat: FGSM, PGD and MIM are settings of one loop.  Knows no norms."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks.base import check_settings, chosen, goal, search_info
from avrobust.attacks.search import Search, restarted, subset
from avrobust.attacks.variations import Variation, varied_gradient
from avrobust.config import check_choices, concise
from avrobust.facts import AttackInfo
from avrobust.objectives import Objective, Raised
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import Labels, Model, Signals

# Of the budget: steps so short that do not add up to so much were given in the signal's units, 2 / 255 for example.
SHORT, REACH = 0.1, 0.5


@dataclass(frozen=True, repr=False)
class PGD:
    """Projected gradient ascent (Madry et al. 2018).

    `step` is the length of a step as a share of the budget; None means 2.5 / steps.  With `random_start` each
    restart begins at a random place of the ball.  `keep` "best" returns each clip's best iterate over all
    steps and restarts, by the objective; "last" the final one.  `momentum` None is plain PGD.

    With `stop`, a clip leaves the search once the objective has surely succeeded on it: it is misclassified, or classified
    as the target.  Which clips survive is the same; how far the others could have been pushed is not known then.  With an
    objective that does not say when it has succeeded, no clip leaves.

    `variations` are where gradients are taken, and what becomes of them, for clips that transfer to other models: DI, TI, SI,
    or averaging over a random model.  With `look_ahead` each is taken a step of the momentum ahead (NI, Lin et al. 2020,
    section 3.1).  Neither changes what is kept: with `keep` "best" or `stop`, each iterate costs another forward pass.

    `objective` None is cross entropy, or in `evaluate` that of its task.

    >>> import torch
    >>> from avrobust.types import AV
    >>> x = AV(torch.zeros(2, 8), torch.full((2, 1, 3, 4, 4), 0.5))
    >>> model = lambda s: torch.stack([s.audio.mean(1), s.visual.mean((1, 2, 3, 4))], 1)
    >>> attack, threat = PGD(steps=3), Threat.linf(audio=0.01)
    >>> adv = attack(model, x, torch.tensor([0, 1]), threat, Seeds(0, ("a", "b")))
    >>> bool(torch.equal(adv.visual, x.visual)), round(float((adv.audio - x.audio).abs().max()), 4)
    (True, 0.01)
    """

    steps: int = 10
    step: float | None = None
    random_start: bool = True
    restarts: int = 1
    momentum: float | None = None
    keep: Literal["best", "last"] = "best"
    stop: bool = False
    objective: Objective | Raised | None = None
    variations: tuple[Variation, ...] = ()
    look_ahead: bool = False

    numbers: ClassVar[tuple[str, ...]] = ("steps", "restarts")  # what numbers after its name set: PGD-40x5

    def __post_init__(self) -> None:
        check_settings(self.objective, steps=(self.steps, 1), restarts=(self.restarts, 1))
        if not math.isfinite(self._length) or self._length <= 0:
            raise ValueError(
                f"step should be a share of the budget that is above 0, got {self.step}. Leave it out for the usual one."
            )
        if self._length < SHORT and self.steps * self._length < REACH:
            raise ValueError(
                f"{self.steps} steps of {self._length:.3g} times the budget go no further than {self.steps * self._length:.2g} "
                "of it. `step` is a share of the budget, not in the signal's units: leave it out, or give 0.25."
            )
        check_choices(self)
        if self.restarts > 1 and not self.random_start:
            raise ValueError(f"{self.restarts} restarts from the same place find the same clip. Set random_start=True.")
        if self.look_ahead and self.momentum is None:
            raise ValueError(
                "looking ahead follows the momentum, got an attack without. Use MIM, or give momentum=1.0."
            )

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return search_info("PGD", self.steps, self.objective, restarts=self.restarts, variant=self._variant)

    @property
    def name(self) -> str:
        """Display name."""
        size = f"-{self.steps}" + (f"x{self.restarts}" if self.restarts > 1 else "")
        return f"{self._variant}-".lstrip("-") + type(self).__name__ + size + goal(self.objective)

    @property
    def _variant(self) -> str:
        return "-".join([*(v.code for v in self.variations), *(["NI"] if self.look_ahead else [])])

    def __call__(
        self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds, *, start: Signals | None = None
    ) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`; the perturbation `start` replaces the first random start."""
        return restarted(
            self._ascend, model, x, y, threat, seeds, chosen(self.objective),
            stop=self.stop, keep=self.keep, restarts=self.restarts, random=self.random_start, start=start,
        )  # fmt: skip

    def _ascend(self, search: Search, delta: Signals) -> None:
        velocity = None
        for step in steps(self.steps):
            grad, delta, velocity = self._gradient(search, delta, velocity, step)
            if not len(search):
                return
            grad = self._accumulate(velocity, grad)
            delta = search.threat.map(self._moved, delta, grad, search.x)
            velocity = None if self.momentum is None else grad
            del grad  # without momentum its memory is free for the next one
        search.end(delta)

    def _gradient(
        self, search: Search, delta: Signals, velocity: Signals | None, step: int
    ) -> tuple[Signals, Signals, Signals | None]:
        """(gradient, delta, velocity), each for the clips that stay active."""
        if not (self.variations or self.look_ahead):
            _, grad, delta, velocity = search.value_and_grad(delta, velocity)
            return grad, delta, velocity
        if self.keep == "best" or self.stop:
            on, _ = search.value(delta)
            delta, velocity = subset(delta, on), subset(velocity, on)
        if not len(search):
            return delta, delta, velocity
        at = delta
        if self.look_ahead and velocity is not None:
            reach = self._length * (self.momentum or 0.0)
            moves = search.threat.map(_ahead, velocity, search.x)
            at = delta.map(lambda d, m: d + reach * m, moves)
        return varied_gradient(search.active, search.objective, at, self.variations, step), delta, velocity

    def _moved(self, ball: Ball, delta: Tensor, grad: Tensor, x: Tensor) -> Tensor:
        """A step along the gradient, and back into the ball."""
        return ball.project(torch.add(delta, ball.ascent(grad, x), alpha=self._length), x)

    @property
    def _length(self) -> float:
        return 2.5 / self.steps if self.step is None else self.step

    def _accumulate(self, velocity: Signals | None, grad: Signals) -> Signals:
        """Dong et al. 2018, eq. 6: each gradient is divided by its mean size before it is added, clip by clip."""
        if self.momentum is None:
            return grad
        grad = grad.map(lambda g: g / _mean_size(g).clamp_min(1e-30))
        return grad if velocity is None else grad.map(lambda g, v: torch.add(g, v, alpha=self.momentum), velocity)


@dataclass(frozen=True, repr=False)
class FGSM(PGD):
    """The fast gradient sign method (Goodfellow et al. 2015): one step of the whole budget from the clean clip."""

    steps: int = 1
    step: float | None = 1.0
    random_start: bool = False
    keep: Literal["best", "last"] = "last"

    numbers: ClassVar[tuple[str, ...]] = ()

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return search_info("FGSM", 1, self.objective, variant=self._variant)

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self._variant}-".lstrip("-") + "FGSM" + goal(self.objective)


@dataclass(frozen=True, repr=False)
class MIM(PGD):
    """The momentum iterative method (Dong et al. 2018), projected around the clean clip.

    Paper: steps of eps / steps, decay 1.  The published code of Tian & Xu differs; see `Published`.

    >>> from avrobust.attacks import Diverse, Scaled
    >>> MIM(variations=(Scaled(), Diverse()), look_ahead=True, keep="last").name
    'SI-DI-NI-MIM-10'
    """

    step: float | None = None
    random_start: bool = False
    momentum: float | None = 1.0

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return search_info("MIM", self.steps, self.objective, restarts=self.restarts, variant=self._variant)

    @property
    def _length(self) -> float:
        return 1.0 / self.steps if self.step is None else self.step


def _ahead(ball: Ball, velocity: Tensor, x: Tensor) -> Tensor:
    """The move of full budget along the momentum; in linf the momentum itself, whose mean size is about 1, as in the paper."""
    return velocity * (ball.weight(x) * ball.eps) if ball.norm == "linf" else ball.ascent(velocity, x)


def _mean_size(g: Tensor) -> Tensor:
    """The mean of absolute values, per clip."""
    return engine.per_clip(torch.linalg.vector_norm(g.flatten(1), 1, dim=1) / max(1, g.shape[1:].numel()), g)
