"""What an audit learns from the files of one clip: whether they can be opened, and simple properties of them.

Imports little, because worker processes import it: a damaged file can kill or hold up whoever opens it.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from avrobust.data.frames import numbered
from avrobust.media import ClipSpec
from avrobust.media.audio import decode_audio
from avrobust.media.container import Kind
from avrobust.media.errors import MediaError
from avrobust.media.probe import probe
from avrobust.media.reader import Reader

Properties = Mapping[str, float | str]

RATE = 16_000  # Hz
SECONDS = 10.0  # of audio that are decoded at each end of a clip
QUIET = 0.1  # of the clip's peak; anything below is silence


@dataclass(frozen=True)
class Files:
    """The files of one clip, and whether to measure their properties."""

    video: Path
    audio: Path | None
    start: float
    end: float | None
    measured: bool


@dataclass(frozen=True)
class Finding:
    """Why the files cannot be read, as far as opening them shows, and their properties by name."""

    problem: str | None
    properties: Properties | None = None


def examine(files: Files) -> Finding:
    """Open the files of a clip.  Damage further inside is found by `prepare`, and costs a clip its properties here."""
    problem = _problem(files)
    if problem is None and files.measured:
        with suppress(MediaError, OSError):
            return Finding(None, properties(files))
    return Finding(problem)


def properties(files: Files) -> Properties:
    """The properties of a clip's files, by name.  Raises MediaError and OSError."""
    audio, video = files.audio or files.video, files.video
    file = probe(audio)
    size = audio.stat().st_size
    found: dict[str, float | str] = {"file size": float(size), "container": file.container}
    if file.audio is not None:
        found |= {
            "audio codec": file.audio.codec,
            "sample rate": float(file.audio.rate),
            "number of channels": file.audio.channels,
        }
    end = files.end if files.end is not None else file.seconds
    if end is not None and end > files.start:
        found["duration"] = end - files.start
        found["bit rate"] = size / file.seconds if file.seconds else np.nan
        if file.audio is not None:
            found |= _silence_and_loudness(audio, files.start, end)
    if video.is_file() and (stream := (file if video == audio else probe(video)).video):
        found |= {
            "video codec": stream.codec,
            "frame size": stream.width * stream.height,
            "aspect ratio": stream.width / stream.height,
        }
        found |= {"frame rate": stream.fps} if stream.fps else {}
    return found


def _silence_and_loudness(path: Path, start: float, end: float) -> Properties:
    """Silence at both ends in seconds, and the loudness between in dB of full scale."""
    spec = ClipSpec(seconds=min(SECONDS, end - start), rate=RATE, short="pad")
    first, _ = decode_audio(path, spec, start, None)
    last = first if spec.seconds == end - start else decode_audio(path, spec, end - spec.seconds, None)[0]
    lead, trail = (np.flatnonzero(np.abs(w) > QUIET * np.abs(w).max()) for w in (first, last[::-1]))
    if not (len(lead) and len(trail)):
        return {"loudness": -120.0}
    return {
        "duration of leading silence": float(lead[0] / RATE),
        "duration of trailing silence": float(trail[0] / RATE),
        "loudness": float(10 * np.log10(np.square(first[lead[0] : lead[-1] + 1], dtype=np.float64).mean())),
    }


def _problem(files: Files) -> str | None:
    """Why a clip cannot be read from its files, as far as opening them shows."""
    video, audio = files.video, files.audio
    try:
        if video.is_dir():
            has_video, has_audio = bool(numbered(video)), False
        else:
            file = probe(video)
            has_video, has_audio = file.video is not None, file.audio is not None
        if audio is not None:
            has_audio = probe(audio).audio is not None
    except (MediaError, OSError) as error:
        return str(error)
    if not has_audio:
        return _why(audio or video, "audio")
    return None if has_video else _why(video, "video")


def _why(path: Path, kind: Kind) -> str:
    """Why a file has no audio or no video."""
    if path.is_dir():
        missing = "audio file beside its frames" if kind == "audio" else "numbered frames"
        return f"{path}: has no {missing}"
    with suppress(OSError):
        try:
            Reader(path, kind).container.close()
        except MediaError as error:
            return str(error)
    return f"{path}: has no {kind} stream"
