"""Mixes several audio channels to one: FFmpeg's downmix, one channel, or the loudest where a mix would cancel it."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.layout import AudioLayout
from av.audio.resampler import AudioResampler
from jaxtyping import Float32
from numpy.typing import NDArray

from avrobust.media.spec import Mono

Channel = Float32[np.ndarray, " n"]
Channels = Float32[np.ndarray, "channels n"]
# FFmpeg's packed sample formats, as NumPy dtypes.
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

RESAMPLER = {
    "rematrix_maxval": "1.0",  # else the mix of two equal channels is 3 dB too loud, and clipped
    # Flat to 0.9 of the new Nyquist frequency and 95 dB down above it; FFmpeg's default lets 1.05 pass at -22 dB.
    "filter_size": "128",
    "cutoff": "0.96",
}
# Channels cancel if their mix has less than this share of the energy that it would have if they were independent.
CANCELLED = 0.1
# A mix with less energy than this share of the loudest channel's is silent, as of audio in the bass effects channel only.
SILENT = 1e-6


def to_mono(audio: AudioFrame, rate: int, mono: Mono, inside: slice, notes: list[str]) -> Channel:
    """One channel, resampled to `rate` Hz; adds to `notes` which one.

    Whether channels cancel is decided on the samples `inside` of the clip.  Raises FFmpegError or ValueError for a
    channel layout that FFmpeg cannot mix.
    """
    count = audio.layout.nb_channels
    mixed: Channel | None = _resampled(audio, "mono", rate)[0] if mono == "mix" or count == 1 else None
    if mixed is not None and count == 1:
        return mixed
    channels = _resampled(audio, audio.layout.name, rate)
    energy = _energy(channels[:, inside])
    loudest = int(energy.argmax())
    if mixed is not None:
        independent = _weights(audio.layout.name) ** 2 @ energy
        if _energy(mixed[inside]) >= max(CANCELLED * independent, SILENT * energy[loudest]):
            _note(notes, f"audio mixed to mono from {count} channels")
            return mixed
    chosen = {"left": 0, "right": 1}.get(mono, loudest)
    why = "" if mixed is None else ", the loudest, because the channels cancel when mixed"
    _note(notes, f"audio of channel {chosen + 1} of {count}{why}")
    channel: Channel = channels[chosen]
    return channel


def interleaved(frame: AudioFrame) -> NDArray[Any]:
    """A frame's samples, (n channels,): the channels of the first moment, then those of the second, and so on.

    PyAV's own `to_ndarray` reads beyond the last plane, and crashes, where a frame has 8 planes or more.
    """
    dtype, count = DTYPES[frame.format.packed.name], frame.layout.nb_channels
    planes: Sequence[Any] = frame.planes[:count]
    if frame.format.is_packed:
        return np.frombuffer(planes[0], dtype)[: frame.samples * count]
    return np.stack([np.frombuffer(plane, dtype)[: frame.samples] for plane in planes], axis=1).reshape(-1)


def frame_of(samples: NDArray[Any], format: str, layout: str, rate: int) -> AudioFrame:
    """A frame of interleaved samples; `format` is FFmpeg's name of their type, such as "s16"."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format, layout)
    frame.sample_rate = rate
    return frame


def _resampled(audio: AudioFrame, layout: str, rate: int) -> Channels:
    resampler = AudioResampler("flt", layout, rate, options=RESAMPLER)
    parts = [interleaved(part) for frame in (audio, None) for part in resampler.resample(frame)]
    channels: Channels = np.concatenate(parts).reshape(-1, AudioLayout(layout).nb_channels).T
    return np.ascontiguousarray(channels)


@lru_cache
def _weights(layout: str) -> NDArray[np.float32]:
    """The weight of each channel in FFmpeg's downmix, read off samples that are in one channel each."""
    unit = np.eye(AudioLayout(layout).nb_channels, dtype=np.float32)
    weights: NDArray[np.float32] = _resampled(frame_of(unit.reshape(-1), "flt", layout, 48000), "mono", 48000)[0]
    return weights


def _energy(samples: NDArray[np.float32]) -> Any:
    """The energy of each channel, or of the only one."""
    return np.square(samples, dtype=np.float64).sum(axis=-1)


def _note(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)
