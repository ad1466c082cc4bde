"""The sound of a clip: one stream, mixed to mono, resampled, laid on the clip's clock."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from jaxtyping import Float32

from avrobust.media.reader import Damage, MediaError, Reader
from avrobust.media.spec import ClipSpec

Samples = Float32[np.ndarray, " n"]

# Timestamps that disagree with the count of samples by less than this are a container's rounding; by more, a gap.
GAP = 0.01  # s
TAIL = 0.05  # s read beyond the clip, for the low-pass filter

RESAMPLER = {
    "rematrix_maxval": "1.0",  # else two equal channels come out 3 dB too loud, and clipped
    # Flat to 0.9 of the new Nyquist frequency and 95 dB down above it; FFmpeg's default lets 1.05 pass at -22 dB.
    "filter_size": "128",
    "cutoff": "0.96",
}


class Stretch(NamedTuple):
    """Samples without a gap, at the clip's rate: when the first sounds, in seconds after the file's start."""

    seconds: float
    samples: Samples


def sound(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Samples, list[str]]:
    """The clip's sound, (samples,) in [-1, 1], and what was done to it.

    Mono is FFmpeg's downmix, scaled so that it cannot exceed the range: of stereo the mean, of surround the
    front channels, with the others fainter and without the bass effects channel.  Resampling is FFmpeg's, with
    its low-pass.  Where the file holds no samples there is silence, and a note.  Raises MediaError.
    """
    stop = start + spec.seconds if end is None else min(start + spec.seconds, end)
    wanted = max(1, min(spec.samples, round((stop - start) * spec.rate)))
    damage: list[Damage] = []
    wave = np.full(wanted, np.nan, dtype=np.float32)  # nan: nothing there yet
    ended = 0.0
    with Reader(path, "audio") as reader:
        notes = reader.notes
        for seconds, samples in _stretches(reader, spec.rate, start, stop + TAIL, notes, damage):
            if not np.isfinite(samples).all():
                raise MediaError(
                    path,
                    f"its sound holds samples that are no numbers, from {seconds:.2f} s on",
                    "Leave it out.",
                )
            first = round((seconds - start) * spec.rate)
            ended = max(ended, seconds + len(samples) / spec.rate)
            here, there = max(first, 0), min(first + len(samples), wanted)
            if here < there:
                wave[here:there] = samples[here - first : there - first]

    filled = np.flatnonzero(~np.isnan(wave))
    if damage and len(filled) < wanted:
        raise MediaError(
            path,
            f"its sound is {damage[0]}, within the clip",
            "Fetch it again, or choose another part of it.",
        )
    if not len(filled):
        what = (
            f"its sound ends at {ended:.2f} s" if ended <= start else f"its sound begins after {stop:.2f} s"
        )
        raise MediaError(
            path, f"{what}, so that the clip from {start:g} s has none", "Choose another part of it."
        )
    notes += [f"sound {d}, outside the clip" for d in damage[:1]]
    return _fitted(path, wave[: filled[-1] + 1], spec, notes), notes


def _fitted(path: Path, wave: Samples, spec: ClipSpec, notes: list[str]) -> Samples:
    """`wave` with silence where it has nothing, clipped, and as long as the clip."""
    gaps = np.isnan(wave)
    if gaps.any():
        notes.append(f"silence for {gaps.sum() / spec.rate:.3f} s where the file has no sound")
        wave = np.where(gaps, np.float32(0), wave)
    peak = np.abs(wave).max()
    if peak > 1:
        notes.append(f"sound clipped at 1, its peak was {peak:.3f}")
        wave = wave.clip(-1, 1)
    missing = spec.samples - len(wave)
    if not missing:
        return wave
    length = len(wave) / spec.rate
    if spec.short == "error":
        advice = 'Choose ClipSpec(short="tile") or "pad", or fewer seconds.'
        raise MediaError(path, f"its sound lasts {length:.3f} s of the clip's {spec.seconds:g} s", advice)
    if spec.short == "pad":
        notes.append(f"sound padded with silence from {length:.3f} s")
        return np.pad(wave, (0, missing))
    notes.append(f"sound tiled from {length:.3f} s")
    return np.resize(wave, spec.samples)


def _stretches(
    reader: Reader, rate: int, start: float, stop: float, notes: list[str], damage: list[Damage]
) -> Iterator[Stretch]:
    """The sound from `start` or earlier to `stop`, in stretches without a gap; adds to `notes` and `damage`."""
    run: list[AudioFrame] = []
    begin = due = 0.0
    for item in reader.read(start):
        if isinstance(item, Damage) or not item.whole:
            damage.append(item if isinstance(item, Damage) else Damage(item.seconds, "corrupt samples"))
            continue
        if item.seconds >= stop:
            break
        if run and (abs(item.seconds - due) > GAP or not _alike(run[-1], item.frame)):
            yield Stretch(begin, _mono(reader.path, run, rate, notes))
            run = []
        if not run:
            begin = due = item.seconds
        run.append(item.frame)
        due += item.frame.samples / item.frame.sample_rate
    if run:
        yield Stretch(begin, _mono(reader.path, run, rate, notes))


def _alike(one: AudioFrame, other: AudioFrame) -> bool:
    """Whether one resampler can take both."""
    return (one.sample_rate, one.format.name, one.layout.name) == (
        other.sample_rate,
        other.format.name,
        other.layout.name,
    )


def _mono(path: Path, run: list[AudioFrame], rate: int, notes: list[str]) -> Samples:
    """One stretch at `rate`; its first sample is at the time of the first frame's first."""
    first = run[0]
    channels = first.layout.nb_channels
    if channels > 1 and (note := f"sound mixed from {channels} channels") not in notes:
        notes.append(note)
    if first.sample_rate != rate and (note := f"sound resampled from {first.sample_rate} Hz") not in notes:
        notes.append(note)
    resampler = AudioResampler("fltp", "mono", rate, options=RESAMPLER)
    for frame in run:
        frame.pts = None  # gaps are ours to handle
    try:
        parts = [part.to_ndarray()[0] for frame in [*run, None] for part in resampler.resample(frame)]
    except (FFmpegError, ValueError) as error:
        advice = "Convert the file."
        raise MediaError(
            path, f"its sound ({first.layout.name}) cannot be mixed to mono: {error}", advice
        ) from error
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
