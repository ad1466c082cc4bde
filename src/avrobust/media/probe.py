"""What a media file holds, without decoding more than a frame: length, codecs, rates, sizes."""

from dataclasses import dataclass
from pathlib import Path

import av

from avrobust.media.faults import MediaError, blamed
from avrobust.media.picture import matrix, sideways
from avrobust.media.reader import Decoded, Reader, open_media


@dataclass(frozen=True)
class AudioStream:
    """The sound that `decode` would take."""

    index: int  # among the file's streams
    codec: str
    rate: int  # Hz
    channels: int
    layout: str  # FFmpeg's name: "mono", "stereo", "5.1"


@dataclass(frozen=True)
class VideoStream:
    """The picture that `decode` would take."""

    index: int  # among the file's streams
    codec: str
    width: int  # pixels, upright
    height: int
    fps: float | None  # on average; None when the file does not say
    still: bool  # one image, which holds


@dataclass(frozen=True)
class Probe:
    """A file and its streams; None for what it lacks or does not say."""

    path: Path
    container: str
    seconds: float | None
    audio: AudioStream | None
    video: VideoStream | None


def probe(path: str | Path) -> Probe:
    """What a file holds, in milliseconds.  Raises MediaError when it is no media file.

    A stream that is absent, or whose codec is unknown, is None here; `decode` says which of the two.
    """
    path = Path(path)
    with blamed(path):
        with open_media(path) as container:
            name, length = container.format.name, container.duration
        seconds = None if length is None else length / av.time_base
        return Probe(path, name, seconds, audio=_audio(path), video=_video(path))


def _audio(path: Path) -> AudioStream | None:
    try:
        with Reader(path, "audio") as reader:
            stream = reader.stream
            layout = stream.layout
            return AudioStream(stream.index, stream.codec.name, stream.rate, layout.nb_channels, layout.name)
    except MediaError:
        return None


def _video(path: Path) -> VideoStream | None:
    try:
        with Reader(path, "video") as reader:
            stream, still = reader.stream, reader.still
            width, height = stream.width, stream.height
            first = next(reader.read(0.0), None)  # only frames tell how they are to be turned
            if isinstance(first, Decoded) and sideways(matrix(first.frame)):
                width, height = height, width
            fps = float(stream.average_rate) if stream.average_rate and not still else None
            return VideoStream(stream.index, stream.codec.name, width, height, fps, still)
    except MediaError:
        return None
