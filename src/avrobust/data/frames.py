"""Reads a clip from a media file, or from a folder of numbered frames with a sound file, as the paper's code has it.

Knows where the picture lies; how it is decoded is for `media`.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from avrobust.media import ClipSpec
from avrobust.media.decode import Clip, MediaError, decode
from avrobust.media.picture import picture
from avrobust.media.sound import sound

FRAMES_PER_SECOND = 8.0  # of the paper's frame folders; frame 000001.jpg is shown from 0 to 1/8 s
PICTURES = frozenset((".jpg", ".jpeg", ".png"))


def read_clip(
    video: Path, spec: ClipSpec, *, audio: Path | None = None, start: float = 0.0, end: float | None = None
) -> Clip:
    """The clip from `start` to `end`, where `video` is a media file or a folder of numbered frames.

    Raises MediaError, as `decode` does.
    """
    if not video.is_dir():
        return decode(video, spec, audio=audio, start=start, end=end)
    if audio is None:
        raise MediaError(video, "is a folder of frames, without a sound", "Name its sound file in the manifest.")
    files = numbered(video)
    if not files:
        raise MediaError(video, "holds no numbered frames such as 000001.jpg", "Extract the frames, or leave it out.")
    wave, notes = sound(audio, spec, start, end)
    last = len(files) - 1 if end is None else min(len(files), max(1, round(end * FRAMES_PER_SECOND))) - 1
    asked = [int((start + (j + 0.5) / spec.fps) * FRAMES_PER_SECOND) for j in range(spec.frames)]
    shown = [min(number, last) for number in asked]
    one = replace(spec, seconds=1.0, fps=1.0, video_track=None)
    pictures = {number: picture(files[number], one, 0.0, None) for number in set(shown)}
    if shown != asked:
        notes = [*notes, f"picture held after {(last + 1) / FRAMES_PER_SECOND:g} s"]
    frames = np.concatenate([pictures[number][0] for number in shown])
    return Clip(wave, frames, pictures[shown[0]][1], tuple(notes))


def numbered(folder: Path) -> list[Path]:
    """The pictures of a folder whose names are numbers, in order."""
    files = (f for f in folder.iterdir() if f.stem.isdecimal() and f.suffix.lower() in PICTURES)
    return sorted(files, key=lambda f: int(f.stem))
