"""Waveforms in [-1, 1] to what an audio encoder takes: resampling, log-mel spectrograms, normalisation.

All of it is differentiable, treats each clip on its own, and runs on any device.  Arithmetic is in float64 where the device
has that (Apple's MPS does not), also under autocast: in float32, quiet mel bands beside loud ones are off by more than 1 dB.
"""

import math
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from avrobust.extras import needs

# The low-pass filter of `Resample`: zero crossings on each side, cutoff as a share of the lower Nyquist frequency, and
# the shape of its Kaiser window: the transition from 0.90 to 1.00 of that frequency, 100 dB deep.
ZEROS, CUTOFF, BETA = 64, 0.95, 10.0
# A stranger's file may ask for more than any processor does.
LONGEST_WINDOW, MOST_BANDS = 2**16, 2**12
LARGEST_KERNEL = 2**24  # numbers; rates whose ratio is no fraction of small numbers need more


@dataclass(frozen=True)
class WaveSettings:
    """What an encoder of waveforms expects."""

    rate: int  # Hz
    normalise: bool = False  # each clip to mean 0 and variance 1
    multiple: int = 1  # the clip is extended by its reflection to a multiple of so many samples
    channel: bool = False  # (b 1 n) rather than (b n)
    input: str = "input_values"  # the encoder's argument

    def module(self) -> nn.Module:
        """The front end, for waveforms at `rate`."""
        return Waveform(self)


@dataclass(frozen=True)
class MelFilters:
    """Triangular filters on the mel scale, as `transformers.audio_utils.mel_filter_bank` describes them."""

    bands: int
    low: float  # Hz
    high: float  # Hz
    scale: Literal["htk", "slaney", "kaldi"]
    norm: Literal["slaney"] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.bands <= MOST_BANDS:
            raise ValueError(f"expected at most {MOST_BANDS} mel bands, got {self.bands}. Ask for fewer.")

    def matrix(self, fft: int, rate: int) -> NDArray[np.float64]:
        """The weight of each of fft / 2 + 1 frequencies in each band: (frequencies, bands)."""
        with needs("models"):
            from transformers.audio_utils import mel_filter_bank
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of 128 bands at 16 kHz, some of the lowest hold no frequency
            kaldi = self.scale == "kaldi"
            matrix: NDArray[np.float64] = mel_filter_bank(
                fft // 2 + 1, self.bands, self.low, self.high, rate, self.norm, self.scale, triangularize_in_mel_space=kaldi
            )  # fmt: skip
        return matrix


@dataclass(frozen=True)
class MelSettings:
    """What an encoder of log-mel spectrograms expects."""

    rate: int  # Hz
    frame: int  # samples under one window
    hop: int  # samples from one frame to the next
    fft: int
    mel: MelFilters
    frames: int | None  # of the spectrogram; None: as many as the clip has
    floor: float  # power below it counts as this much
    log: float  # the logarithm's base
    decibels: float = 1.0  # the logarithm is multiplied by it
    samples: int | None = None  # the clip is cut or extended to so many
    extend: Literal["silence", "repeat", "repeat whole"] = "silence"  # "whole": as often as fits, then silence
    cut: bool = True  # a longer clip is cut at its end; otherwise it is refused
    kaldi: bool = False  # frames without padding, their mean removed, pre-emphasis of 0.97, symmetric window
    depth: float | None = None  # what lies further below the clip's maximum is raised to there
    mean: float = 0.0
    std: float = 1.0
    layout: Literal["time first", "mel first"] = "time first"
    copies: int = 0  # axes (b copies t m); 0: no such axis
    input: str = "input_features"  # the encoder's argument

    def __post_init__(self) -> None:
        if not 0 < self.fft <= LONGEST_WINDOW:
            raise ValueError(f"expected an FFT of at most {LONGEST_WINDOW} samples, got {self.fft}. Ask for fewer.")

    def module(self) -> nn.Module:
        """The front end, for waveforms at `rate`."""
        return LogMel(self)


class AudioFrontEnd(nn.Module):
    """Waveforms at `rate` Hz to an encoder's input: resampled if its rate is another, then as `settings` say.

    >>> front_end = AudioFrontEnd(WaveSettings(rate=16_000, normalise=True), rate=8_000)
    >>> front_end(torch.linspace(-1, 1, 800)[None]).shape
    torch.Size([1, 1600])
    """

    def __init__(self, settings: WaveSettings | MelSettings, rate: int) -> None:
        super().__init__()
        self.settings, self.rate = settings, rate
        self.resample = nn.Identity() if rate == settings.rate else Resample(rate, settings.rate)
        self.prepare = settings.module()

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b ..."]:
        """The encoder's input, in the waveform's own precision."""
        out: Tensor = self.prepare(self.resample(_precise(wave)))
        return out.to(wave.dtype)


class Resample(nn.Module):
    """Another sampling rate, by a windowed sinc (Smith: "Digital audio resampling", 2002): n samples to ceil(n * new / old).

    Tones below 90 % of the lower Nyquist frequency keep their amplitude to 1e-4, what would alias is below -90 dB.
    Raises `ValueError` for rates whose ratio is no fraction of small numbers.

    >>> Resample(44_100, 16_000)(torch.zeros(1, 44_100)).shape
    torch.Size([1, 16000])
    """

    kernel: Tensor

    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        if min(old, new) < 1:
            raise ValueError(f"expected sampling rates in Hz, got {old} and {new}. Give the rate of the clips.")
        divisor = math.gcd(old, new)
        old, new = old // divisor, new // divisor
        cutoff = min(old, new) * CUTOFF
        self.margin = math.ceil(ZEROS * old / cutoff)
        # Blocks no shorter than the margins beside them: fewer numbers are held twice.
        blocks = math.ceil(2 * self.margin / old)
        self.old, self.new = old * blocks, new * blocks
        if (size := self.new * (self.old + 2 * self.margin)) > LARGEST_KERNEL:
            raise ValueError(
                f"expected rates whose ratio is a fraction of small numbers, got {new}/{old}, for which the filter has "
                f"{size:,} numbers. Decode the clips at the encoder's own rate."
            )
        at = torch.arange(-self.margin, self.old + self.margin, dtype=torch.float64) / old
        t = cutoff * (at[:, None] - torch.arange(self.new, dtype=torch.float64) / new)
        inside = (1 - (t / ZEROS).square()).clamp_min(0)
        window = torch.special.i0(BETA * inside.sqrt()) / torch.special.i0(torch.tensor(BETA, dtype=torch.float64))
        kernel = torch.sinc(t) * torch.where(t.abs() < ZEROS, window, 0.0) * cutoff / old
        self.register_buffer("kernel", kernel.float(), persistent=False)

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b m"]:
        """The same sound at the new rate."""
        n = wave.shape[1]
        blocks = math.ceil(n / self.old)
        padded = nn.functional.pad(wave, (self.margin, self.margin + blocks * self.old - n))
        pieces = padded.unfold(1, self.old + 2 * self.margin, self.old)
        return (pieces @ self.kernel.to(wave)).flatten(1)[:, : math.ceil(n * self.new / self.old)]


class Waveform(nn.Module):
    """Waveforms for an encoder of waveforms; a clip is normalised by its own mean and variance, (x - mean) / sqrt(var + 1e-7)."""

    def __init__(self, settings: WaveSettings) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b ..."]:
        """The encoder's input: (b n), or (b 1 n)."""
        if self.settings.normalise:
            centred = wave - wave.mean(1, keepdim=True)
            wave = centred / (centred.square().mean(1, keepdim=True) + 1e-7).sqrt()
        wave = _reflected(wave, 0, -wave.shape[1] % self.settings.multiple)
        return wave[:, None] if self.settings.channel else wave


class LogMel(nn.Module):
    """Log-mel spectrograms: windowed frames, power of their spectrum, mel bands, floor, logarithm, normalisation.

    Where a band's power is below the floor, its gradient is 0, as the processors' own is: silence gives none at all.
    """

    filters: Tensor

    def __init__(self, settings: MelSettings) -> None:
        super().__init__()
        self.settings = settings
        matrix = torch.from_numpy(settings.mel.matrix(settings.fft, settings.rate)).float()
        self.register_buffer("filters", matrix, persistent=False)

    def forward(self, wave: Float[Tensor, "b n"]) -> Float[Tensor, "b ..."]:
        """The spectrograms: (b t m), (b m t) or (b copies t m)."""
        s = self.settings
        frames = self._frames(self._fit(wave))
        window = torch.hann_window(s.frame, periodic=not s.kaldi, dtype=wave.dtype, device=wave.device)
        power = _power(frames * window, s.fft)
        log = (power @ self.filters.to(wave)).clamp_min(s.floor).log() * (s.decibels / math.log(s.log))
        if s.depth is not None:
            log = torch.maximum(log, log.amax((1, 2), keepdim=True) - s.depth)
        log = nn.functional.pad(log, (0, 0, 0, (s.frames or log.shape[1]) - log.shape[1]))
        log = (log - s.mean) / s.std
        if s.layout == "mel first":
            log = log.transpose(1, 2)
        return log[:, None].expand(-1, s.copies, -1, -1) if s.copies else log

    def _fit(self, wave: Tensor) -> Tensor:
        """Clips of the length that the encoder expects."""
        s, n = self.settings, wave.shape[1]
        most = s.samples or (n if s.frames is None else (s.frames - 1) * s.hop + s.frame)
        if n > most and not s.cut:
            raise ValueError(
                f"expected clips of at most {most / s.rate:g} s, got {n / s.rate:g} s. The processor crops longer clips "
                "at random, which no number can rest on: cut them first."
            )
        if s.samples is not None and n < most:
            if s.extend == "repeat":
                wave = wave.repeat(1, math.ceil(most / n))
            elif s.extend == "repeat whole":
                wave = wave.repeat(1, most // n)
            wave = nn.functional.pad(wave, (0, max(0, most - wave.shape[1])))
        elif n < s.frame:
            raise ValueError(
                f"expected clips of at least {s.frame} samples at {s.rate} Hz, got {n}. Give longer clips: a frame of the "
                "spectrogram is that long."
            )
        return wave[:, :most]

    def _frames(self, wave: Tensor) -> Tensor:
        s = self.settings
        if not s.kaldi:
            return _reflected(wave, s.frame // 2, s.frame // 2).unfold(1, s.frame, s.hop)[:, : s.frames]
        frames = wave.unfold(1, s.frame, s.hop)
        frames = frames - frames.mean(-1, keepdim=True)
        return frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], -1)


def _power(frames: Tensor, fft: int) -> Tensor:
    """The power of each frequency; MKL refuses no clips at all."""
    if not len(frames):
        return frames.new_zeros((*frames.shape[:-1], fft // 2 + 1))
    return torch.view_as_real(torch.fft.rfft(frames, n=fft)).square().sum(-1)


def _precise(wave: Tensor) -> Tensor:
    """The waveform in float64, where the device has it."""
    return wave.float() if wave.device.type == "mps" else wave.double()


def _reflected(wave: Tensor, before: int, after: int) -> Tensor:
    """The waveform with its reflections; `nn.functional.pad` does the same, but its gradient on a GPU is not deterministic."""
    n = wave.shape[1]
    if max(before, after) >= n:
        raise ValueError(f"expected clips of more than {max(before, after)} samples, got {n}. Give longer clips.")
    return torch.cat([wave[:, 1 : before + 1].flip(1), wave, wave[:, n - 1 - after : n - 1].flip(1)], 1)
