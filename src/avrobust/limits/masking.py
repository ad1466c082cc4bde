"""What a sound masks: the psychoacoustic threshold of a clip's spectrum, and perturbations that stay below it.

The masking threshold is that of Qin et al. (ICML 2019, arXiv 1903.10346, appendix), after ISO 11172-3's model 1 as Lin &
Abdulla (2015) write it: all maskers are taken for tones.  Spectra are short-time Fourier transforms with a Hann window and
steps of a quarter of it; a clip is padded with silence, so that every sample lies in four windows.
"""

import hashlib
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from threading import Lock
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avrobust.limits.elements import AUDIO, Limit

LOUDEST = 96.0  # dB SPL of a clip's loudest bin, or of full scale: ISO 11172-3's
GAIN = (8 / 3) ** 0.5  # of a Hann window's power: ISO 11172-3's
# Levels are rounded to so many dB before maskers are chosen: which of two equal ones is larger is no matter of rounding.
GRID = 1e-3
# Below and above, the threshold in quiet stays what it is there: it would leave room for infrasound as loud as the clip.
HEARD = (100.0, 16_000.0)
WINDOW_MS = 128  # Qin et al.: 2048 samples at 16 kHz
# Windows and bins around each bin (0: all bins), whose excess it is divided by: see `PsychoacousticMask.project`.
NEAR, WHOLE = (3, 1), (2, 0)
# What float32 may hide in one bin, times the Euclidean length of a windowed frame: of the transform of a perturbation, and of a
# clip's own samples, to which x + delta is rounded.  Six times what is seen on average.
TRANSFORM, ROUNDED = 5e-7, 1e-7
# Maskers whose spread over all bins is held at a time.
AT_ONCE = 4096
HALF_STEP = 1e-7  # of float32 near full scale, to which x + delta is rounded
# Thresholds of clips are kept, as every step of every search asks for them: 128 MB.
KEPT = 2**27


@dataclass(frozen=True)
class PsychoacousticMask(Limit):
    """No bin of the perturbation's short-time spectrum exceeds `eps` times the clip's masking threshold (`eps` 1: 0 dB).

    `rate` is the clips' sampling rate in Hz; None is filled in by whoever knows it (`Threat.at_rate`: studies, the command
    line, `evaluate(rate=...)`).  `peak` also bounds every sample, at any `eps`.  `window` is a number of samples, None the largest
    power of two within 128 ms.

    Calibration is an assumption, as nobody knows how loud a clip is played: with `full_scale` None, the clip's loudest bin is at
    96 dB SPL (Qin et al.); a number is the level of a full-scale sine.  Of a silent clip nothing is known then, and it may not change.
    Bark bands above half the rate do not exist, so there are neither maskers nor a perturbation in them.  Below 100 Hz and above
    16 kHz the threshold in quiet stays what it is there, where Qin et al. set no limit outside of 20 Hz to 20 kHz.

    Two things are not modelled.  Masking in time: a window spreads a perturbation, which may be heard before an onset.  And sums:
    bins are compared one by one, as in Qin et al., so noise that fills a critical band adds up to more than the tone that masks
    it, and the SNR may be a few dB.  With `bands` the threshold is shared among the bins of a critical band, so that the sum is
    masked: some 10 to 25 dB less.

    >>> mask = PsychoacousticMask(rate=8000)
    >>> time = torch.arange(4000) / 8000
    >>> tone = 0.5 * torch.sin(2 * torch.pi * 1000 * time)[None]
    >>> threshold = 20 * mask.radii(tone)[0, 8].log10()  # of a frame in the middle, by frequency
    >>> peak = 20 * mask.spectrum(tone)[0, 8].abs().log10()
    >>> [round(float(threshold[i] - peak[128])) for i in (128, 160, 320)]  # at 1000, 1250 and 2500 Hz, below the tone
    [-7, -15, -40]
    """

    by_element: ClassVar[bool] = False

    rate: int | None = None
    peak: float | None = None
    bands: bool = False
    window: int | None = None
    full_scale: float | None = None

    def __post_init__(self) -> None:
        if self.rate is not None and not self.rate > 0:
            raise ValueError(f"expected a sampling rate above 0 Hz, got {self.rate}. Give rate=16000.")
        if self.peak is not None and not 0 < self.peak <= 1:
            raise ValueError(f"expected a peak of at most full scale, 1, and above 0, got {self.peak}. Leave it out?")
        if self.window is not None and (self.window < 16 or self.window % 4):
            raise ValueError(f"expected a window of a multiple of 4 samples, 16 or more, got {self.window}. Give 2048.")

    @property
    def unit(self) -> str:
        """What tells this mask apart from others; the rate is a fact of the clips."""
        peak = (" by bands" if self.bands else "") + ("" if self.peak is None else f", peak {self.peak:g}")
        level = "" if self.full_scale is None else f", full scale {self.full_scale:g} dB SPL"
        return f"masking threshold{peak}{level}" + ("" if self.window is None else f", window {self.window}")

    @property
    def size(self) -> int:
        """Samples of a window."""
        if self.rate is None:
            raise ValueError(
                "a masking threshold needs the sampling rate of the clips, got none. Give PsychoacousticMask(rate=16000), "
                "threat.at_rate(16000), or evaluate(..., rate=16000)."
            )
        return self.window or 2 ** max(4, int(math.log2(self.rate * WINDOW_MS // 1000)))

    def at_rate(self, rate: int) -> "PsychoacousticMask":
        """With the rate of the clips; raises `ValueError` where it has another one."""
        if self.rate not in (None, rate):
            raise ValueError(
                f"a masking threshold should have the rate of the clips, {rate} Hz, got one of {self.rate} Hz. Leave the rate out."
            )
        return replace(self, rate=rate)

    def radii(self, x: Tensor) -> Tensor:
        """The masking threshold of clips (b n) as magnitudes of `spectrum` (b f k), in float32.

        Computed in float64 on the CPU, so that it is the same on every machine, and kept for clips that come again.
        """
        self.check(x, AUDIO)
        return KNOWN(self, x)

    def spectrum(self, signal: Tensor) -> Tensor:
        """The short-time Fourier transform of (b n): (b f k), f windows, k frequencies from 0 to half the rate."""
        found: Tensor = torch.fft.rfft(self._frames(signal))
        return found

    def ratios(self, delta: NDArray[np.float64], clean: NDArray[np.float64]) -> NDArray[np.float64]:
        """The magnitudes of one perturbation's spectrum (f k) over the threshold of its clip, in double precision."""
        there, threshold = (torch.from_numpy(s)[None] for s in (delta, clean))
        limit = self.radii(threshold)[0].double()
        found: NDArray[np.float64] = (self.spectrum(there)[0].abs() / limit.clamp_min(1e-30)).numpy()
        return found

    def length(self, delta: NDArray[np.float64], clean: NDArray[np.float64], eps: float) -> float:
        """The largest of `ratios`, or `eps` times the share of `peak`, where that is larger."""
        largest = float(self.ratios(delta, clean).max(initial=0.0))
        if self.peak is None:
            return largest
        return max(largest, eps * max(0.0, float(np.abs(delta).max(initial=0.0)) - HALF_STEP) / self.peak)

    def move(self, grad: Tensor, limit: Tensor) -> Tensor:
        """The signal of whose spectrum each bin is as large as its limit, in phase with that of `grad`; 0 where that is 0."""
        spectrum = self.spectrum(grad)
        return self._signal(spectrum / spectrum.abs().clamp_min(torch.finfo(grad.dtype).tiny) * limit, grad.shape[1])

    def project(self, delta: Tensor, x: Tensor, limit: Tensor, low: float, high: float) -> Tensor:
        """A perturbation near `delta` that keeps `limit` in every bin, `peak`, and x + delta in [low, high].

        Windows overlap, so cutting one bin changes others.  So each bin is divided by the largest excess around it, `NEAR` windows
        and frequencies away, and the signal is made again; then samples are cut to `peak` and range; then each window is divided by
        the largest excess in it and the two windows before and after; at last each clip is scaled by what is still
        exceeded, 0.1 dB mostly.  Every step moves towards 0 and the last one is exact, so the result keeps all three
        bounds, rounding to float32 included (`TRANSFORM`, `ROUNDED`).  It is not the nearest such perturbation; one inside the
        bounds stays as it is.
        """
        low_delta, high_delta = low - x, high - x
        if self.peak is not None:
            low_delta, high_delta = low_delta.clamp_min(-self.peak), high_delta.clamp_max(self.peak)
        delta = torch.minimum(torch.maximum(delta, low_delta), high_delta)
        none = limit.flatten(1).amax(1) <= 0
        limit = (limit * (1 - 1e-6) - ROUNDED * self._lengths(x)).clamp_min(1e-30)
        for windows, bins in (NEAR, WHOLE):
            spectrum = self.spectrum(delta)
            excess = spectrum.abs() / limit
            over = (excess > 1).flatten(1).any(1)
            if not bool(over.any()):
                break
            most = F.max_pool1d(excess, 2 * bins + 1, 1, bins) if bins else excess.amax(2, keepdim=True)
            most = F.max_pool1d(most.mT, 2 * windows + 1, 1, windows).mT.clamp_min(1)
            cut = self._signal(spectrum / most, x.shape[1])
            # The signal that is nearest to a spectrum may be larger somewhere than the one before.
            cut = torch.minimum(torch.maximum(cut, low_delta), high_delta)
            delta = torch.where(over[:, None], cut, delta)  # a clip's result is its own, whatever else is in the batch
        size = self.spectrum(delta).abs() + TRANSFORM * self._lengths(delta)
        return (delta / (size / limit).flatten(1).amax(1).clamp_min(1)[:, None]).masked_fill(none[:, None], 0.0)

    def threshold(self, wave: NDArray[np.float64]) -> NDArray[np.float64]:
        """The masking threshold of one clip (n) as magnitudes (f k), computed anew.

        The reference for `radii`, which keeps these in float32.
        """
        size = self.spectrum(torch.from_numpy(wave)[None])[0].abs()
        power = (GAIN / self.size * size).square().clamp_min(1e-30)
        level = 10 * power.log10()
        loudest = float(level.max()) if self.full_scale is None else LOUDEST - self.full_scale + FULL_SCALE_SINE
        if not bool(size.any()) and self.full_scale is None:
            return np.zeros(size.shape)
        spl = ((level + (LOUDEST - loudest)) / GRID).round() * GRID
        masked = self._masked(spl)
        if self.bands:
            masked = masked - 10 * self.bins_per_bark.log10()
        found: NDArray[np.float64] = (10 ** ((masked - LOUDEST + loudest) / 20) * self.size / GAIN).numpy()
        return found

    @cached_property
    def frequencies(self) -> Tensor:
        """Of the bins, in Hz."""
        rate = self.rate or 0
        return torch.arange(self.size // 2 + 1, dtype=torch.float64) * rate / self.size

    @cached_property
    def bark(self) -> Tensor:
        """The critical-band rate of the bins (Zwicker)."""
        f = self.frequencies
        return 13 * (0.00076 * f).atan() + 3.5 * (f / 7500).square().atan()

    @cached_property
    def bins_per_bark(self) -> Tensor:
        """How many bins a critical band has around each bin, 1 at least."""
        steps = self.bark.diff()
        return (1 / torch.cat([steps[:1], (steps[1:] + steps[:-1]) / 2, steps[-1:]])).clamp_min(1)

    @cached_property
    def quiet(self) -> Tensor:
        """The threshold in quiet of the bins, in dB SPL (Terhardt 1979); constant outside `HEARD`."""
        khz = self.frequencies.clamp(*HEARD) / 1000
        return 3.64 * khz**-0.8 - 6.5 * (-0.6 * (khz - 3.3).square()).exp() + 1e-3 * khz**4 - 12

    def _masked(self, spl: Tensor) -> Tensor:
        """The threshold of frames (f k) in dB SPL: of all their maskers and of quiet, added as powers."""
        bark, quiet = self.bark, self.quiet
        frames, bins, levels = maskers(spl, bark, quiet)
        power = (10 ** (quiet / 10)).expand_as(spl).clone()
        for start in range(0, len(frames), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            at, own = bark[bins[part], None], levels[part, None]
            distance = bark - at
            above = -27 + 0.37 * (own - 40).clamp_min(0)
            spread = torch.where(distance > 0, above * distance, 27 * distance)
            individual = own - 6.025 - 0.275 * at + spread
            power.index_add_(0, frames[part], (individual * (math.log(10) / 10)).exp())
        return 10 * power.log10()

    def _frames(self, signal: Tensor) -> Tensor:
        """Windowed frames (b f n)."""
        size, step = self.size, self.size // 4
        end = -signal.shape[-1] % step + size - step
        padded = F.pad(signal, (size - step, end))
        return padded.unfold(-1, size, step) * _hann(size, signal.dtype, signal.device)

    def _signal(self, spectrum: Tensor, samples: int) -> Tensor:
        """The signal whose spectrum is nearest (Griffin & Lim 1984, eq. 6): (b samples)."""
        size, step = self.size, self.size // 4
        frames = torch.fft.irfft(spectrum, n=size)
        frames = frames * (_hann(size, frames.dtype, frames.device) / 1.5)  # squares of four windows add to 1.5
        count = frames.shape[1]
        parts = frames.view(len(frames), count, 4, step)
        whole = torch.stack([F.pad(parts[:, :, i], (0, 0, i, 3 - i)) for i in range(4)]).sum(0)
        return whole.reshape(len(frames), -1)[:, size - step : size - step + samples]

    def _lengths(self, signal: Tensor) -> Tensor:
        """The Euclidean length of each windowed frame, (b f 1)."""
        lengths: Tensor = self._frames(signal).norm(dim=-1, keepdim=True)
        return lengths


# The level of a full-scale sine, by the definition of a bin's power above: GAIN / 4 of it.
FULL_SCALE_SINE = 20 * math.log10(GAIN / 4)


def maskers(spl: Tensor, bark: Tensor, quiet: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The maskers of frames (f k) in dB SPL: the numbers of their frames and bins, and their levels.

    Local maxima, with the power of both neighbours added, above the threshold in quiet; of two within half a Bark the
    louder one stays, from low to high frequencies.
    """
    middle = spl[:, 1:-1]
    peak = (middle > spl[:, :-2]) & (middle >= spl[:, 2:])
    power = 10 ** (spl / 10)
    level = 10 * (power[:, :-2] + power[:, 1:-1] + power[:, 2:]).log10()
    level = (level / GRID).round() * GRID
    there = (peak & (level > quiet[1:-1])).numpy()
    loud, rate = level.numpy(), bark[1:-1].numpy()
    count, every = there.sum(1), np.arange(len(spl))
    frame, place = there.nonzero()
    listed = np.zeros((len(spl), count.max(initial=0)), int)  # the bins of each frame's maskers, from low to high
    listed[frame, np.arange(len(frame)) - (count.cumsum() - count)[frame]] = place
    last = np.where(count > 0, listed[:, 0] if listed.size else 0, 0)
    for i in range(1, listed.shape[1]):  # all frames at once
        k, there_too = listed[:, i], i < count
        near = there_too & (rate[k] - rate[last] < 0.5)
        louder = loud[every, k] > loud[every, last]
        there[every[near & louder], last[near & louder]] = False
        there[every[near & ~louder], k[near & ~louder]] = False
        last = np.where(there_too & ~(near & ~louder), k, last)
    frames, bins = (torch.from_numpy(index) for index in there.nonzero())
    return frames, bins + 1, level[frames, bins]


@lru_cache(maxsize=16)
def _hann(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.hann_window(size, dtype=dtype, device=device)


class _Known:
    """Thresholds of the clips that came last, by mask and samples."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[PsychoacousticMask, bytes], Tensor] = OrderedDict()
        self._bytes, self._lock = 0, Lock()

    def __call__(self, mask: PsychoacousticMask, x: Tensor) -> Tensor:
        """(b f k), on the device of `x`."""
        waves = x.detach().to("cpu", torch.float32).numpy()
        return torch.stack([self._of(mask, wave) for wave in waves]).to(x.device)

    def _of(self, mask: PsychoacousticMask, wave: NDArray[np.float32]) -> Tensor:
        key = mask, hashlib.blake2b(np.ascontiguousarray(wave).data, digest_size=16).digest()
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        found = torch.from_numpy(mask.threshold(wave.astype(np.float64))).float()
        with self._lock:
            if key not in self._kept:  # another thread may have been faster
                self._kept[key] = found
                self._bytes += found.nbytes
            while self._bytes > KEPT:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return found


KNOWN = _Known()
