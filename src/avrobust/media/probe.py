"""What a media file holds, decoding one frame at most: duration, codecs, rates, sizes."""

from dataclasses import dataclass
from pathlib import Path

import av

from avrobust.media.container import open_media
from avrobust.media.errors import MediaError, media_errors
from avrobust.media.reader import Decoded, Reader
from avrobust.media.video import display_matrix, is_quarter_turn


@dataclass(frozen=True)
class AudioStream:
    """The audio that `decode` would take."""

    index: int  # among the file's streams
    codec: str
    rate: int  # Hz
    channels: int
    layout: str  # FFmpeg's name: "mono", "stereo", "5.1"


@dataclass(frozen=True)
class VideoStream:
    """The video that `decode` would take."""

    index: int  # among the file's streams
    codec: str
    width: int  # pixels, upright
    height: int
    fps: float | None  # on average; None when the file does not say
    still: bool  # one image, shown for any time


@dataclass(frozen=True)
class Probe:
    """A file and its streams; None for a stream that is absent and a duration that is not declared."""

    path: Path
    container: str
    seconds: float | None
    audio: AudioStream | None
    video: VideoStream | None


def probe(path: str | Path) -> Probe:
    """What a file holds; takes milliseconds.  Raises MediaError when it is no media file.

    A stream that is absent, or whose codec is unknown, is None here; `decode` says which of the two.

    >>> import tempfile; import numpy as np; from avrobust.media import write_wav
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = probe(write_wav(Path(folder, "a.wav"), np.zeros(4000, np.float32), 8000))
    >>> found.seconds, found.audio.rate, found.video
    (0.5, 8000, None)
    """
    path = Path(path)
    with media_errors(path):
        with open_media(path) as container:
            name, duration = container.format.name, container.duration
        seconds = None if duration is None else duration / av.time_base
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
            first = next(reader.read(0.0), None)  # only frames say how they are rotated
            if isinstance(first, Decoded) and is_quarter_turn(display_matrix(first.frame, path)):
                width, height = height, width
            fps = float(stream.average_rate) if stream.average_rate and not still else None
            return VideoStream(stream.index, stream.codec.name, width, height, fps, still)
    except MediaError:
        return None
