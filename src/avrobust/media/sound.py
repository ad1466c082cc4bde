"""The sound of a clip: one stream, mixed to mono, resampled, laid on the clip's clock."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from jaxtyping import Float32

from avrobust.media.faults import FETCH, MediaError, blamed
from avrobust.media.log import errors
from avrobust.media.mono import frame_of, interleaved, to_mono
from avrobust.media.reader import CHOOSE, WARM_UP, Damage, Reader
from avrobust.media.spec import ClipSpec

Samples = Float32[np.ndarray, " n"]

# Timestamps that disagree with the count of samples by less than this are a container's rounding; by more, a gap.
GAP = 0.01  # s
# A longer gap between samples is taken for lost data; a shorter one, and one before the first sample, for silence.
HOLE = 0.5  # s
# A share of the clip that has to be decoded sound: less is a damaged clock, or sound that begins at the clip's end.
REAL = 0.05
# So much lacking between frames (in several places), or there twice, beside what is there: a damaged clock.
GAPS, OFTEN = 0.5, 3
TWICE = 0.1
TAIL = 0.05  # s read beyond the clip, for the low-pass filter


class Stretch(NamedTuple):
    """Samples without a gap, on the clip's clock: the number there of the first, which may be below 0."""

    first: int
    samples: Samples


def sound(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Samples, list[str]]:
    """The clip's sound, (samples,) in [-1, 1], and what was done to it.

    Mono, if not chosen otherwise (`spec.mono`), is FFmpeg's downmix, scaled so that it cannot exceed the range: of
    stereo the mean, of surround the front channels, with the others fainter and without the bass effects channel.
    Where channels cancel (opposite phase), it is the loudest of them, and a note.  Resampling is FFmpeg's, with
    its low-pass.  Where the file holds no samples there is silence, and a note.  Raises MediaError.
    """
    with blamed(path), errors() as said:
        wave, notes = _sound(path, spec, start, end)
    return wave, notes + [f"sound: FFmpeg reports {text!r}" for text in said[:1]]


def _sound(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Samples, list[str]]:
    stop = start + spec.seconds if end is None else min(start + spec.seconds, end)
    wanted = max(1, min(spec.samples, round((stop - start) * spec.rate)))
    damage: list[Damage] = []
    laid = 0
    wave = np.full(wanted, np.nan, dtype=np.float32)  # nan: nothing there yet
    ended = -round(start * spec.rate)  # the file's start
    with Reader(path, "audio", spec.audio_track) as reader:
        notes = reader.notes
        for first, samples in _stretches(reader, spec, start, stop + TAIL, notes, damage):
            if not np.isfinite(samples).all():
                raise MediaError(path, "its sound holds samples that are not numbers", "Leave it out.")
            ended = max(ended, first + len(samples))
            here, there = max(first, 0), min(first + len(samples), wanted)
            if here < there:
                wave[here:there] = samples[here - first : there - first]
                laid += there - here

    filled, known = np.flatnonzero(~np.isnan(wave)), min(ended, wanted)
    if damage and len(filled) < wanted:
        raise MediaError(path, f"its sound is {damage[0]}, within the clip", FETCH)
    if not len(filled):
        what = "begins after" if ended > 0 else f"ends at {start + ended / spec.rate:.2f} s, before"
        raise MediaError(path, f"its sound {what} the clip from {start:g} s to {stop:g} s", CHOOSE)
    if (hole := (np.diff(filled, append=known).max() - 1) / spec.rate) > HOLE:
        raise MediaError(path, f"its sound lacks for {hole:.2f} s within the clip, as if data were lost", FETCH)
    if len(filled) < REAL * wanted:
        real, asked = len(filled) / spec.rate, wanted / spec.rate
        reason = f"its sound has {real:.3f} s of the clip's {asked:g} s, expected {REAL:.0%} at least"
        raise MediaError(path, reason, CHOOSE)
    gaps, twice = (known - filled[0] - len(filled)) / len(filled), (laid - len(filled)) / len(filled)
    often = np.count_nonzero(np.diff(filled) > 1) >= OFTEN
    if (gaps > GAPS and often) or twice > TWICE:
        what = f"{twice:.0%} of it overlaps" if twice > TWICE else f"{gaps:.0%} as much lacks between its frames"
        raise MediaError(path, f"the clock of its sound is damaged: {what}", FETCH)
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
    if not wave.any():
        notes.append("the sound is silent: every sample is 0")
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
    reader: Reader, spec: ClipSpec, start: float, stop: float, notes: list[str], damage: list[Damage]
) -> Iterator[Stretch]:
    """The sound from `start` or earlier to `stop`, in stretches without a gap; adds to `notes` and `damage`."""
    rate = spec.rate
    run: list[AudioFrame] = []
    begin = due = 0.0
    after: float | None = None

    def stretch() -> Stretch:
        first = ceil((begin - start) * rate - 1e-3)  # the clip's first sample that the stretch has
        skip = start + first / rate - begin  # so that the resampler's clock is the clip's
        return Stretch(first, _mono(reader.path, run, skip, first, spec, notes))

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


def _mono(path: Path, run: list[AudioFrame], skip: float, first: int, spec: ClipSpec, notes: list[str]) -> Samples:
    """One stretch, without its first `skip` seconds; `first` is the number of its first sample in the clip."""
    like = run[0]
    if like.sample_rate != spec.rate and (note := f"sound resampled from {like.sample_rate} Hz") not in notes:
        notes.append(note)
    drop = round(skip * like.sample_rate) * like.layout.nb_channels
    try:
        source = np.concatenate([interleaved(frame) for frame in run])[drop:]
        if not source.size:
            return np.zeros(0, np.float32)
        whole = frame_of(source, like.format.packed.name, like.layout.name, like.sample_rate)
        heard = slice(max(-first, 0), max(spec.samples - first, 0))
        return to_mono(whole, spec.rate, spec.mono, heard, notes)
    except (FFmpegError, ValueError) as error:
        reason = f"its sound ({like.format.name}, {like.layout.name}) cannot be mixed to mono: {error}"
        raise MediaError(path, reason, "Convert the file.") from error
