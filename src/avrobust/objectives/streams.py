"""Objectives that look inside a two-stream model: at both features, or at its heat map."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from avrobust.objectives.base import Loss, Need
from avrobust.objectives.classification import misclassified, negative_log_likelihood
from avrobust.types import AV, InputError, Labels, Output, PerClip


def cosine(f: AV[Tensor]) -> PerClip:
    """The cosine between the audio and the visual features (Tian & Xu 2021, eq. 2), in [-1, 1].

    >>> import torch
    >>> cosine(AV(torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])))
    tensor([1.])
    """
    if f.audio.ndim != 2 or f.audio.shape != f.visual.shape:
        raise InputError(
            f"expected features of one vector per clip and modality, got {tuple(f.audio.shape)} and "
            f"{tuple(f.visual.shape)}. Use encoders of one width, and another fusion than spatial attention."
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

    on_answer: ClassVar[bool] = True

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
        return negative_log_likelihood(out, y) + self.weight * cosine(out.features)

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
heat_shift = Loss("attention moved", _heat_shift, needs=("heat", "clean"))
