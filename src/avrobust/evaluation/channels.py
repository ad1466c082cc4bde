"""Is a clip still adversarial after it was stored or sent?  Files, resampling and codecs as channels.

An attack computes in floating point.  A file holds 8-bit pixels and 16-bit samples, or the output of a codec.  A channel
is any callable from signals to signals of the same shapes; those here are frozen dataclasses with a `name`, and their
output for a clip does not depend on its batch.  Studies and `evaluate(rate=...)` fill in the sampling rate of the clips.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32
from scipy import signal
from torch import Tensor

from avrobust.attacks.base import at_rate, channel_info
from avrobust.attacks.quantized import behind, on_levels
from avrobust.config import concise
from avrobust.facts import AttackInfo
from avrobust.media.channel import through_mp4
from avrobust.media.encode import AAC_RATES
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Channel, Frames, Model, Signals, Wave


@dataclass(frozen=True)
class Lossless:
    """Lossless files: 8 bits per colour as in `.png`, 16 bits per sample as in `.wav`.

    >>> x = AV(audio=torch.tensor([[0.2 / 32768]]), visual=torch.full((1, 1, 3, 1, 1), 2.4 / 255))
    >>> Lossless()(x).map(lambda s: s.flatten()[0].item())
    AV(audio=0.0, visual=0.007843137718737125)
    """

    name: ClassVar[str] = "8 and 16 bits"

    def __call__(self, x: Signals) -> Signals:
        """The nearest clips that files can hold."""
        return on_levels(x)


@dataclass(frozen=True)
class Coarser:
    """Resampling: audio from `rate` Hz to `to` Hz, the sides of the frames times `size`, and back.

    Low-pass filtered both ways; rounded to 16 and 8 bits after each.
    """

    rate: int = 11025
    to: int = 8000
    size: float = 0.5

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.to:,} Hz, sides × {self.size:g}"

    def at_rate(self, rate: int) -> "Coarser":
        """The same for clips of this sampling rate, in Hz."""
        return replace(self, rate=rate)

    def __call__(self, x: Signals) -> Signals:
        """The clips after resampling."""
        sides = [round(self.size * side) or 1 for side in x.visual.shape[-2:]]
        there = on_levels(AV(_resampled(x.audio, self.rate, self.to), _resized(x.visual, *sides)))
        back = AV(_resampled(there.audio, self.to, self.rate), _resized(there.visual, *x.visual.shape[-2:]))
        return on_levels(AV(audio=back.audio[:, : x.audio.shape[1]], visual=back.visual))


@dataclass(frozen=True)
class Mp4:
    """An `.mp4` file, H.264 and AAC with FFmpeg's encoders: audio of `rate` Hz, `fps` frames per second.

    `crf` is x264's quality, 23 its default; `audio_bitrate` in bits per second, mono.  Audio of a rate that AAC does not
    have is resampled to the next higher one and back.

    >>> Mp4(crf=28, audio_bitrate=32_000).name
    'H.264 crf 28, AAC 32 kbit/s'
    """

    rate: int = 11025
    fps: float = 4.0
    crf: int = 23
    audio_bitrate: int = 64_000

    @property
    def name(self) -> str:
        """Display name."""
        return f"H.264 crf {self.crf}, AAC {self.audio_bitrate / 1000:g} kbit/s"

    def at_rate(self, rate: int) -> "Mp4":
        """The same for clips of this sampling rate, in Hz."""
        return replace(self, rate=rate)

    def __call__(self, x: Signals) -> Signals:
        """The clips as a player decodes them."""
        rate = min((rate for rate in AAC_RATES if rate >= self.rate), default=max(AAC_RATES))
        waves = _resampled(x.audio, self.rate, rate).cpu().numpy()
        pictures = x.visual.permute(0, 1, 3, 4, 2).cpu().numpy()

        def played(wave: Float32[np.ndarray, " n"], frames: Float32[np.ndarray, "t h w 3"]) -> tuple[Any, Any]:
            return through_mp4(wave, frames, rate, self.fps, crf=self.crf, audio_bitrate=self.audio_bitrate)

        with ThreadPoolExecutor() as side_by_side:
            clips = zip(*side_by_side.map(played, waves, pictures), strict=True)
        wave, frames = (torch.from_numpy(np.stack(part)) for part in clips)
        heard = _resampled(wave.to(x.audio), rate, self.rate)[:, : x.audio.shape[1]]
        return AV(audio=heard, visual=frames.permute(0, 1, 4, 2, 3).to(x.visual) / 255)


def none(model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
    """No attack: the clean clips."""
    return x


@dataclass(frozen=True, repr=False)
class Sent:
    """The clips of `attack` after `channel`, which also changes a modality that was not attacked; by default, clean clips.

    With `known`, the attack is adaptive: it attacks the model `behind` the channel.  Its clips may leave the budget when
    they are rounded; send the clips of `Quantized` if they must not.

    No budget holds after a channel, as nothing keeps a codec inside one.  `mode` "sent" keeps these rows out of the tables
    of attacks; the row without an attack states the cost of the channel itself.

    >>> from avrobust.attacks import PGD
    >>> Sent(Lossless(), PGD()).name, Sent(Lossless(), PGD(), known=True).name, Sent(Mp4()).name
    ('PGD-10 > 8 and 16 bits', 'PGD-10, knowing > 8 and 16 bits', 'none > H.264 crf 23, AAC 64 kbit/s')
    """

    channel: Channel
    attack: Attack = none
    known: bool = False

    mode: ClassVar[str] = "sent"
    may_leave_budget: ClassVar[bool] = True

    def __repr__(self) -> str:
        return concise(self)

    @property
    def name(self) -> str:
        """Display name: "attack > channel"."""
        return f"{display_name(self.attack)}{', knowing' if self.known else ''} > {display_name(self.channel)}"

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return channel_info(self.attack, display_name(self.channel), adaptive=self.known)

    @property
    def steps(self) -> int:
        """The cost in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def at_rate(self, rate: int) -> "Sent":
        """The same for clips of this sampling rate, in Hz."""
        return replace(self, channel=at_rate(self.channel, rate), attack=at_rate(self.attack, rate))

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """The adversarial clips after the channel, shaped as `x`."""
        model = behind(self.channel, model, x.map(lambda s: s[:1])) if self.known else model
        return self.channel(self.attack(model, x, y, threat, seeds))


def _resampled(wave: Wave, rate: int, to: int) -> Float[Tensor, "b m"]:
    """The audio at another rate, from the same first sample on; in [-1, 1]."""
    if rate == to:
        return wave
    other = torch.from_numpy(signal.resample_poly(wave.cpu().numpy(), to, rate, axis=1))
    return other.to(wave).clamp(-1, 1)


def _resized(frames: Frames, high: int, wide: int) -> Float[Tensor, "b t 3 high wide"]:
    """The frames with other sides; in [0, 1]."""
    flat = F.interpolate(frames.flatten(0, 1), (high, wide), mode="bicubic", antialias=True, align_corners=False)
    return flat.view(*frames.shape[:3], high, wide).clamp(0, 1)
