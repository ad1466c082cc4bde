"""What a file may declare and cost: generous for real files, and short of hours of computing or all memory."""

from pathlib import Path
from typing import Any

from av.audio.frame import AudioFrame

from avrobust.media.faults import MediaError

RATES = (1_000, 768_000)  # Hz
CHANNELS = 64
SHAPE = 64.0  # the longer side of a pixel, and of a picture as shown, over the shorter one: a wide panorama has 10
PICTURE = 1 << 28  # pixels of a photo
VIDEO = 1 << 26  # pixels of a video's frame, of which decoders hold up to 16: "8K" has half as many
FPS = 2_000  # frames a second on average; more tell of a damaged clock
SECONDS = 1e7  # that a file lasts, and a time in it: 16 weeks of a camera that records
EPOCH = 1e10  # s, a clock's start: some live recordings count from 1970
COMPUTING = 300.0  # s of one core for the sound or the picture of one clip

CONVERT = "Convert it with an editor that shows it right, or leave it out."


def check_stream(path: Path, stream: Any, still: bool) -> None:
    """Raise a MediaError for what no real file declares."""
    if stream.type == "audio":
        _check_sound(path, stream.rate or 0, stream.channels or 0)
        return
    _check_size(path, stream.width or 0, stream.height or 0, PICTURE if still else VIDEO)
    pixel = float(stream.sample_aspect_ratio or 1)
    if not 1 / SHAPE <= pixel <= SHAPE:
        declared = stream.sample_aspect_ratio
        shape = f"{declared.numerator}:{declared.denominator}"
        raise MediaError(path, f"its pixels are declared {shape}, beyond {SHAPE:g}:1", CONVERT)
    if stream.width and stream.height:
        shown = stream.width / stream.height * pixel
        if not 1 / SHAPE <= shown <= SHAPE:
            raise MediaError(path, f"its picture is shown {shown:.6g} times as wide as high, beyond {SHAPE:g}", CONVERT)
    if not still and stream.average_rate and not 0 <= stream.average_rate <= FPS:
        fps = float(stream.average_rate)
        raise MediaError(path, f"its picture declares {fps:.6g} frames a second, expected at most {FPS}", CONVERT)


def check_times(path: Path, begins: float, lasts: float | None) -> None:
    """Raise a MediaError for clocks that no real file has; in seconds."""
    if abs(begins) > EPOCH:
        raise MediaError(path, f"it declares that it begins at {begins:.3g} s", CONVERT)
    if lasts is not None and not 0 <= lasts <= SECONDS:
        raise MediaError(path, f"it declares a length of {lasts:.3g} s, expected at most {SECONDS:g} s", CONVERT)


def check_frame(path: Path, frame: Any, still: bool) -> None:
    """Raise a MediaError for a frame that is not as the file declared, and as none should be."""
    if isinstance(frame, AudioFrame):
        _check_sound(path, frame.sample_rate, frame.layout.nb_channels)
    else:
        _check_size(path, frame.width, frame.height, PICTURE if still else VIDEO)
        if not 1 / SHAPE <= frame.width / frame.height <= SHAPE:
            raise MediaError(path, f"it has a frame of {frame.width} x {frame.height} pixels", CONVERT)


def _check_sound(path: Path, rate: int, channels: int) -> None:
    if not RATES[0] <= rate <= RATES[1]:
        raise MediaError(path, f"its sound has {rate} Hz, expected {RATES[0]} to {RATES[1]} Hz", CONVERT)
    if not 1 <= channels <= CHANNELS:
        raise MediaError(path, f"its sound has {channels} channels, expected 1 to {CHANNELS}", CONVERT)


def _check_size(path: Path, width: int, height: int, most: int) -> None:
    if width * height > most:
        raise MediaError(
            path, f"its picture has {width} x {height} pixels, expected at most {most / 1e6:.0f} million", CONVERT
        )
