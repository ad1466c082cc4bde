"""Gives the decoded frames of one stream in order, and the damage that is met on the way.

Times are seconds after the file's start, which is FFmpeg's: the first moment of the earliest stream.  So audio and video
of one file share a clock, whichever begins first.
"""

import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import av
from av.audio.frame import AudioFrame
from av.error import FFmpegError
from av.packet import Packet

from avrobust.media.bounds import COMPUTING, check_frame, check_stream, check_times
from avrobust.media.container import Kind, is_image, missing_bytes, open_media, pick_stream, start_of
from avrobust.media.errors import MediaError, raise_if_temporary

# Where to seek, in seconds before the wanted time, until a whole frame lies early enough.  A file without an index may hold
# its last keyframe minutes before: each lead is so much longer than the last one that all together decode little in vain.
LEADS: dict[Kind, tuple[float, ...]] = {"audio": (1.0, 10.0), "video": (0.0, 10.0, 60.0, 360.0, 2160.0)}
# What a decoder and a low-pass filter need before the first wanted sample (Opus 0.08 s, MP3 up to 0.3 s).
WARM_UP: dict[Kind, float] = {"audio": 0.5, "video": 0.0}
NEAR = 0.5  # s from the file's start that are not worth a seek
UNSEEKABLE = {"mpeg"}  # after a seek, MPEG program streams are some frames off; they are read from the front
TICK = 1e-6  # s: less than any container's clock resolves, more than a float loses
TRUNCATED = 0.2  # s that a file may end before the declared duration, which is often rough


class Decoded(NamedTuple):
    """One decoded frame: when it begins and ends, and whether all data that it depends on were there."""

    seconds: float
    until: float
    frame: Any  # an AudioFrame or a VideoFrame
    whole: bool


class Damage(NamedTuple):
    """Data that could not be decoded: the time of the first, and the reason."""

    seconds: float
    reason: str

    def __str__(self) -> str:
        return f"damaged at {self.seconds:.2f} s ({self.reason})"


class Reader:
    """The audio or the video of a file: the track of that kind with the number `track`, or else FFmpeg's choice.

    Raises MediaError when the file cannot be opened or has no such stream, and OSError for temporary faults.
    """

    def __init__(self, path: Path, kind: Kind, track: int | None = None) -> None:
        self.path, self.kind, self.track = path, kind, track
        self.began = time.thread_time()  # computing of this thread, so that a slow disk or a busy machine costs no clip
        self._open()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.container.close()

    @property
    def still(self) -> bool:
        """Whether the file is one image rather than a video."""
        return is_image(self.container)

    @property
    def notes(self) -> list[str]:
        """Which stream was chosen, where there are several."""
        count = len(getattr(self.container.streams, self.kind))
        return [f"{self.kind} of stream {self.stream.index}, one of {count}"] if count > 1 else []

    def read(self, at: float) -> Iterator[Decoded | Damage]:
        """The frames in order, from `at` seconds or earlier, with damage where it was met.

        Seeks where that helps, and further back where the file's index is wrong, so that the first frame is early enough
        whenever the file has one.  Where a seek is not exact, video before the last keyframe is read and not decoded.  Ends
        with a Damage when the data end before the declared duration.
        """
        if self.container.format.name in UNSEEKABLE:
            return self._read(None, at if self.kind == "video" else 0.0)
        for lead in LEADS[self.kind]:
            if at - lead <= NEAR:
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
        self.stream = pick_stream(self.container, self.kind, self.path, self.track)
        check_stream(self.path, self.stream, self.still)
        duration = self.container.duration
        check_times(self.path, start_of(self.container), None if duration is None else duration / av.time_base)

    def _read(self, begin: float | None, skip_to: float = 0.0) -> Iterator[Decoded | Damage]:
        """The frames after a seek to `begin`, from the first complete one on; without a seek all frames that `skip_to` needs."""
        stream, zero = self.stream, start_of(self.container)
        if begin is not None:
            try:
                self.container.seek(int((begin + zero) / stream.time_base), stream=stream)
            except FFmpegError:
                return  # no index: the caller tries without one
        whole = started = begin is None
        now = latest = begin or 0.0
        for packet in self._from_keyframe(skip_to) if skip_to > NEAR else self._packets():
            self._check_time()
            if stream.duration is None and isinstance(packet, Packet) and packet.pts is not None:
                latest = max(latest, float((packet.pts + (packet.duration or 0)) * packet.time_base) - zero)
            frames, reason = self._decode(packet)
            if reason:
                whole = (
                    whole and self.kind == "audio"
                )  # video frames are predicted from one another, audio frames hardly
                if started:
                    yield Damage(now, reason)
            for frame in frames:
                check_frame(self.path, frame, self.still)
                # AVI has no presentation times, and FFmpeg's guess is wrong between B-frames.
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
        if declared is not None and ended < declared - TRUNCATED:
            yield Damage(now, f"cut short: the file declares {declared:.2f} s")
        elif size := missing_bytes(self.path):
            yield Damage(now, f"cut short: {size} bytes fewer than the file declares")

    def _check_time(self) -> None:
        if time.thread_time() - self.began > COMPUTING:
            reason = f"its {self.kind} takes more than {COMPUTING:g} s of computing"
            raise MediaError(self.path, reason, "Cut or convert it.")

    def _packets(self) -> Iterator[Any]:
        """Packets of every stream to the end, or to the error that ends them."""
        try:
            yield from self.container.demux()
        except (OSError, FFmpegError) as error:
            raise_if_temporary(error, self.path)
            yield error

    def _from_keyframe(self, at: float) -> Iterator[Any]:
        """The packets from the last keyframe before the time `at` on."""
        early = at + start_of(self.container)
        waiting: list[Any] = []
        packets = self._packets()
        for packet in packets:
            waiting.append(packet)
            if not isinstance(packet, Packet):
                break
            if packet.stream is self.stream and packet.pts is not None:
                now = float(packet.pts * packet.time_base)
                if now > early:
                    break
                if packet.is_keyframe:
                    waiting = [packet]
        yield from waiting
        yield from packets

    def _decode(self, packet: Any) -> tuple[list[Any], str]:
        """The frames that a packet completes, and why there are none where there should be some."""
        try:
            if not isinstance(packet, Packet):
                return self.stream.decode(None), str(packet.strerror)
            if packet.stream is not self.stream:
                return [], ""
            if not packet.size and packet.dts is not None:
                return [], ""  # a dropped frame: the one before it stays
            if packet.is_corrupt:
                return [], "incomplete data"
            return packet.decode(), ""
        except FFmpegError as error:
            return [], str(error.strerror)

    def _declared(self) -> float | None:
        """When the stream, or else the file, should end as declared; None when nothing is declared."""
        stream, container = self.stream, self.container
        if self.still:
            return None
        if stream.duration is not None:
            return float((stream.duration + (stream.start_time or 0)) * stream.time_base) - start_of(container)
        return None if container.duration is None else container.duration / av.time_base


def _length(frame: Any, stream: Any) -> float:
    """The duration of a frame in seconds."""
    if isinstance(frame, AudioFrame):
        return frame.samples / frame.sample_rate
    if frame.duration:
        return float(frame.duration * frame.time_base)
    return float(1 / stream.average_rate) if stream.average_rate else 0.0
