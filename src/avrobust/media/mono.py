"""Several channels become one: FFmpeg's downmix, one channel, or the loudest where the others would cancel it."""

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

One = Float32[np.ndarray, " n"]
Many = Float32[np.ndarray, "channels n"]
# NumPy's names for the samples of FFmpeg's packed formats.
DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}

RESAMPLER = {
    "rematrix_maxval": "1.0",  # else two equal channels come out 3 dB too loud, and clipped
    # Flat to 0.9 of the new Nyquist frequency and 95 dB down above it; FFmpeg's default lets 1.05 pass at -22 dB.
    "filter_size": "128",
    "cutoff": "0.96",
}
# A mix that keeps less of the energy than this, of what independent channels keep, has channels that cancel.
CANCELLED = 0.1
# So much below the loudest channel a mix is silent, whatever its weights: sound in the bass effects channel alone.
SILENT = 1e-6


def to_mono(sound: AudioFrame, rate: int, mono: Mono, heard: slice, notes: list[str]) -> One:
    """One channel at `rate`; adds to `notes` what was chosen.  Samples `heard` of it decide whether channels cancel.

    Raises FFmpegError or ValueError where FFmpeg cannot mix the layout.
    """
    count = sound.layout.nb_channels
    mixed: One | None = _resampled(sound, "mono", rate)[0] if mono == "mix" or count == 1 else None
    if mixed is not None and count == 1:
        return mixed
    channels = _resampled(sound, sound.layout.name, rate)
    energy = _energy(channels[:, heard])
    loudest = int(energy.argmax())
    if mixed is not None:
        independent = _weights(sound.layout.name) ** 2 @ energy
        if _energy(mixed[heard]) >= max(CANCELLED * independent, SILENT * energy[loudest]):
            _note(notes, f"sound mixed from {count} channels")
            return mixed
    chosen = {"left": 0, "right": 1}.get(mono, loudest)
    why = "" if mixed is None else ", the loudest: mixed, the channels cancel"
    _note(notes, f"sound of channel {chosen + 1} of {count}{why}")
    taken: One = channels[chosen]
    return taken


def interleaved(frame: AudioFrame) -> NDArray[Any]:
    """A frame's samples, (channels n,), channel by channel within each moment.

    PyAV's own `to_ndarray` reads beyond the last plane, and crashes, where a frame has 8 planes or more.
    """
    dtype, count = DTYPES[frame.format.packed.name], frame.layout.nb_channels
    planes: Sequence[Any] = frame.planes[:count]
    if frame.format.is_packed:
        return np.frombuffer(planes[0], dtype)[: frame.samples * count]
    return np.stack([np.frombuffer(plane, dtype)[: frame.samples] for plane in planes], axis=1).reshape(-1)


def frame_of(samples: NDArray[Any], format: str, layout: str, rate: int) -> AudioFrame:
    """The frame of interleaved samples; `format` is FFmpeg's name of theirs, such as "s16"."""
    frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples[None]), format, layout)
    frame.sample_rate = rate
    return frame


def _resampled(sound: AudioFrame, layout: str, rate: int) -> Many:
    resampler = AudioResampler("flt", layout, rate, options=RESAMPLER)
    parts = [interleaved(part) for frame in (sound, None) for part in resampler.resample(frame)]
    channels: Many = np.concatenate(parts).reshape(-1, AudioLayout(layout).nb_channels).T
    return np.ascontiguousarray(channels)


@lru_cache
def _weights(layout: str) -> NDArray[np.float32]:
    """What each channel weighs in FFmpeg's downmix: how it mixes samples of which each is in one channel alone."""
    unit = np.eye(AudioLayout(layout).nb_channels, dtype=np.float32)
    weights: NDArray[np.float32] = _resampled(frame_of(unit.reshape(-1), "flt", layout, 48000), "mono", 48000)[0]
    return weights


def _energy(samples: NDArray[np.float32]) -> Any:
    """Of each channel, or of the one."""
    return np.square(samples, dtype=np.float64).sum(axis=-1)


def _note(notes: list[str], note: str) -> None:
    if note not in notes:
        notes.append(note)
