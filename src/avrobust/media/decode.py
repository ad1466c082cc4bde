"""A media file becomes a clip: mono sound and square RGB frames on one clock.  Knows no labels, no models."""

from dataclasses import dataclass
from pathlib import Path

from avrobust.media.bounds import SECONDS
from avrobust.media.faults import MediaError
from avrobust.media.picture import Pixels, Window, picture
from avrobust.media.sound import Samples, sound
from avrobust.media.spec import ClipSpec

__all__ = ["Clip", "MediaError", "decode"]


@dataclass(frozen=True, eq=False)
class Clip:
    """What was heard and seen, and what was done to it.

    `wave` is float32 (n,) in [-1, 1], `frames` uint8 (t, h, w, 3) RGB.  `window` is the part of the upright
    source picture that the frames show: x0, y0, x1, y1 in [0, 1].  `notes` are for people: "sound resampled
    from 48000 Hz", "sound tiled from 1.190 s", "picture rotated by 180 degrees clockwise", ...
    """

    wave: Samples
    frames: Pixels
    window: Window
    notes: tuple[str, ...]


def decode(
    video: str | Path,
    spec: ClipSpec,
    *,
    audio: str | Path | None = None,
    start: float = 0.0,
    end: float | None = None,
) -> Clip:
    """The clip of a file from `start` seconds on, in any container and codec that FFmpeg knows.

    Sound and picture are aligned by their timestamps; times count from the file's start.  `audio` is another file
    for the sound (on its own clock, from the same `start`); `video` may be an image, which holds.  At `end` the
    clip is cut: the sound is then continued as `spec.short` says, and the last frame held.

    Raises MediaError, with the file and the reason, when either stream is missing, when the clip lies outside
    the file, and when damage lies within it.  Damage elsewhere leaves a note.  Nothing is ever made up in
    place of data that could not be read.
    """
    video = Path(video)
    if not (0 <= start <= SECONDS and (end is None or end > start)):
        advice = f"Give 0 <= start < end, in seconds, and a start of at most {SECONDS:g}."
        raise MediaError(video, f"a clip from {start} s to {end} s cannot be", advice)
    wave, heard = sound(Path(audio or video), spec, start, end)
    frames, window, seen = picture(video, spec, start, end)
    cut = [f"cut at {end:g} s"] if end is not None and end < start + spec.seconds else []
    return Clip(wave, frames, window, tuple(cut + heard + seen))
