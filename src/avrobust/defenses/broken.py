"""Defenses that are broken on purpose, to test an evaluation: each makes weak attacks fail, none makes a model robust.

They are feature defenses, between the encoders and the fusion, so that one trained network serves for all of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avrobust.defenses.detection import Detection, Distance, Features
from avrobust.defenses.embedded import Embedded
from avrobust.models.network import Network
from avrobust.types import AV, Batch

# How features are changed: (features, amount, mean size of features) -> features.
HOW: dict[str, Callable[[Tensor, float, Tensor], Tensor]] = {
    # Rounded to multiples of `amount` times the mean size: the gradient is 0 everywhere (Athalye et al. 2018: shattered gradients).
    "rounded": lambda f, amount, size: (f / (amount * size)).round() * (amount * size),
    # Noise of `amount` times the mean size, drawn anew at every call (stochastic gradients).
    "noisy": lambda f, amount, size: f + amount * size * torch.randn_like(f),
    # Logits so large that softmax is 0 or 1, and cross entropy flat (Carlini & Wagner 2017 on distillation).
    "saturated": lambda f, amount, size: f * amount,
    # Minus `amount` times the batch mean: the output depends on the other clips of the batch.
    "sociable": lambda f, amount, size: f - amount * f.mean(0),
}


@dataclass(frozen=True)
class Broken:
    """Settings: the kind, a name in `HOW`, and its amount."""

    how: str
    amount: float

    def __post_init__(self) -> None:
        if self.how not in HOW:
            raise ValueError(f"expected one of {', '.join(HOW)}, got {self.how!r}.")

    @torch.inference_mode(False)
    @torch.no_grad()
    def fill(self, net: Network, clips: Iterable[Batch], seed: int) -> "BrokenDefense":
        """The feature defense of this network; the size of features is measured on the first batch of training clips."""
        f = net.embed(next(iter(clips)).x)
        return BrokenDefense(self, f.map(lambda s: s.float().abs().mean()))


class BrokenDefense(nn.Module):
    """A broken feature defense: features in, (b d) each, features out; `size` is the mean size of each modality's."""

    audio: Tensor
    visual: Tensor

    def __init__(self, settings: Broken, size: AV[Tensor]) -> None:
        super().__init__()
        self.settings = settings
        self.register_buffer("audio", size.audio)
        self.register_buffer("visual", size.visual)

    @property
    def size(self) -> AV[Tensor]:
        """The mean absolute feature of each modality."""
        return AV(self.audio, self.visual)

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        """The changed features."""
        bend = HOW[self.settings.how]
        return f.map(lambda s, size: bend(s, self.settings.amount, size), self.size)


DISTANCE = Distance()


@dataclass(frozen=True)
class BrokenDetection(Detection):
    """`detection` with a suspicion that is only its sign: it sees what the detector sees, and no gradient tells how to hide."""

    detection: Detection = DISTANCE

    def fit(self, net: Network, clips: Sequence[Batch], known: Embedded, seed: int) -> "Signs":
        """The detector, with its answers rounded."""
        return Signs(self.detection.fit(net, clips, known, seed))


class Signs(nn.Module):
    """What `detector` suspects, as -1 or 1."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, f: Features) -> AV[Tensor]:
        """(b) each, of features (b d)."""
        found: AV[Tensor] = self.detector(f)
        return found.map(torch.sign)
