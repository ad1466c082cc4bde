"""The sound of a clip: one stream, mixed to mono, resampled, laid on the clip's clock."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from jaxtyping import Float32

from avrobust.media.reader import CHOOSE, FETCH, WARM_UP, Damage, MediaError, Reader
from avrobust.media.spec import ClipSpec

Samples = Float32[np.ndarray, " n"]

# Timestamps that disagree with the count of samples by less than this are a container's rounding; by more, a gap.
GAP = 0.01  # s
# A longer gap between samples is taken for lost data; a shorter one, and one before the first sample, for silence.
HOLE = 0.5  # s
TAIL = 0.05  # s read beyond the clip, for the low-pass filter

RESAMPLER = {
    "rematrix_maxval": "1.0",  # else two equal channels come out 3 dB too loud, and clipped
    # Flat to 0.9 of the new Nyquist frequency and 95 dB down above it; FFmpeg's default lets 1.05 pass at -22 dB.
    "filter_size": "128",
    "cutoff": "0.96",
}


class Stretch(NamedTuple):
    """Samples without a gap, on the clip's clock: the number there of the first, which may be below 0."""

    first: int
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
    ended = -round(start * spec.rate)  # the file's start
    with Reader(path, "audio") as reader:
        notes = reader.notes
        for first, samples in _stretches(reader, spec.rate, start, stop + TAIL, notes, damage):
            if not np.isfinite(samples).all():
                raise MediaError(path, "its sound holds samples that are not numbers", "Leave it out.")
            ended = max(ended, first + len(samples))
            here, there = max(first, 0), min(first + len(samples), wanted)
            if here < there:
                wave[here:there] = samples[here - first : there - first]

    filled, known = np.flatnonzero(~np.isnan(wave)), min(ended, wanted)
    if damage and len(filled) < wanted:
        raise MediaError(path, f"its sound is {damage[0]}, within the clip", FETCH)
    if not len(filled):
        what = "begins after" if ended > 0 else f"ends at {start + ended / spec.rate:.2f} s, before"
        raise MediaError(path, f"its sound {what} the clip from {start:g} s to {stop:g} s", CHOOSE)
    if (hole := (np.diff(filled, append=known).max() - 1) / spec.rate) > HOLE:
        raise MediaError(path, f"its sound lacks for {hole:.2f} s within the clip, as if data were lost", FETCH)
    notes += [f"sound {d}, outside the clip" for d in damage[:1]]
    return _fitted(path, wave[:known], spec, notes), notes


def _fitted(path: Path, wave: Float32[np.ndarray, " heard"], spec: ClipSpec, notes: list[str]) -> Samples:
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
    after: float | None = None

    def stretch() -> Stretch:
        first = ceil((begin - start) * rate - 1e-3)  # the clip's first sample that the stretch has
        skip = start + first / rate - begin  # so that the resampler's clock is the clip's
        return Stretch(first, _mono(reader.path, run, skip, rate, notes))

    for item in reader.read(start):
        if isinstance(item, Damage) or not item.whole:
            damage.append(item if isinstance(item, Damage) else Damage(item.seconds, "corrupt samples"))
            continue
        if item.seconds >= stop:
            after = item.seconds
            break
        if run and (abs(item.seconds - due) > GAP or _format(run[-1]) != _format(item.frame)):
            yield stretch()
            run = []
        if item.until <= start - WARM_UP["audio"]:
            run = []  # too early to matter; only the last one is kept, for the time of it
        if not run:
            begin = due = item.seconds
        run.append(item.frame)
        due += item.frame.samples / item.frame.sample_rate
    if run:
        yield stretch()
    if after is not None:  # so that what lacks before is known for a gap, not for the end
        yield Stretch(ceil((after - start) * rate), np.zeros(0, np.float32))


def _format(frame: AudioFrame) -> tuple[int, str, str]:
    """What must stay the same for one resampler to take two frames."""
    return frame.sample_rate, frame.format.name, frame.layout.name


def _mono(path: Path, run: list[AudioFrame], skip: float, rate: int, notes: list[str]) -> Samples:
    """One stretch at `rate`, without its first `skip` seconds."""
    first = run[0]
    channels = first.layout.nb_channels
    if channels > 1 and (note := f"sound mixed from {channels} channels") not in notes:
        notes.append(note)
    if first.sample_rate != rate and (note := f"sound resampled from {first.sample_rate} Hz") not in notes:
        notes.append(note)
    drop = round(skip * first.sample_rate) * (1 if first.format.is_planar else channels)
    resampler = AudioResampler("fltp", "mono", rate, options=RESAMPLER)
    try:
        source = np.concatenate([frame.to_ndarray() for frame in run], axis=1)[:, drop:]
        if not source.size:
            return np.zeros(0, np.float32)
        whole = AudioFrame.from_ndarray(np.ascontiguousarray(source), first.format.name, first.layout.name)
        whole.sample_rate = first.sample_rate
        return np.concatenate([part.to_ndarray()[0] for frame in (whole, None) for part in resampler.resample(frame)])
    except (FFmpegError, ValueError) as error:
        reason = f"its sound ({first.format.name}, {first.layout.name}) cannot be mixed to mono: {error}"
        raise MediaError(path, reason, "Convert the file.") from error
