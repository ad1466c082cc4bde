"""What a file may declare and cost: generous for real files, yet far from hours of computing or all of the memory."""

from pathlib import Path
from typing import Any

from av.audio.frame import AudioFrame

from avrobust.media.errors import CONVERT, MediaError

SAMPLE_RATES = (1_000, 768_000)  # Hz
CHANNELS = 64
ASPECT = 64.0  # longer over shorter side, of a pixel and of a frame as shown: a wide panorama has 10
IMAGE_PIXELS = 1 << 28
FRAME_PIXELS = 1 << 26  # of a video, of which decoders hold up to 16 frames: "8K" has half as many
FPS = 2_000  # frames a second on average; more is a damaged clock
SECONDS = 1e7  # the longest file, and the latest time in it: a camera that records for 16 weeks
EPOCH = 1e10  # s, where a file's clock may start: some live recordings count from 1970
COMPUTING = 300.0  # s of one core for the audio or the video of one clip


def check_stream(path: Path, stream: Any, still: bool) -> None:
    """Raise MediaError for what no real file declares; `still` says that the file is one image."""
    if stream.type == "audio":
        _check_audio(path, stream.rate or 0, stream.channels or 0)
        return
    _check_size(path, stream.width or 0, stream.height or 0, still)
    pixel = float(stream.sample_aspect_ratio or 1)
    if not 1 / ASPECT <= pixel <= ASPECT:
        ratio = stream.sample_aspect_ratio
        reason = (
            f"its pixels have an aspect ratio of {ratio.numerator}:{ratio.denominator}, expected at most {ASPECT:g}:1"
        )
        raise MediaError(path, reason, CONVERT)
    if stream.width and stream.height:
        shown = stream.width / stream.height * pixel
        if not 1 / ASPECT <= shown <= ASPECT:
            reason = f"its frames have an aspect ratio of {shown:.6g}, expected 1/{ASPECT:g} to {ASPECT:g}"
            raise MediaError(path, reason, CONVERT)
    if not still and stream.average_rate and not 0 <= stream.average_rate <= FPS:
        fps = float(stream.average_rate)
        raise MediaError(path, f"its video declares {fps:.6g} frames a second, expected at most {FPS}", CONVERT)


def check_times(path: Path, start: float, duration: float | None) -> None:
    """Raise MediaError for a start and a duration (in seconds) that no real file declares."""
    if abs(start) > EPOCH:
        raise MediaError(path, f"it declares a start at {start:.3g} s, expected at most {EPOCH:g} s", CONVERT)
    if duration is not None and not 0 <= duration <= SECONDS:
        raise MediaError(path, f"it declares a duration of {duration:.3g} s, expected at most {SECONDS:g} s", CONVERT)


def check_frame(path: Path, frame: Any, still: bool) -> None:
    """Raise MediaError for a decoded frame beyond the bounds, whatever the file declared."""
    if isinstance(frame, AudioFrame):
        _check_audio(path, frame.sample_rate, frame.layout.nb_channels)
    else:
        _check_size(path, frame.width, frame.height, still)
        if not 1 / ASPECT <= frame.width / frame.height <= ASPECT:
            raise MediaError(path, f"it has a frame of {frame.width} x {frame.height} pixels", CONVERT)


def _check_audio(path: Path, rate: int, channels: int) -> None:
    low, high = SAMPLE_RATES
    if not low <= rate <= high:
        raise MediaError(path, f"its audio has {rate} Hz, expected {low} to {high} Hz", CONVERT)
    if not 1 <= channels <= CHANNELS:
        raise MediaError(path, f"its audio has {channels} channels, expected 1 to {CHANNELS}", CONVERT)


def _check_size(path: Path, width: int, height: int, still: bool) -> None:
    most = IMAGE_PIXELS if still else FRAME_PIXELS
    if width * height > most:
        reason = f"its frames have {width} x {height} pixels, expected at most {most / 1e6:.0f} million"
        raise MediaError(path, reason, CONVERT)
