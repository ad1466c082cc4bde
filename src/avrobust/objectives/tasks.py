"""Objectives of other tasks than classification: several labels per clip, regression, embeddings."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from avrobust.config import check_choices
from avrobust.objectives.base import Loss, Need
from avrobust.objectives.streams import cosine
from avrobust.types import InputError, Labels, Output, PerClip


@dataclass(frozen=True)
class BinaryCrossEntropy:
    """Binary cross entropy of independent yes-or-no answers; y are 0 and 1, one float per label (b k), or (b) of one logit.

    `label` attacks that label alone; None all of them.  An answer is yes above `threshold`, in the units of the logits.
    Succeeds once the answer to an attacked label is wrong; one that was wrong on the clean clip does not count, where the
    answer to that is known.

    >>> out, y = Output(torch.tensor([[2.0, -1.0], [2.0, 0.5]])), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> BinaryCrossEntropy().success(out, y), BinaryCrossEntropy(label=0).success(out, y)
    (tensor([-1.0000,  0.5000]), tensor([-2., -2.]))
    >>> BinaryCrossEntropy().success(Output(out.logits, clean=out), y)
    tensor([-1., -2.])
    """

    label: int | None = None
    threshold: float = 0.0

    @property
    def name(self) -> str:
        """Display name."""
        return "BCE" if self.label is None else f"BCE, label {self.label}"

    @property
    def needs(self) -> tuple[Need, ...]:
        """The clean clips' answer: which labels could still be lost."""
        return ("clean",)

    def value(self, out: Output, y: Labels) -> PerClip:
        """The mean over the attacked labels."""
        logits, wanted = self._attacked(out, y)
        return F.binary_cross_entropy_with_logits(logits, wanted, reduction="none").mean(1)

    def success(self, out: Output, y: Labels) -> PerClip:
        """How far the logit furthest on the wrong side of the threshold has gone; inf where logits are not finite.

        -inf where no attacked label was right on the clean clip.
        """
        logits, wanted = self._attacked(out, y)
        past = (1 - 2 * wanted) * (logits - self.threshold)
        if out.clean is not None:
            before, _ = self._attacked(out.clean, y)
            past = torch.where((before > self.threshold) == (wanted > 0.5), past, -torch.inf)
        return torch.where(logits.isfinite().all(1), past.amax(1), torch.inf)

    def _attacked(self, out: Output, y: Labels) -> tuple[Float[Tensor, "b l"], Float[Tensor, "b l"]]:
        hint = "Give 0.0 or 1.0 for each clip and label."
        logits, wanted = _side_by_side(out, y, "multi-label targets should be shaped as the logits", hint)
        if self.label is not None and not 0 <= self.label < logits.shape[1]:
            raise InputError(
                f"the attacked label should be one of {logits.shape[1]}, 0…{logits.shape[1] - 1}, got {self.label}."
            )
        on = slice(None) if self.label is None else slice(self.label, self.label + 1)
        return logits[:, on], wanted[:, on].to(logits)


@dataclass(frozen=True)
class Deviation:
    """How far the predictions lie from their targets y; succeeds beyond `tolerance`, in the units of the prediction.

    Predictions are what the model returns, (b) or (b d), the targets shaped alike; with several, the largest deviation.
    Where a clip's prediction is exact the gradient is 0: begin at a random start (`PGD`, `APGD`), not with `FGSM`.

    >>> Deviation(0.5).success(Output(torch.tensor([1.0, 3.0])), torch.tensor([1.0, 2.0]))
    tensor([-0.5000,  0.5000])
    """

    tolerance: float

    @property
    def name(self) -> str:
        """Display name."""
        return f"deviation > {self.tolerance:g}"

    def value(self, out: Output, y: Labels) -> PerClip:
        """The largest absolute deviation."""
        hint = "Give one target for each number that the model predicts."
        prediction, target = _side_by_side(out, y, "targets should be shaped as the predictions", hint)
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

    def __post_init__(self) -> None:
        check_choices(self)

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


@dataclass(frozen=True)
class EmbeddingTowards:
    """How near an embedding comes to a target y (b d); succeeds within the Euclidean distance `tolerance` of it.

    The embedding is what the model returns.  A target may be the embedding of another clip.

    >>> out = Output(torch.tensor([[0.3, 0.4], [3.0, 4.0]]))
    >>> EmbeddingTowards(1.0).success(out, torch.zeros(2, 2))
    tensor([ True, False])
    """

    tolerance: float

    @property
    def name(self) -> str:
        """Display name."""
        return f"embedding within {self.tolerance:g} of a target"

    def value(self, out: Output, y: Labels) -> PerClip:
        """Minus the squared Euclidean distance to the target."""
        hint = "Give one embedding for each clip to move towards."
        embedding, target = _side_by_side(out, y, "targets should be shaped as the embeddings", hint)
        return -(embedding - target).square().sum(1)

    def success(self, out: Output, y: Labels) -> Bool[Tensor, " b"]:
        """Whether the embedding lies within the tolerance of its target."""
        return self.value(out, y) > -(self.tolerance**2)


def _side_by_side(
    out: Output, y: Labels, expected: str, hint: str
) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b d"]]:
    """What the model answers and the targets, a row per clip each.  Raises `InputError` where their shapes differ."""
    answer, target = (s.float().reshape(len(s), -1) for s in (out.logits, y))
    if answer.shape != target.shape:
        raise InputError(f"{expected}, {tuple(answer.shape)}, got {tuple(y.shape)}. {hint}")
    return answer, target


def _pair_apart(out: Output, y: Labels) -> PerClip:
    if out.features is None:
        raise InputError(
            "the objective pair_apart needs a model that shows an audio and a visual embedding, got logits only. Return "
            "AV(audio=..., visual=...), or avrobust.types.Output(logits, features)."
        )
    return -cosine(out.features)


# Minus the cosine between the audio and the visual embedding of a clip: pushes the clip down in each other's ranking.
# Whether another clip is ahead depends on which clips are searched, so this objective does not say when it has succeeded.
pair_apart = Loss("pair_apart", _pair_apart, needs=("features",), on_answer=True)
