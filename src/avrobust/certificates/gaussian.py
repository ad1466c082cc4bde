"""Randomised smoothing with a Gaussian per modality: certified L2 radii of audio and video, together."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import stats
from torch import Tensor

from avrobust.certificates.base import Certificate, Draws
from avrobust.threat import Ball, distances
from avrobust.types import AV, Signals

L2 = Ball(0.0, "l2")


@dataclass(frozen=True)
class Gaussian(Certificate):
    """Gaussian noise on the waveform (standard deviation `audio`) and on the frames (`visual`), in the signals' own units.

    Divided by its noise, each stream has noise of standard deviation 1, and both together are one input of the theorem of
    Cohen et al. (2019): the class with probability p or more, against 1 - p, withstands every pair of perturbations with

        (|delta_audio| / audio)^2 + (|delta_visual| / visual)^2 < Phi^-1(p)^2,     norms L2,

    and with the bound q of the others' probability, Phi^-1(p) becomes (Phi^-1(p) - Phi^-1(q)) / 2 (their theorem 1).  One
    vote therefore certifies audio attacked, video attacked and both.  Noise of 0 leaves a stream as it is, and certifies
    nothing about perturbations of it: `Gaussian(audio=0.02)` is about audio alone with clean video, while the audio radius
    of `Gaussian(audio=0.02, visual=0.25)` is about audio alone with noisy video.  Noisy signals may leave [-1, 1] or [0, 1]:
    the model takes them as they are, as the paper's does.

    Arithmetic is float32 and draws are pseudo-random: an adversary who exploits rounding (Jin et al. 2022) is not covered.

    >>> both = Gaussian(audio=0.02, visual=0.25)
    >>> round(both.reach(0.9, 0.1), 3), both.distance(audio=0.02), both.distance(audio=0.012, visual=0.2)
    (1.282, 1.0, 1.0)
    >>> both.alone(2.0), Gaussian(audio=0.02).distance(visual=0.001)
    (AV(audio=0.04, visual=0.5), inf)
    """

    audio: float = 0.0
    visual: float = 0.0

    axis: ClassVar[str] = "radius, in standard deviations of the noise"
    unit: ClassVar[str] = "L2"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (min(self.audio, self.visual) >= 0 and 0 < self.audio + self.visual < math.inf):
            raise ValueError(
                f"expected noise on audio, on video or on both, got audio={self.audio!r}, visual={self.visual!r}. Give "
                "Gaussian(audio=0.02, visual=0.25), in the signals' own units."
            )

    @property
    def name(self) -> str:
        """Display name."""
        parts = (f"{name} {noise:g}" for name, noise in self._noise.items() if noise)
        return f"{type(self).__name__}, {', '.join(parts)}" + (", runner-up" if self.others == "runner-up" else "")

    @property
    def subset(self) -> str:
        """The modalities that get noise."""
        return "A" * (self.audio > 0) + "V" * (self.visual > 0)

    @property
    def _noise(self) -> AV[float]:
        return AV(self.audio, self.visual)

    def copies(self, clip: Signals, count: int, draws: Draws) -> Signals:
        """The clip plus noise, `count` times."""

        def noisy(s: Tensor, noise: float, draw: np.random.Generator) -> Tensor:
            if not noise:
                return s.repeat(count, *[1] * (s.ndim - 1))
            drawn = draw.standard_normal((count, *s.shape[1:]), dtype=np.float32)
            return s + noise * s.new_tensor(drawn)

        return clip.map(noisy, self._noise, draws)

    def distance(self, audio: float = 0.0, visual: float = 0.0) -> float:
        """The length of the pair of L2 norms, each over its noise."""
        sizes = AV(audio, visual)
        whitened = sizes.map(lambda size, noise: 0.0 if not size else size / noise if noise else math.inf, self._noise)
        return math.hypot(*whitened)

    def reach(self, low: float, high: float) -> float:
        """The radius of the theorem, in standard deviations."""
        return float(stats.norm.ppf(low) - stats.norm.ppf(high)) / 2

    def alone(self, reach: float) -> AV[float]:
        """L2 radii."""
        return self._noise.map(lambda noise: noise * reach if noise else 0.0)

    def sizes(self, x: Signals, adversarial: Signals) -> AV[list[float]]:
        """L2 norms."""
        return x.map(lambda s, a: distances(a, s, L2)[0].tolist(), adversarial)
