"""What an attacker wants: one number per clip, pushed UP.  No budgets, no search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from avrobust.types import AV, InputError, Logits, Model, PerClip, Signals


def margins(logits: Logits, y: Tensor) -> PerClip:
    """Best other logit minus the true one: positive means wrong.

    >>> import torch
    >>> margins(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    true = logits.gather(1, y[:, None])[:, 0]
    other = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return other - true


def correct(logits: Logits, y: Tensor) -> Tensor:
    """Whether each clip's answer is its label; logits that are not finite are no answer, so never right.

    >>> correct(torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]), torch.tensor([0, 0]))
    tensor([ True, False])
    """
    right: Tensor = (logits.argmax(1) == y) & logits.isfinite().all(1)
    return right


# On which clips an attacker has what it wants, of their logits and labels: true or false, or by how much, in logits.
Success = Callable[[Logits, Tensor], Tensor]
Says = TypeVar("Says", bound=Callable[..., Tensor])


def misled(logits: Logits, y: Tensor) -> Tensor:
    """By how much another class than `y` is ahead: above 0 the answer is wrong, as it is where logits are not finite.

    Labels that are no class numbers say nothing of that: false on all clips.

    >>> misled(torch.tensor([[2.0, 0.5], [0.0, float("nan")]]), torch.tensor([0, 0]))
    tensor([-1.5000,     inf])
    """
    if y.ndim != 1 or y.is_floating_point() or logits.ndim != 2:
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    return torch.where(logits.isfinite().all(1), margins(logits, y), torch.inf)


def reached(logits: Logits, target: Tensor) -> Tensor:
    """By how much class `target` is ahead of all others; not at all where logits are not finite.

    >>> reached(torch.tensor([[0.0, 2.0], [3.0, 2.0]]), torch.tensor([1, 1]))
    tensor([ 2., -1.])
    """
    return torch.where(logits.isfinite().all(1), -margins(logits, target), -torch.inf)


def succeeds(rule: Success) -> Callable[[Says], Says]:
    """An objective that has what it wants where `rule` says so."""

    def told(objective: Says) -> Says:
        objective.success = rule  # type: ignore[attr-defined]
        return objective

    return told


def success(objective: Callable[..., Tensor], logits: Logits, y: Tensor) -> Tensor | None:
    """What the objective's own `success(logits, y)` says; None where it has none, for then nobody knows.

    Value and success are said together: what an attacker pushes up, and when it has what it wants.  An objective of
    your own may be a class with `__call__(model, x, y)` and `success(logits, y)`, per clip true or false, or a number
    that is above 0 on success.  A search that stops early, stops there; without it, it goes on to the end.

    >>> success(Targeted(1), torch.tensor([[0.0, 2.0], [3.0, 2.0]]), torch.tensor([0, 0]))
    tensor([ 2., -1.])
    >>> success(lambda model, x, y: model(x)[:, 0], torch.zeros(2, 2), torch.tensor([0, 0])) is None
    True
    """
    own: Success | None = getattr(objective, "success", None)
    if own is None:
        return None
    told = own(logits, y)
    if not isinstance(told, Tensor) or told.shape != logits.shape[:1]:
        got = f"one shaped {tuple(told.shape)}" if isinstance(told, Tensor) else type(told).__name__
        raise InputError(
            f"success of {objective_name(objective)} should be a tensor of one value per clip, shaped ({len(logits)},), got "
            f"{got}. Say it of each clip: logits.argmax(1) == target."
        )
    return told


@succeeds(misled)
def cross_entropy(model: Model, x: Signals, y: Tensor) -> PerClip:
    """Minus the log-probability of the true class: the loss that the paper's attackers raise."""
    return F.cross_entropy(model(x).float(), y, reduction="none")


@succeeds(misled)
def margin(model: Model, x: Signals, y: Tensor) -> PerClip:
    """Best other logit minus the true one (Carlini & Wagner 2017, f6 without its cut): does not saturate."""
    return margins(model(x).float(), y)


@succeeds(misled)
def dlr(model: Model, x: Signals, y: Tensor) -> PerClip:
    """The difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over the spread of the first three logits.

    Rescaling or shifting logits leaves it as it is, so a model cannot hide by saturating.  Needs three classes.
    """
    logits = model(x).float()
    if logits.shape[1] < 3:
        raise ValueError(f"expected at least 3 classes for DLR, got {logits.shape[1]}. Use margin.")
    top = logits.topk(3, dim=1).values
    return margins(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


@succeeds(reached)
def dlr_towards(model: Model, x: Signals, target: Tensor) -> PerClip:
    """The targeted difference of logits ratio (Croce & Hein 2020, eq. 7): raised, it leads towards class `target`.

    (z_t - z_y) / (z_1 - (z_3 + z_4) / 2), logits sorted.  We take the best logit but the target's for z_y: the same
    number for as long as the clip is classified right, and so the true label is not asked for.  Needs four classes.
    """
    logits = model(x).float()
    if logits.shape[1] < 4:
        raise ValueError(f"expected at least 4 classes for targeted DLR, got {logits.shape[1]}. Use margin.")
    top = logits.topk(4, dim=1).values
    return -margins(logits, target) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)


@dataclass(frozen=True)
class Targeted:
    """The log-probability of class number `target`: an attack towards it, whatever the true class."""

    target: int

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"towards {self.target}"

    def __call__(self, model: Model, x: Signals, y: Tensor) -> PerClip:
        """One number per clip; `y` only says how many clips there are."""
        logits = model(x).float()
        return -F.cross_entropy(logits, self._aim(logits), reduction="none")

    def success(self, logits: Logits, y: Tensor) -> Tensor:
        """By how much class number `target` is ahead."""
        return reached(logits, self._aim(logits))

    def _aim(self, logits: Logits) -> Tensor:
        if not 0 <= self.target < logits.shape[1]:
            raise InputError(
                f"the target should be one of the model's {logits.shape[1]} classes, 0…{logits.shape[1] - 1}, got {self.target}."
            )
        return torch.full((len(logits),), self.target, device=logits.device)


@runtime_checkable
class ShowsFeatures(Protocol):
    """A model that shows the features it decides from, as `AVNet` does: calling it is `decide(represent(x))`."""

    def __call__(self, x: Signals) -> Tensor: ...
    def represent(self, x: Signals) -> AV[Tensor]: ...
    def decide(self, f: AV[Tensor]) -> Tensor: ...


@runtime_checkable
class Attentive(Protocol):
    """A two-stream model that points at places of the picture; `clean` are its features of the clean clips."""

    @property
    def clean(self) -> AV[Tensor] | None: ...
    def represent(self, x: Signals) -> AV[Tensor]: ...
    def heat(self, f: AV[Tensor]) -> Tensor: ...


def cosine(f: AV[Tensor]) -> PerClip:
    """The cosine between the features of sound and picture (Tian & Xu 2021, eq. 2), in [-1, 1].

    >>> cosine(AV(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])))
    tensor([1.])
    """
    if f.audio.ndim != 2 or f.audio.shape != f.visual.shape:
        raise ValueError(
            f"expected features of one vector per clip and modality, got {tuple(f.audio.shape)} and "
            f"{tuple(f.visual.shape)}. Use encoders of one width, and another fusion than attention to places."
        )
    product: Tensor = (f.audio * f.visual).sum(1)
    lengths: Tensor = f.audio.norm(dim=1) * f.visual.norm(dim=1)
    return product / lengths.clamp_min(1e-8)


@dataclass(frozen=True)
class WithSimilarity:
    """Cross entropy plus `weight` times the cosine between both features: needs a `ShowsFeatures` model.

    With weight 1 it is what the attackers of the published defense script raise: the very loss that MinSim
    lowers (eq. 3).  A negative weight drives the features apart instead.
    """

    weight: float = 1.0

    @property
    def name(self) -> str:
        """How a table calls it."""
        size = "" if abs(self.weight) == 1 else f"{abs(self.weight):g} "
        return f"CE {'+' if self.weight >= 0 else '−'} {size}cos"

    def __call__(self, model: Model, x: Signals, y: Tensor) -> PerClip:
        """One number per clip."""
        if not isinstance(model, ShowsFeatures):
            raise TypeError(
                f"the loss {self.name} needs a model that shows its two features, got {type(model).__name__}. "
                "Give an AVNet, or a model with represent(x) and decide(f)."
            )
        f = model.represent(x)
        return F.cross_entropy(model.decide(f).float(), y, reduction="none") + self.weight * cosine(f)

    def success(self, logits: Logits, y: Tensor) -> Tensor:
        """As of cross entropy."""
        return misled(logits, y)


def heat_shift(model: Model, x: Signals, y: Tensor) -> PerClip:
    """Minus the attention that stays where it was on the clean clip: moves the heat map, whatever the class.

    The sum over places of the product of both heat maps, as a share of the clean map's own; needs an `Attentive`
    model.  The paper's attacks never see the heat map; this one is after nothing else.
    """
    if not isinstance(model, Attentive) or model.clean is None:
        raise TypeError(
            f"the loss heat_shift needs a model with a heat map and its clean features, got {type(model).__name__}. "
            "Give an AVNet with the fusion 'attention', through evaluate or Evaluator."
        )
    clean = model.heat(model.clean).flatten(1)
    return -(model.heat(model.represent(x)).flatten(1) * clean).sum(1) / clean.square().sum(1)


def objective_name(objective: Callable[..., Tensor]) -> str:
    """How a table calls an objective.

    >>> objective_name(margin), objective_name(WithSimilarity())
    ('margin', 'CE + cos')
    """
    return str(getattr(objective, "name", None) or getattr(objective, "__name__", type(objective).__name__))
