"""Ways around a defense: what to take gradients of, where the model's own are of no use.

A defense may hide gradients (a code that jumps), weaken them (a feature replaced by its reconstruction) or make them
noisy (random preprocessing).  An attack that adapts takes them of something else and judges by the model itself:
straight through the defense, past it, or of the mean over its draws (Athalye et al. 2018; Tramer et al. 2020).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from avrobust.engine import TwoStream, as_victim
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Attack, Model, Signals

DRAWS = 8  # of a random model, for one gradient

# Makes of the model, as it stands for the clips at hand, what gradients are taken of.
Way = Callable[[Model], Model]


@runtime_checkable
class Declared(Protocol):
    """A model that says how it is best attacked: `ways` are differentiable models to take gradients of instead."""

    def __call__(self, x: Signals) -> Tensor: ...
    def ways(self) -> tuple[Model, ...]: ...


def ways(model: Model, x: Signals) -> tuple[Way, ...]:
    """What to take gradients of when attacking `model` at the clips `x`: itself first, then what leads around it.

    For a two-stream network with a feature defense: straight through the feature defense, and past it.  For any other model: what its
    method `ways`, if there is one, gives.  Where two runs on the same clips differ, each is averaged over draws.

    >>> from avrobust.types import AV
    >>> len(ways(lambda s: s.audio, AV(torch.zeros(2, 3), torch.zeros(2, 3))))
    1
    """
    found: list[Way] = [lambda m: m]
    if isinstance(model, TwoStream):
        if defended(model, x):
            found += [partial(replace, feature_defense="straight"), partial(replace, feature_defense="past")]
    elif isinstance(model, Declared):
        found += [partial(_instead, other) for other in model.ways()]
    return tuple(partial(_averaged, way) for way in found) if is_random(model, x) else tuple(found)


@dataclass(frozen=True)
class Averaged:
    """The mean logits of `draws` runs of a random model: its gradient is that of an expectation (EOT)."""

    model: Model
    draws: int = DRAWS

    def __call__(self, x: Signals) -> Tensor:
        return torch.stack([self.model(x) for _ in range(self.draws)]).mean(0)


@dataclass(frozen=True)
class Transfer:
    """`attack` on another model, its clips then shown to the one at hand.

    `source` is what tables call that model, and in a study the name of an earlier model; elsewhere give `model`
    too.  Where clips made for another model fool this one more often than clips made for it, it hides its gradients.

    >>> from avrobust.attacks import PGD
    >>> Transfer("AV", PGD()).name
    'PGD-10 from AV'
    """

    source: str
    attack: Attack
    model: Model | None = None

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"{getattr(self.attack, 'name', type(self.attack).__name__)} from {self.source}"

    @property
    def steps(self) -> int:
        """What it costs, in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        if self.model is None:
            raise ValueError(f"expected the model {self.source!r} itself, got its name. Give model=...")
        return self.attack(as_victim(self.model), x, y, threat, seeds)


@torch.no_grad()
def defended(model: TwoStream, x: Signals) -> bool:
    """Whether the network's feature defense does anything to the features of these clips."""
    f = model.embed(x)
    return any(after is not before for after, before in zip(model.net.feature_defense(f), f, strict=True))


@torch.no_grad()
def is_random(model: Model, x: Signals) -> bool:
    """Whether the model answers the same clips differently when it is asked again."""
    first, again = model(x), model(x)
    return not torch.allclose(first, again, rtol=1e-3, atol=1e-3 * float(first.abs().max()))


def _instead(other: Model, model: Model) -> Model:
    return other


def _averaged(way: Way, model: Model) -> Model:
    there = way(model)
    return replace(there, draws=DRAWS) if isinstance(there, TwoStream) else Averaged(there)
