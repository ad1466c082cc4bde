"""Corruptions in the form of attacks: any model, any shape, five severities, the same noise for the same (seed, clip).

The fifteen kinds are those of AVRobustBench (arXiv 2506.00358), and so are the strengths that it declares: signal-to-noise
ratios, the noise on frames, JPEG qualities, the ends of the low-pass (8 and 1 kHz), rotations and silences.  The strengths of
video under weather and people, and the low-pass in between, are ours.  Where its published code departs from what it
declares, we follow the declaration:

- Audio noise has the declared signal-to-noise ratio; the code takes the number of the severity for decibels.
- Nothing is fixed at 224 pixels: lengths grow with the short side of the frames.
- A rotation turns by at least 6 degrees times the severity; the code's interval contains 0.
- Everything is drawn per seed and clip, clips stay as they were, and textures and background sounds are
  synthesised: there are no asset files.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from avrobust.corruptions import digital, human, weather
from avrobust.corruptions.sound import Wave
from avrobust.corruptions.vision import Film
from avrobust.facts import AttackInfo
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, NAMES, Model, Signals

SEVERITIES = (1, 2, 3, 4, 5)
# (one clip's waveform (n), sampling rate in Hz, severity, its draws) -> its corrupted waveform
OfAudio = Callable[[Wave, int, int, np.random.Generator], Wave]
# (one clip's frames (t h w 3), severity, its draws) -> its corrupted frames
OfVisual = Callable[[Film, int, np.random.Generator], Film]

# What happens to audio and to video when both suffer from the same cause.
KINDS: MappingProxyType[str, AV[Callable[..., np.ndarray]]] = MappingProxyType(
    {
        "gaussian": AV(digital.gaussian_audio, digital.gaussian_visual),
        "impulse": AV(digital.impulse_audio, digital.impulse_visual),
        "shot": AV(digital.shot_audio, digital.shot_visual),
        "speckle": AV(digital.speckle_audio, digital.speckle_visual),
        "compression": AV(digital.compression_audio, digital.compression_visual),
        "snow": AV(weather.snow_audio, weather.snow_visual),
        "frost": AV(weather.frost_audio, weather.frost_visual),
        "spatter": AV(weather.spatter_audio, weather.spatter_visual),
        "wind": AV(weather.wind_audio, weather.wind_visual),
        "rain": AV(weather.rain_audio, weather.rain_visual),
        "underwater": AV(weather.underwater_audio, weather.underwater_visual),
        "concert": AV(human.concert_audio, human.concert_visual),
        "smoke": AV(human.smoke_audio, human.smoke_visual),
        "crowd": AV(human.crowd_audio, human.crowd_visual),
        "interference": AV(human.interference_audio, human.interference_visual),
    }
)


@dataclass(frozen=True)
class Corruption:
    """One kind of corruption at one severity, in the modalities that the threat has budgets for.

    `rate` is the audio's sampling rate in Hz; studies and `evaluate(rate=...)` fill in that of the clips.  Use it like an attack, inside `attacks.ANYTHING`: no budget limits it.
    Raises `ValueError` for an unknown kind or severity.

    >>> from avrobust.attacks import ANYTHING
    >>> x = AV(audio=torch.zeros(1, 800) + 0.1, visual=torch.full((1, 1, 3, 8, 8), 0.5))
    >>> noisy = Corruption("gaussian", severity=1)(None, x, None, ANYTHING.only("A"), Seeds(0, ("clip",)))
    >>> bool(torch.equal(noisy.visual, x.visual)), round(float(20 * (x.audio.norm() / (noisy.audio - x.audio).norm()).log10()))
    (True, 40)
    """

    kind: str
    severity: int = 3
    rate: int = 16_000
    mode: ClassVar[str] = "corruption"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind should be one of {', '.join(KINDS)}, got {self.kind!r}. Choose one of them.")
        if self.severity not in SEVERITIES:
            raise ValueError(f"severity should be 1, 2, 3, 4 or 5, got {self.severity!r}. 1 is mild, 5 severe.")
        if not self.rate > 0:
            raise ValueError(f"rate should be the sampling rate in Hz, got {self.rate!r}. Give 16000, for example.")

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.kind} {self.severity}"

    @property
    def info(self) -> AttackInfo:
        """Its kind and its severity, for rows."""
        return AttackInfo(self.kind, strength=self.severity)

    def at_rate(self, rate: int) -> "Corruption":
        """The same for clips of this sampling rate, in Hz."""
        return replace(self, rate=rate)

    def __call__(self, model: Model | None, x: Signals, y: Tensor | None, threat: Threat, seeds: Seeds) -> Signals:
        """Corrupted signals, shaped as `x` and within their range."""
        kind = KINDS[self.kind]
        done = AV(
            audio=lambda s, g: kind.audio(s, self.rate, self.severity, g),
            visual=lambda s, g: kind.visual(s.transpose(0, 2, 3, 1), self.severity, g).transpose(0, 3, 1, 2),
        )
        return threat.map(
            lambda ball, s, corrupt, name: (
                _per_clip(s, corrupt, seeds, (self.kind, name), ball.low, ball.high) if ball.active else s
            ),
            x,
            done,
            NAMES,
        )


def corruptions(
    kinds: Iterable[str] = tuple(KINDS), severities: Iterable[int] = SEVERITIES, rate: int = 16_000
) -> tuple[Corruption, ...]:
    """Every one of `kinds` at every one of `severities`.

    >>> len(corruptions()), [c.name for c in corruptions(["rain"], [1, 5])]
    (75, ['rain 1', 'rain 5'])
    """
    severities = tuple(severities)
    return tuple(Corruption(kind, severity, rate) for kind in kinds for severity in severities)


def _per_clip(
    s: Tensor,
    corrupt: Callable[[np.ndarray, np.random.Generator], np.ndarray],
    seeds: Seeds,
    purpose: tuple[str, ...],
    low: float,
    high: float,
) -> Tensor:
    """Clip by clip, in float64, each with draws of its own: the same at every severity."""
    clips = s.detach().cpu().double().numpy()
    made = [corrupt(clip, seeds.generator(i, "corruption", *purpose)) for i, clip in enumerate(clips)]
    return torch.from_numpy(np.stack(made).clip(low, high)).to(s)
