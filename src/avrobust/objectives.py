"""What an attacker wants: a number per clip that it pushes UP, and when it has succeeded.  No budgets, no search.

An objective gets a model's `Output` and the labels, never the model.  Labels are what the objective understands: class
numbers (b), one float per label (b k), targets of a regression (b) or (b d).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from avrobust.types import AV, InputError, Labels, Logits, Output, PerClip

# (what the model answers, labels) -> one number per clip.
Raised = Callable[[Output, Tensor], Tensor]
# (what the model answers, labels) -> per clip true or false, or a number that is above 0 on success; None: nobody knows.
Success = Callable[[Output, Tensor], Tensor | None]
# What an objective may ask for besides logits; a model computes nothing that is not asked for.
Need = Literal["features", "heat", "clean"]


@runtime_checkable
class Objective(Protocol):
    """What an attacker pushes up, and when it has succeeded.

    Optional: `name`, for display, and `needs`, a tuple of "features", "heat" and "clean": what it reads of an `Output`
    besides its logits.  A plain function (out, y) -> (b) is an objective too, one that does not say when it has succeeded.
    """

    def value(self, out: Output, y: Labels) -> PerClip:
        """One number per clip; an attacker pushes it up."""

    def success(self, out: Output, y: Labels) -> Tensor | None:
        """On which clips the attacker has succeeded: true or false (b), or a lead (b) that is above 0 on success.

        A lead in the units of the logits lets the engine tell sure successes from those that rounding may have made.
        None: nobody knows.
        """


def _unknown(out: Output, y: Labels) -> None:
    """Nobody knows when the attacker has succeeded."""


@dataclass(frozen=True, repr=False)
class Loss:
    """An objective made of two functions of (out, y).

    >>> confident = Loss("confidence", lambda out, y: out.logits.amax(1))
    >>> confident.value(Output(torch.tensor([[1.0, 3.0]])), torch.tensor([0]))
    tensor([3.])
    """

    name: str
    value: Raised
    success: Success = _unknown
    needs: tuple[Need, ...] = ()

    def __repr__(self) -> str:
        return self.name


def as_objective(given: Any) -> Objective:
    """An objective: the given one, or a plain function (out, y) as one that does not say when it has succeeded.

    Raises `ValueError` for anything else.
    """
    if not isinstance(given, type):
        if isinstance(given, Objective):
            return given
        if callable(given):
            return Loss(display_name(given), given)
    raise ValueError(
        "objective should be a function (out, labels) -> one number per clip, or have the methods value(out, labels) and "
        f"success(out, labels), got {given!r}. Use one of avrobust.objectives, or write your own."
    )


def needs_of(objective: Any) -> tuple[Need, ...]:
    """What an objective reads of an `Output` besides its logits.

    >>> needs_of(cross_entropy), needs_of(heat_shift)
    ((), ('heat', 'clean'))
    """
    return tuple(getattr(objective, "needs", ()))


def display_name(thing: Any) -> str:
    """The display name of an objective or an attack: its `name`, else that of the function or the class.

    >>> display_name(margin), display_name(WithSimilarity()), display_name(max)
    ('margin', 'CE + cos', 'max')
    """
    return str(getattr(thing, "name", None) or getattr(thing, "__name__", type(thing).__name__))


# Classification: y are class numbers (b).


def margins(logits: Logits, y: Labels) -> PerClip:
    """Best other logit minus the true one: positive means wrong.

    >>> import torch
    >>> margins(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    true = logits.gather(1, y[:, None])[:, 0]
    other = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return other - true


def correct(logits: Logits, y: Labels) -> Bool[Tensor, " b"]:
    """Whether the model classifies each clip correctly; logits that are not finite are never correct.

    >>> correct(torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]), torch.tensor([0, 0]))
    tensor([ True, False])
    """
    right: Tensor = (logits.argmax(1) == y) & logits.isfinite().all(1)
    return right


def misclassified(out: Output, y: Labels) -> Tensor:
    """By how much another class than `y` is ahead: above 0 the clip is misclassified; inf where logits are not finite.

    False on all clips if the labels are not class numbers.

    >>> misclassified(Output(torch.tensor([[2.0, 0.5], [0.0, float("nan")]])), torch.tensor([0, 0]))
    tensor([-1.5000,     inf])
    """
    logits = out.logits.float()
    if y.ndim != 1 or y.is_floating_point() or logits.ndim != 2:
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    return torch.where(logits.isfinite().all(1), margins(logits, y), torch.inf)


def _cross_entropy(out: Output, y: Labels) -> PerClip:
    return F.cross_entropy(out.logits.float(), y, reduction="none")


def _margin(out: Output, y: Labels) -> PerClip:
    return margins(out.logits.float(), y)


def _dlr(out: Output, y: Labels) -> PerClip:
    logits = out.logits.float()
    if logits.shape[1] < 3:
        raise ValueError(f"expected at least 3 classes for DLR, got {logits.shape[1]}. Use margin.")
    top = logits.topk(3, dim=1).values
    return margins(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def _dlr_towards(out: Output, y: Labels) -> PerClip:
    logits = out.logits.float()
    if logits.shape[1] < 4:
        raise ValueError(f"expected at least 4 classes for targeted DLR, got {logits.shape[1]}. Use margin.")
    top = logits.topk(4, dim=1).values
    return -margins(logits, y[:, 1]) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)


def _first_misclassified(out: Output, y: Labels) -> Tensor:
    return misclassified(out, y[:, 0])


# Minus the log-probability of the true class: the loss that the paper's attackers raise.
cross_entropy = Loss("cross_entropy", _cross_entropy, misclassified)
# Best other logit minus the true one (Carlini & Wagner 2017, f6 without its cut): does not saturate.
margin = Loss("margin", _margin, misclassified)
# The difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over the spread of the first three logits.
# Rescaling or shifting the logits does not change it, so a model cannot hide by saturating.  Needs three classes.
dlr = Loss("dlr", _dlr, misclassified)
# The targeted difference of logits ratio (Croce & Hein 2020, eq. 7), y shaped (b 2): the true class and the target.
# (z_t - z_y) / (z_1 - (z_3 + z_4) / 2), logits sorted.  We take the best logit but the target's for z_y: the same number
# for as long as the clip is classified correctly.  Succeeds with any misclassification.  Needs four classes.
dlr_towards = Loss("dlr_towards", _dlr_towards, _first_misclassified)


@dataclass(frozen=True)
class Targeted:
    """The log-probability of class number `target`: a targeted attack, whatever the true class.

    Raises `InputError` for a target that is not one of the model's classes.

    >>> out = Output(torch.tensor([[0.0, 2.0], [3.0, 2.0]]))
    >>> Targeted(1).success(out, torch.tensor([0, 0]))
    tensor([ 2., -1.])
    """

    target: int

    @property
    def name(self) -> str:
        """Display name."""
        return f"towards {self.target}"

    def value(self, out: Output, y: Labels) -> PerClip:
        """Log-probability of the target."""
        logits = out.logits.float()
        return -F.cross_entropy(logits, self._target(logits), reduction="none")

    def success(self, out: Output, y: Labels) -> PerClip:
        """By how much the target is ahead of all other classes; -inf where logits are not finite."""
        logits = out.logits.float()
        return torch.where(logits.isfinite().all(1), -margins(logits, self._target(logits)), -torch.inf)

    def _target(self, logits: Logits) -> Tensor:
        if not 0 <= self.target < logits.shape[1]:
            raise InputError(
                f"the target should be one of the model's {logits.shape[1]} classes, 0…{logits.shape[1] - 1}, got {self.target}."
            )
        return torch.full((len(logits),), self.target, device=logits.device)


# Two streams


def cosine(f: AV[Tensor]) -> PerClip:
    """The cosine between the audio and the visual features (Tian & Xu 2021, eq. 2), in [-1, 1].

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
    """Cross entropy plus `weight` times the cosine between both features: needs a model that shows its features.

    With weight 1, this is what the attackers of the published defense script raise: the same loss that MinSim
    lowers (eq. 3).  A negative weight drives the features apart instead.
    """

    weight: float = 1.0

    @property
    def name(self) -> str:
        """Display name."""
        size = "" if abs(self.weight) == 1 else f"{abs(self.weight):g} "
        return f"CE {'+' if self.weight >= 0 else '−'} {size}cos"

    @property
    def needs(self) -> tuple[Need, ...]:
        """The features."""
        return ("features",)

    def value(self, out: Output, y: Labels) -> PerClip:
        """Cross entropy plus the weighted cosine.  Raises `InputError` where the model shows no features."""
        if out.features is None:
            raise InputError(
                f"the objective {self.name} needs a model that shows its two features, got logits only. Give the model the "
                "methods embed(x) and decide(features), or return avrobust.types.Output(logits, features)."
            )
        return _cross_entropy(out, y) + self.weight * cosine(out.features)

    def success(self, out: Output, y: Labels) -> Tensor:
        """Misclassification."""
        return misclassified(out, y)


def _heat_shift(out: Output, y: Labels) -> PerClip:
    if out.heat is None or out.clean is None or out.clean.heat is None:
        raise InputError(
            "the objective heat_shift needs a model with a heat map, and the clean clips, got a model without. Use the fusion "
            "'attention', give the model a method heat(features), or return avrobust.types.Output(logits, heat=heat)."
        )
    clean = out.clean.heat.flatten(1)
    return -(out.heat.flatten(1) * clean).sum(1) / clean.square().sum(1)


# Minus the overlap of the heat map with that of the clean clip: moves where the model looks, whatever the class.
# The sum over places of the product of both heat maps, divided by the clean map's own.  The paper's attacks never see the
# heat map; this objective targets nothing else.  Does not say when it has succeeded.
heat_shift = Loss("heat_shift", _heat_shift, needs=("heat", "clean"))


# Other tasks


@dataclass(frozen=True)
class MultiLabel:
    """Binary cross entropy of a multi-label model; y are 0 and 1, one float per label (b k).

    `label` attacks that label alone; None all of them.  Succeeds once the attacked label, or any of them, is wrong.

    >>> out, y = Output(torch.tensor([[2.0, -1.0], [2.0, 0.5]])), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> MultiLabel().success(out, y), MultiLabel(label=0).success(out, y)
    (tensor([-1.0000,  0.5000]), tensor([-2., -2.]))
    """

    label: int | None = None

    @property
    def name(self) -> str:
        """Display name."""
        return "BCE" if self.label is None else f"BCE, label {self.label}"

    def value(self, out: Output, y: Labels) -> PerClip:
        """The mean over the attacked labels."""
        logits, wanted = self._attacked(out, y)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)

    def success(self, out: Output, y: Labels) -> PerClip:
        """How far the logit furthest on the wrong side of 0 has gone; inf where logits are not finite."""
        logits, wanted = self._attacked(out, y)
        return torch.where(logits.isfinite().all(1), ((1 - 2 * wanted) * logits).amax(1), torch.inf)

    def _attacked(self, out: Output, y: Labels) -> tuple[Float[Tensor, "b l"], Float[Tensor, "b l"]]:
        logits = out.logits.float()
        if y.shape != logits.shape:
            raise InputError(
                f"multi-label targets should be shaped as the logits, {tuple(logits.shape)}, got {tuple(y.shape)}. "
                "Give 0.0 or 1.0 for each clip and label."
            )
        on = slice(None) if self.label is None else slice(self.label, self.label + 1)
        return logits[:, on], y.to(logits)[:, on]


@dataclass(frozen=True)
class Regression:
    """How far the predictions lie from their targets y; succeeds beyond `tolerance`, in the units of the prediction.

    Predictions are what the model returns, (b) or (b d), the targets shaped alike; with several, the largest deviation.
    Where a clip's prediction is exact the gradient is 0: begin at a random start (`PGD`, `APGD`), not with `FGSM`.

    >>> Regression(0.5).success(Output(torch.tensor([1.0, 3.0])), torch.tensor([1.0, 2.0]))
    tensor([-0.5000,  0.5000])
    """

    tolerance: float

    @property
    def name(self) -> str:
        """Display name."""
        return f"deviation > {self.tolerance:g}"

    def value(self, out: Output, y: Labels) -> PerClip:
        """The largest absolute deviation."""
        prediction, target = (s.float().reshape(len(s), -1) for s in (out.logits, y))
        if prediction.shape != target.shape:
            raise InputError(
                f"targets should be shaped as the predictions, {tuple(prediction.shape)}, got {tuple(target.shape)}. "
                "Give one target for each number that the model predicts."
            )
        return (prediction - target).abs().amax(1)

    def success(self, out: Output, y: Labels) -> PerClip:
        """The deviation beyond the tolerance."""
        return self.value(out, y) - self.tolerance


@dataclass(frozen=True)
class EmbeddingShift:
    """How far an embedding moves from that of the clean clip; succeeds beyond the Euclidean distance `tolerance`.

    `of` is what counts as the embedding: "logits", what the model returns, or its "audio" or "visual" features.  y is not
    read.  At the clean clip the gradient is 0: begin at a random start (`PGD`, `APGD`), not with `FGSM`.

    >>> clean = Output(torch.zeros(2, 2))
    >>> out = Output(torch.tensor([[0.3, 0.4], [3.0, 4.0]]), clean=clean)
    >>> EmbeddingShift(1.0).success(out, torch.zeros(2))
    tensor([False,  True])
    """

    tolerance: float
    of: Literal["logits", "audio", "visual"] = "logits"

    @property
    def name(self) -> str:
        """Display name."""
        what = "embedding" if self.of == "logits" else f"{self.of} features"
        return f"{what} moved > {self.tolerance:g}"

    @property
    def needs(self) -> tuple[Need, ...]:
        """The clean clips' answer, and features where these are compared."""
        return ("clean",) if self.of == "logits" else ("clean", "features")

    def value(self, out: Output, y: Labels) -> PerClip:
        """The squared Euclidean distance: unlike the distance it has a gradient everywhere."""
        if out.clean is None:
            raise InputError(
                f"the objective '{self.name}' compares with the clean clips, got none. Attack with a search."
            )
        return (self._embedding(out) - self._embedding(out.clean)).square().sum(1)

    def success(self, out: Output, y: Labels) -> Bool[Tensor, " b"]:
        """Whether the embedding moved further than the tolerance."""
        return self.value(out, y) > self.tolerance**2

    def _embedding(self, out: Output) -> Float[Tensor, "b d"]:
        if self.of == "logits":
            return out.logits.float().reshape(len(out.logits), -1)
        if out.features is None:
            raise InputError(
                f"the objective '{self.name}' needs a model that shows its features, got logits only. Give the model the methods "
                "embed(x) and decide(features), or return avrobust.types.Output(logits, features)."
            )
        features: Tensor = getattr(out.features, self.of)
        return features.float().flatten(1)
