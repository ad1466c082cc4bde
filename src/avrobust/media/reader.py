"""Opens media files and gives one stream's decoded frames in order, with the damage that is met on the way.

Times are seconds after the file's start, which is FFmpeg's: the first moment of the earliest stream.  So sound
and picture of one file share a clock, whichever begins first.
"""

import errno
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

import av
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Disposition

from avrobust.media.bounds import COMPUTING, check_frame, check_stream, check_times
from avrobust.media.faults import FETCH as FETCH
from avrobust.media.faults import PASSING as PASSING
from avrobust.media.faults import MediaError as MediaError
from avrobust.media.faults import raise_passing
from avrobust.media.log import errors

Kind = Literal["audio", "video"]
NAMES: dict[Kind, str] = {"audio": "sound", "video": "picture"}

# Where to seek, in seconds before the wanted time, until a whole frame lies early enough; None: no seek.
LEADS: dict[Kind, tuple[float | None, ...]] = {"audio": (1.0, 10.0, None), "video": (0.0, 10.0, None)}
# What a decoder and a low-pass need before the first wanted sample (Opus 0.08 s, MP3 up to 0.3 s).
WARM_UP: dict[Kind, float] = {"audio": 0.5, "video": 0.0}
NEAR = 0.5  # s from the file's start that are not worth a seek
UNSEEKABLE = {"mpeg"}  # after a seek, MPEG program streams are some frames off
TICK = 1e-6  # s: less than any container's clock tells, more than a float loses
CUT_SHORT = 0.2  # s that a file may hold less than it declares: durations are often rough

# What to do about a clip that a file does not give.
CHOOSE = "Choose another part of it."


class Decoded(NamedTuple):
    """One decoded frame: from when to when, and whether all that it was predicted from was there."""

    seconds: float
    until: float
    frame: Any  # an AudioFrame or a VideoFrame
    whole: bool


class Damage(NamedTuple):
    """What could not be read, and from when on."""

    seconds: float
    reason: str

    def __str__(self) -> str:
        return f"damaged at {self.seconds:.2f} s ({self.reason})"


class Reader:
    """The sound or the picture of a file: the chosen track of that kind, else the one that FFmpeg calls the best.

    Raises MediaError when the file cannot be opened or has no such stream, and OSError for what may pass.
    """

    def __init__(self, path: Path, kind: Kind, track: int | None = None) -> None:
        self.path, self.kind, self.track = path, kind, track
        self.began = time.thread_time()  # of this thread's computing: a slow disk or a busy machine costs no clip
        self._open()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.container.close()

    @property
    def still(self) -> bool:
        """Whether the file is one image rather than a video."""
        return self.container.format.name == "image2" or self.container.format.name.endswith("_pipe")

    @property
    def notes(self) -> list[str]:
        """What was chosen, where there was a choice."""
        count = len(getattr(self.container.streams, self.kind))
        return [f"{NAMES[self.kind]} of stream {self.stream.index}, one of {count}"] if count > 1 else []

    def read(self, at: float) -> Iterator[Decoded | Damage]:
        """The frames in order, from `at` seconds on or earlier; damage stands where it was met.

        Seeks where that helps, and goes further back where the file's index misleads, so that the first frame
        lies early enough whenever the file has one.  Ends with a Damage when the data end before the file says.
        """
        for lead in LEADS[self.kind]:
            if lead is None or at - lead <= NEAR or self.container.format.name in UNSEEKABLE:
                break
            items = self._read(at - lead)
            first = next(items, None)
            if isinstance(first, Decoded) and first.seconds <= at - WARM_UP[self.kind] + TICK:
                return chain([first], items)
            self.container.close()
            self._open()
        return self._read(None)

    def _open(self) -> None:
        self.container = open_media(self.path)
        self.stream = pick(self.container, self.kind, self.path, self.track)
        check_stream(self.path, self.stream, self.still)
        length = self.container.duration
        check_times(self.path, origin(self.container), None if length is None else length / av.time_base)

    def _read(self, begin: float | None) -> Iterator[Decoded | Damage]:
        """The frames that follow a seek to `begin`, from the first whole one on; without it, all there are."""
        stream, zero = self.stream, origin(self.container)
        if begin is not None:
            try:
                self.container.seek(int((begin + zero) / stream.time_base), stream=stream)
            except FFmpegError:
                return  # no index: the caller goes on without one
        whole = started = begin is None
        now = latest = begin or 0.0
        for packet in self._packets():
            self._check_time()
            if stream.duration is None and isinstance(packet, Packet) and packet.pts is not None:
                latest = max(latest, float((packet.pts + (packet.duration or 0)) * packet.time_base) - zero)
            frames, reason = self._decode(packet)
            if reason:
                whole = whole and self.kind == "audio"  # pictures are predicted from one another, sounds hardly
                if started:
                    yield Damage(now, reason)
            for frame in frames:
                check_frame(self.path, frame, self.still)
                # AVI has no time of showing, and what FFmpeg puts there is wrong between B-frames.
                stamp = frame.dts if self.container.format.name == "avi" else frame.pts
                if stamp is not None:
                    now = float(stamp * frame.time_base) - zero
                whole = not frame.is_corrupt and (whole or self.kind == "audio" or frame.key_frame)
                started = started or whole
                until = now + _length(frame, stream)
                if started:
                    yield Decoded(now, until, frame, whole)
                now = until
        ended = now if stream.duration is not None else latest
        declared = self._declared()
        if declared is not None and ended < declared - CUT_SHORT:
            yield Damage(now, f"cut short: the file declares {declared:.2f} s")
        elif size := _lacks(self.path):
            yield Damage(now, f"cut short: {size} bytes fewer than the file declares")

    def _check_time(self) -> None:
        if time.thread_time() - self.began > COMPUTING:
            reason = f"its {NAMES[self.kind]} takes more than {COMPUTING:g} s of computing"
            raise MediaError(self.path, reason, "Cut or convert it.")

    def _packets(self) -> Iterator[Any]:
        """Packets of every stream to the end, or to the error that ends them."""
        try:
            yield from self.container.demux()
        except (OSError, FFmpegError) as error:
            raise_passing(error, self.path)
            yield error

    def _decode(self, packet: Any) -> tuple[list[Any], str]:
        """The frames that a packet completes, and why there are none, where there should be."""
        try:
            if not isinstance(packet, Packet):
                return self.stream.decode(None), str(packet.strerror)
            if packet.stream is not self.stream:
                return [], ""
            if packet.is_corrupt:
                return [], "incomplete data"
            return packet.decode(), ""
        except FFmpegError as error:
            return [], str(error.strerror)

    def _declared(self) -> float | None:
        """When the stream should end by what the file says, else when the file should; None when it does not say."""
        stream, container = self.stream, self.container
        if self.still:
            return None
        if stream.duration is not None:
            return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - origin(container)
        return None if container.duration is None else container.duration / av.time_base


def open_media(path: Path) -> InputContainer:
    """The opened file.  Raises MediaError with the reason when it is no media file that FFmpeg knows.

    Raises OSError for what may pass, such as a disk that fails or too many open files.
    """
    advice = "Check the path, or take this clip off the list."
    if not path.is_file():  # also: a pipe would be waited on for ever
        reason = "is a folder" if path.is_dir() else "is not a file" if path.exists() else "does not exist"
        raise MediaError(path, reason, advice)
    advice = "Fetch or convert it again, or take this clip off the list."
    if not path.stat().st_size:
        raise MediaError(path, "is empty (0 bytes)", advice)
    try:
        container = _open_again(path)
    except (FFmpegError, OSError) as error:
        if not (isinstance(error, FFmpegError) and error.errno == errno.EIO):  # that is a head cut short
            raise_passing(error, path)
        reason = _said(path)
        if error.errno == errno.ENOMEM:
            reason = f"a damaged table asks for more memory than there is ({reason or error.strerror})"
        raise MediaError(path, f"cannot be opened: {reason or error.strerror}", advice) from error
    if container.format.name == "tty":  # FFmpeg's reading of any .txt: terminal art
        raise MediaError(path, "is text, not a media file", advice)
    return container


def pick(container: InputContainer, kind: Kind, path: Path, track: int | None = None) -> Any:
    """The chosen track of that kind, else the one that FFmpeg calls the best.  Raises MediaError when there is none."""
    video = container.streams.best("video")
    tracks = getattr(container.streams, kind)
    if track is None:
        stream = video if kind == "video" else container.streams.best("audio", related=video)
    elif track < len(tracks):
        stream = tracks[track]
    elif tracks:
        known = "; ".join(f"{number}: {_named(stream)}" for number, stream in enumerate(tracks))
        raise MediaError(
            path, f"has no {kind} track {track}, but {known}", "Choose one of these, or None for FFmpeg's choice."
        )
    else:
        stream = None
    if stream is None or stream.disposition & Disposition.attached_pic:  # a cover is no picture of the sound
        advice = f"Give the {NAMES[kind]} as another file, or take this clip off the list."
        raise MediaError(path, f"has no {kind} stream", advice)
    if stream.codec_context is None:
        raise MediaError(path, f"its {NAMES[kind]} has a codec that FFmpeg cannot decode", "Convert the file.")
    stream.codec_context.thread_count = 1  # clips are decoded side by side instead
    return stream


def _named(stream: Any) -> str:
    """What tells a track from its neighbours."""
    codec = stream.codec_context.name if stream.codec_context else "unknown codec"
    language = stream.metadata.get("language", "und").replace("und", "")  # "und": nobody said
    return " ".join(filter(None, (codec, language, stream.metadata.get("title"))))


def origin(container: InputContainer) -> float:
    """The file's start on its own clock, in seconds."""
    return float((container.start_time or 0) / av.time_base)


def _length(frame: Any, stream: Any) -> float:
    """Seconds that a frame lasts."""
    if isinstance(frame, AudioFrame):
        return frame.samples / frame.sample_rate
    if frame.duration:
        return float(frame.duration * frame.time_base)
    return float(1 / stream.average_rate) if stream.average_rate else 0.0


def _lacks(path: Path) -> int:
    """How many bytes an AVI or WAV file holds less than its head says; FFmpeg takes their length from the size."""
    with path.open("rb") as file:
        head = file.read(8)
    size = int.from_bytes(head[4:], "little")
    unset = size > 0xFFFF0000  # written to a pipe: nobody went back to fill it in
    return 0 if head[:4] != b"RIFF" or unset else max(0, size + 8 - path.stat().st_size)


def _open(path: Path) -> InputContainer:
    # Names are taken as they stand: no patterns (img%03d.png), no other files or addresses that a playlist names.
    options = {"protocol_whitelist": "file", "pattern_type": "none"}
    name = f"file:{path}"
    container: InputContainer
    try:
        container = av.open(name, container_options=options)
    except UnicodeDecodeError:  # of a title in another encoding; PyAV from 19 on has none, and no such argument
        container = av.open(name, metadata_errors="ignore", container_options=options)
    return container


def _open_again(path: Path) -> InputContainer:
    """As `_open`.  FFmpeg says EIO of a head cut short as of a failing disk: it is the disk, if reading fails too."""
    try:
        return _open(path)
    except (FFmpegError, OSError) as error:
        if error.errno != errno.EIO:
            raise
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
    return _open(path)


def _said(path: Path) -> str:
    """What FFmpeg logs when it fails to open a file, which tells more than its error; empty if it says nothing."""
    with errors() as said, suppress(FFmpegError, OSError):
        _open(path).close()
    return "; ".join(said)
