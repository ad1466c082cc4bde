"""Reads a clip from a media file, or from a folder of numbered frames with an audio file."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from avrobust.media import ClipSpec
from avrobust.media.audio import decode_audio
from avrobust.media.decode import Clip, decode
from avrobust.media.errors import CHOOSE, MediaError
from avrobust.media.video import decode_video

FRAMES_PER_SECOND = 8.0  # of frame folders; frame 000001.jpg is shown from 0 to 1/8 s
IMAGES = frozenset((".jpg", ".jpeg", ".png"))


def read_clip(
    video: Path, spec: ClipSpec, *, audio: Path | None = None, start: float = 0.0, end: float | None = None
) -> Clip:
    """The clip from `start` to `end` (s), where `video` is a media file, or a folder of numbered frames.

    A folder holds 8 frames a second, by their numbers, and needs `audio`.  Raises MediaError, as `decode` does, and for a
    number that lacks inside the clip.

    >>> import tempfile; from avrobust.media import write_png, write_wav
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for n in range(8):
    ...         _ = write_png(Path(folder, "v", f"{n + 1:06d}.png"), np.zeros((16, 16, 3)))
    ...     audio = write_wav(Path(folder, "v.wav"), np.zeros(8000, np.float32), 8000)
    ...     clip = read_clip(Path(folder, "v"), ClipSpec(seconds=1.0, fps=2, size=8), audio=audio)
    >>> clip.frames.shape
    (2, 8, 8, 3)
    """
    if not video.is_dir():
        return decode(video, spec, audio=audio, start=start, end=end)
    if audio is None:
        raise MediaError(video, "is a folder of frames without audio", "Name its audio file in the manifest.")
    files = numbered(video)
    if not files:
        reason = "has no numbered frames such as 000001.jpg"
        raise MediaError(video, reason, "Extract the frames, or leave the clip out.")
    places = {
        int(file.stem) - int(files[0].stem): file for file in files
    }  # by the eighth of a second that they are shown in
    if len(places) < len(files):
        reason = "has several images of one number, such as 1.jpg and 000001.jpg"
        raise MediaError(video, reason, "Remove the others, or extract the frames again.")
    seconds = (max(places) + 1) / FRAMES_PER_SECOND
    if start >= seconds:
        raise MediaError(video, f"its frames end at {seconds:.2f} s, before the clip from {start:g} s", CHOOSE)
    wave, notes = decode_audio(audio, spec, start, end)
    last = max(places) if end is None else min(max(places), max(0, round(end * FRAMES_PER_SECOND) - 1))
    wanted = [int((start + (j + 0.5) / spec.fps) * FRAMES_PER_SECOND) for j in range(spec.frames)]
    shown = [min(number, last) for number in wanted]
    if lost := [number for number in shown if number not in places]:
        reason = f"has no frame {int(files[0].stem) + lost[0]:06d}, inside the clip"
        raise MediaError(video, reason, "Extract the frames again, or leave the clip out.")
    one = replace(spec, seconds=1.0, fps=1.0, video_track=None)
    images = {number: decode_video(places[number], one, 0.0, None) for number in set(shown)}
    if shown != wanted:
        notes = [*notes, f"last frame repeated from {(last + 1) / FRAMES_PER_SECOND - start:.3f} s"]
    frames = np.concatenate([images[number][0] for number in shown])
    return Clip(wave, frames, images[shown[0]][1], tuple(notes))


def numbered(folder: Path) -> list[Path]:
    """The images of a folder whose names are numbers, in order."""
    files = (f for f in folder.iterdir() if f.stem.isdecimal() and f.suffix.lower() in IMAGES)
    return sorted(files, key=lambda f: int(f.stem))
