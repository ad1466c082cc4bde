"""Feature defenses as a user may write them, each with another kind of settings."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avrobust.types import AV


class Faded(nn.Module):
    """A number for a setting."""

    def __init__(self, keep: float) -> None:
        super().__init__()
        self.keep = keep

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        return f.map(lambda z: self.keep * z)


class Quantised(nn.Module):
    """A tensor for a setting, kept as a buffer."""

    steps: Tensor

    def __init__(self, steps: Tensor) -> None:
        super().__init__()
        self.register_buffer("steps", steps)

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        return AV(
            f.audio.div(self.steps[0]).round() * self.steps[0], f.visual.div(self.steps[1]).round() * self.steps[1]
        )


@dataclass(frozen=True)
class Settings:
    """Settings as a dataclass, and the rest of a study's feature defense: `fill` makes it."""

    share: object = 0.5
    over: tuple[int, ...] = (0,)

    def fill(self, net: nn.Module, clips: object, seed: int) -> "Blend":
        return Blend(self, 128)


class Blend(nn.Module):
    """A dataclass for a setting, a width with a default, and weights that are drawn."""

    def __init__(self, settings: Settings, width: int = 128) -> None:
        super().__init__()
        self.settings, self.width = settings, width
        self.mix = nn.Linear(width, width)

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        return f.map(lambda z: torch.lerp(z, self.mix(z), float(self.settings.share)))
