"""Defenses that do not defend, to test a harness with: each makes weak attacks fail, and none makes a model robust.

They stand where a feature defense stands, between the encoders and the fusion, so that one trained network serves for all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avrobust.models.network import AVNet
from avrobust.types import AV, Batch

# What is done to features, given how much and how large features are.
HOW: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    # Steps as wide as `amount` features: the gradient is 0 everywhere (Athalye et al. 2018: shattered gradients).
    "rounded": lambda f, amount, size: (f / (amount * size)).round() * (amount * size),
    # Noise of `amount` features, drawn anew at every call (stochastic gradients).
    "noisy": lambda f, amount, size: f + amount * size * torch.randn_like(f),
    # Logits so large that softmax is 0 or 1, and cross entropy flat (Carlini & Wagner 2017 on distillation).
    "saturated": lambda f, amount, size: f * amount,
    # Features relative to those of the clips that happen to be in the batch.
    "sociable": lambda f, amount, size: f - amount * f.mean(0),
}


@dataclass(frozen=True)
class Broken:
    """One of `HOW`, and how much of it."""

    how: str
    amount: float

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ValueError(f"expected one of {', '.join(HOW)}, got {self.how!r}.")

    @torch.no_grad()
    def fill(self, net: AVNet, clips: Iterable[Batch], seed: int) -> "BrokenDefense":
        """The feature defense for this network, whose features' size is taken from the first training clips."""
        f = net.embed(next(iter(clips)).x)
        return BrokenDefense(self, f.map(lambda s: s.float().abs().mean()))


class BrokenDefense(nn.Module):
    """A broken feature defense: features in, (b d) each, features out."""

    audio: Tensor
    visual: Tensor

    def __init__(self, settings: Broken, size: AV[Tensor]) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("audio", size.audio)
        self.register_buffer("visual", size.visual)

    @property
    def size(self) -> AV[Tensor]:
        """How large each modality's features are."""
        return AV(self.audio, self.visual)

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        """The features in their disguise."""
        bend = HOW[self.settings.how]
        return f.map(lambda s, size: bend(s, self.settings.amount, size), self.size)
