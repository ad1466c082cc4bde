"""The audio of a clip: one track, mixed to mono, resampled, placed on the clip's clock."""

from collections.abc import Iterator
from math import ceil
from pathlib import Path
from typing import NamedTuple

import numpy as np
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from jaxtyping import Float32

from avrobust.media.errors import CHOOSE, CONVERT, DOWNLOAD, MediaError, media_errors
from avrobust.media.ffmpeg_log import logged_errors
from avrobust.media.mono import frame_of, interleaved, to_mono
from avrobust.media.reader import WARM_UP, Damage, Reader
from avrobust.media.spec import ClipSpec

Wave = Float32[np.ndarray, " n"]

# Timestamps may disagree with the count of samples by a container's rounding; by more than this, there is a gap.
GAP = 0.01  # s
# A longer gap between samples is lost data; a shorter one, and any before the first sample, is silence.
LOST = 0.5  # s
# A clip with a smaller share of decoded audio has a damaged clock, or lies at the very end of the audio.
DECODED = 0.05
# A clock is damaged if the gaps, in several places, add up to this share of the audio, or overlaps to that one.
GAPS, PLACES, OVERLAP = 0.5, 3, 0.1
TAIL = 0.05  # s read beyond the clip, for the low-pass filter


class Segment(NamedTuple):
    """Samples without a gap; `first` is the clip's sample number of the first one, negative before the clip."""

    first: int
    samples: Wave


def decode_audio(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Wave, list[str]]:
    """The audio from `start` seconds on, (spec.samples,) in [-1, 1], and notes on what was done to it.

    By default (`spec.mono`) channels are mixed as FFmpeg does, scaled so that the mix cannot exceed the range: the mean
    of stereo; of surround, the front channels with fainter others and without the bass effects channel.  Where channels
    cancel (opposite phase), the loudest one is taken, with a note.  Resampling is FFmpeg's, with its low-pass filter.
    Gaps in the file become silence, with a note.  Raises MediaError.
    """
    with media_errors(path), logged_errors() as messages:
        wave, notes = _decode(path, spec, start, end)
    return wave, notes + [f"audio: FFmpeg reports {text!r}" for text in messages[:1]]


def _decode(path: Path, spec: ClipSpec, start: float, end: float | None) -> tuple[Wave, list[str]]:
    stop = start + spec.seconds if end is None else min(start + spec.seconds, end)
    wanted = max(1, min(spec.samples, round((stop - start) * spec.rate)))
    damage: list[Damage] = []
    written = 0
    wave = np.full(wanted, np.nan, dtype=np.float32)  # nan: nothing decoded yet
    ended = -round(start * spec.rate)  # the file's start
    with Reader(path, "audio", spec.audio_track) as reader:
        notes = reader.notes
        for first, samples in _segments(reader, spec, start, stop + TAIL, notes, damage):
            if not np.isfinite(samples).all():
                raise MediaError(path, "its audio has samples that are not numbers", CONVERT)
            ended = max(ended, first + len(samples))
            a, b = max(first, 0), min(first + len(samples), wanted)
            if a < b:
                wave[a:b] = samples[a - first : b - first]
                written += b - a

    decoded, known = np.flatnonzero(~np.isnan(wave)), min(ended, wanted)
    if damage and len(decoded) < wanted:
        raise MediaError(path, f"its audio is {damage[0]}, inside the clip", DOWNLOAD)
    if not len(decoded):
        what = "begins after" if ended > 0 else f"ends at {start + ended / spec.rate:.2f} s, before"
        raise MediaError(path, f"its audio {what} the clip from {start:g} s to {stop:g} s", CHOOSE)
    if (longest := (np.diff(decoded, append=known).max() - 1) / spec.rate) > LOST:
        raise MediaError(path, f"{longest:.2f} s of audio is missing inside the clip", DOWNLOAD)
    if len(decoded) < DECODED * wanted:
        reason = f"has {len(decoded) / spec.rate:.3f} s of audio inside the clip of {wanted / spec.rate:g} s"
        raise MediaError(path, f"{reason}, expected at least {DECODED:.0%}", CHOOSE)
    gaps, overlap = (known - decoded[0] - len(decoded)) / len(decoded), (written - len(decoded)) / len(decoded)
    if overlap > OVERLAP:
        raise MediaError(path, f"its audio has a damaged clock: {overlap:.0%} of the samples overlap", DOWNLOAD)
    if gaps > GAPS and np.count_nonzero(np.diff(decoded) > 1) >= PLACES:
        raise MediaError(path, f"its audio has a damaged clock: gaps are {gaps:.0%} as long as the audio", DOWNLOAD)
    notes += [f"audio {d}, outside the clip" for d in damage[:1]]
    return _fitted(path, wave[:known], spec, notes), notes


def _fitted(path: Path, wave: Float32[np.ndarray, " decoded"], spec: ClipSpec, notes: list[str]) -> Wave:
    """`wave` with silence in its gaps, clipped to [-1, 1], and as long as the clip."""
    gaps = np.isnan(wave)
    if gaps.any():
        notes.append(f"silence for {gaps.sum() / spec.rate:.3f} s where the file has no audio")
        wave = np.where(gaps, np.float32(0), wave)
    peak = np.abs(wave).max()
    if peak > 1:
        notes.append(f"audio clipped to [-1, 1], its peak was {peak:.3f}")
        wave = wave.clip(-1, 1)
    missing = spec.samples - len(wave)
    if not wave.any():
        notes.append("audio is silent: every sample is 0")
    if not missing:
        return wave
    seconds = len(wave) / spec.rate
    if spec.short == "error":
        advice = 'Choose ClipSpec(short="tile") or "pad", or fewer seconds.'
        raise MediaError(path, f"its audio lasts {seconds:.3f} s, expected the clip's {spec.seconds:g} s", advice)
    if spec.short == "pad":
        notes.append(f"audio padded with silence from {seconds:.3f} s")
        return np.pad(wave, (0, missing))
    notes.append(f"audio tiled from {seconds:.3f} s")
    return np.resize(wave, spec.samples)


def _segments(
    reader: Reader, spec: ClipSpec, start: float, stop: float, notes: list[str], damage: list[Damage]
) -> Iterator[Segment]:
    """The audio from `start` or earlier to `stop`, in segments without a gap; adds to `notes` and `damage`."""
    run: list[AudioFrame] = []
    begin = due = 0.0
    after: float | None = None

    def segment() -> Segment:
        first = ceil((begin - start) * spec.rate - 1e-3)  # the clip's first sample inside the segment
        skip = start + first / spec.rate - begin  # s, so that the resampler's clock is the clip's
        return Segment(first, _mono(reader.path, run, skip, first, spec, notes))

    for item in reader.read(start):
        if isinstance(item, Damage) or not item.whole:
            damage.append(item if isinstance(item, Damage) else Damage(item.seconds, "corrupt samples"))
            continue
        if item.seconds >= stop:
            after = item.seconds
            break
        if run and (abs(item.seconds - due) > GAP or _format(run[-1]) != _format(item.frame)):
            yield segment()
            run = []
        if item.until <= start - WARM_UP["audio"]:
            run = []  # too early to matter; only the last one is kept, for its time
        if not run:
            begin = due = item.seconds
        run.append(item.frame)
        due += item.frame.samples / item.frame.sample_rate
    if run:
        yield segment()
    if after is not None:  # so that missing audio before it counts as a gap, and not as the end
        yield Segment(ceil((after - start) * spec.rate), np.zeros(0, np.float32))


def _format(frame: AudioFrame) -> tuple[int, str, str]:
    """What two frames must share for one resampler to take both."""
    return frame.sample_rate, frame.format.name, frame.layout.name


def _mono(path: Path, run: list[AudioFrame], skip: float, first: int, spec: ClipSpec, notes: list[str]) -> Wave:
    """One segment as mono, without its first `skip` seconds; `first` is the clip's number of its first sample."""
    frame = run[0]
    if frame.sample_rate != spec.rate and (note := f"audio resampled from {frame.sample_rate} Hz") not in notes:
        notes.append(note)
    drop = round(skip * frame.sample_rate) * frame.layout.nb_channels
    try:
        samples = np.concatenate([interleaved(frame) for frame in run])[drop:]
        if not samples.size:
            return np.zeros(0, np.float32)
        whole = frame_of(samples, frame.format.packed.name, frame.layout.name, frame.sample_rate)
        inside = slice(max(-first, 0), max(spec.samples - first, 0))
        return to_mono(whole, spec.rate, spec.mono, inside, notes)
    except (FFmpegError, ValueError) as error:
        reason = f"its audio ({frame.format.name}, {frame.layout.name}) cannot be mixed to mono: {error}"
        raise MediaError(path, reason, CONVERT) from error
