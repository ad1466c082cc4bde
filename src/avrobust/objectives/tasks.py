"""Objectives of other tasks than classification: several labels per clip, regression, embeddings."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from avrobust.objectives.base import Need
from avrobust.types import InputError, Labels, Output, PerClip


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
