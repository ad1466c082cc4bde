"""Decodes a media file to a clip: mono audio and square RGB frames on one clock.  Knows no labels, no models."""

from dataclasses import dataclass
from pathlib import Path

import av

from avrobust.media.audio import Wave, decode_audio
from avrobust.media.bounds import SECONDS
from avrobust.media.errors import MediaError
from avrobust.media.spec import ClipSpec
from avrobust.media.video import Frames, Window, decode_video

# Who decodes: this code, whose number increases when a file gives another clip or failure, and PyAV, whose wheels hold FFmpeg.
DECODER = (2, av.__version__)


@dataclass(frozen=True, eq=False)
class Clip:
    """A decoded clip, and notes on what was done to it.

    `wave` is float32 (n,) in [-1, 1], `frames` uint8 (t, h, w, 3) RGB.  `window` is the part of the upright source frame
    that `frames` show: x0, y0, x1, y1 in [0, 1].  `notes` are for people: "audio resampled from 48000 Hz", "audio tiled
    from 1.190 s", "video rotated by 180 degrees clockwise", ...
    """

    wave: Wave
    frames: Frames
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
    """The clip from `start` seconds on, from any container and codec that FFmpeg reads.

    Audio and video are aligned by their timestamps; times count from the file's start.  `audio` takes the audio from
    another file (on its own clock, from the same `start`); `video` may be an image, which is shown for the whole clip.
    After `end` the audio continues as `spec.short` says, and the last frame is repeated.

    Raises MediaError, with the file and the reason, when either stream is missing, when the clip lies outside the file,
    and when the file is damaged inside the clip.  Damage elsewhere leaves a note.  Data that could not be read are never
    replaced by made-up ones.  Raises OSError for temporary faults, such as a failing disk.

    >>> import tempfile; import numpy as np; from avrobust.media import write_mp4
    >>> wave, frames = np.zeros(8000, np.float32), np.zeros((4, 48, 64, 3), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clip = decode(write_mp4(Path(folder, "a.mp4"), wave, frames, 8000, 4.0), ClipSpec(seconds=0.5, size=32))
    >>> clip.wave.shape, clip.frames.shape
    ((5512,), (2, 32, 32, 3))
    """
    video = Path(video)
    if not (0 <= start <= SECONDS and (end is None or end > start)):
        advice = f"Give 0 <= start < end, in seconds, and a start of at most {SECONDS:g}."
        raise MediaError(video, f"expected a clip with 0 <= start < end, got {start} s to {end} s", advice)
    wave, of_audio = decode_audio(Path(audio or video), spec, start, end)
    frames, window, of_video = decode_video(video, spec, start, end)
    cut = [f"cut at {end:g} s"] if end is not None and end < start + spec.seconds else []
    return Clip(wave, frames, window, (*cut, *of_audio, *of_video))
