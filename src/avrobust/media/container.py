"""Opens media files and picks the audio or video stream.  Knows no frames."""

import errno
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import av
from av.container import InputContainer
from av.error import FFmpegError
from av.stream import Disposition

from avrobust.media.errors import CONVERT, MediaError, raise_if_temporary
from avrobust.media.ffmpeg_log import logged_errors

Kind = Literal["audio", "video"]


def open_media(path: Path) -> InputContainer:
    """The opened file.  Raises MediaError with the reason when it is no media file that FFmpeg reads.

    Raises OSError for temporary faults, such as a failing disk or too many open files.
    """
    if not path.is_file():  # also: a pipe would be waited on for ever
        reason = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
        raise MediaError(path, f"{reason}, expected a media file", "Check the path, or remove this clip from the list.")
    advice = "Download or convert it again, or remove this clip from the list."
    if not path.stat().st_size:
        raise MediaError(path, "is empty (0 bytes)", advice)
    try:
        container = _open_again(path)
    except (FFmpegError, OSError) as error:
        if not (isinstance(error, FFmpegError) and error.errno == errno.EIO):  # that is a truncated header
            raise_if_temporary(error, path)
        reason = _logged(path) or str(error.strerror)
        if error.errno == errno.ENOMEM:
            reason = f"a damaged table asks for more memory than there is ({reason})"
        raise MediaError(path, f"cannot be opened: {reason}", advice) from error
    if container.format.name == "tty":  # FFmpeg's reading of any .txt: terminal art
        raise MediaError(path, "is text, expected a media file", advice)
    return container


def pick_stream(container: InputContainer, kind: Kind, path: Path, track: int | None = None) -> Any:
    """The stream of that kind with the number `track`, or else FFmpeg's choice.  Raises MediaError when there is none."""
    video = container.streams.best("video")
    tracks = getattr(container.streams, kind)
    if track is None:
        stream = video if kind == "video" else container.streams.best("audio", related=video)
    elif track < len(tracks):
        stream = tracks[track]
    elif tracks:
        known = "; ".join(f"{number}: {_described(stream)}" for number, stream in enumerate(tracks))
        advice = "Choose one of these, or None for FFmpeg's choice."
        raise MediaError(path, f"has no {kind} track {track}, but {known}", advice)
    else:
        stream = None
    if stream is None or stream.disposition & Disposition.attached_pic:  # a cover is no video
        advice = f"Give the {kind} as another file, or remove this clip from the list."
        raise MediaError(path, f"has no {kind} stream", advice)
    if stream.codec_context is None:
        raise MediaError(path, f"its {kind} has a codec that FFmpeg cannot decode", CONVERT)
    stream.codec_context.thread_count = 1  # clips are decoded side by side instead
    return stream


def is_image(container: InputContainer) -> bool:
    """Whether the file is one image rather than a video."""
    name: str = container.format.name
    return name == "image2" or name.endswith("_pipe")  # FFmpeg's own names of its image readers


def start_of(container: InputContainer) -> float:
    """The file's start on its own clock, in seconds."""
    return float((container.start_time or 0) / av.time_base)


def missing_bytes(path: Path) -> int:
    """How many bytes an AVI or WAV file has less than its header declares; FFmpeg trusts the size instead."""
    with path.open("rb") as file:
        header = file.read(8)
    declared = int.from_bytes(header[4:], "little")
    unset = declared > 0xFFFF0000  # written to a pipe, so that the header was never filled in
    return 0 if header[:4] != b"RIFF" or unset else max(0, declared + 8 - path.stat().st_size)


def _described(stream: Any) -> str:
    """Codec, language and title: what tells a track from the others."""
    codec = stream.codec_context.name if stream.codec_context else "unknown codec"
    language = stream.metadata.get("language", "und").replace("und", "")  # "und": undetermined
    return " ".join(filter(None, (codec, language, stream.metadata.get("title"))))


def _open(path: Path) -> InputContainer:
    # Names are taken literally: no patterns (img%03d.png), no other files or addresses that a playlist names.
    options = {"protocol_whitelist": "file", "pattern_type": "none"}
    name = f"file:{path}"
    container: InputContainer
    try:
        container = av.open(name, container_options=options)
    except UnicodeDecodeError:  # of a title in another encoding; PyAV from 19 on has none, and no such argument
        container = av.open(name, metadata_errors="ignore", container_options=options)
    return container


def _open_again(path: Path) -> InputContainer:
    """As `_open`.  FFmpeg reports EIO for a truncated header and for a failing disk: the disk fails if reading does."""
    try:
        return _open(path)
    except (FFmpegError, OSError) as error:
        if error.errno != errno.EIO:
            raise
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return _open(path)


def _logged(path: Path) -> str:
    """What FFmpeg logs when it fails to open a file, which says more than its error; may be empty."""
    with logged_errors() as messages, suppress(FFmpegError, OSError):
        _open(path).close()
    return "; ".join(messages)
