"""Small media files with known contents, for the tests of decoding and encoding."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

RATE = 44100
FPS = 25


def grey(levels: Iterable[int], height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """Frames of one grey each."""
    return np.array(list(levels), dtype=np.uint8)[:, None, None, None] * np.ones((height, width, 3), np.uint8)


def tone(hertz: float, seconds: float, rate: int = RATE) -> NDArray[Any]:
    """Half of full scale, from a rising zero."""
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def clicks_and_flashes(seconds: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """In the middle of each second a click, and two white frames that begin with it."""
    wave = np.zeros(seconds * RATE)
    frames = grey([16] * (seconds * FPS))
    burst = np.hanning(RATE // 200) * np.sin(2 * np.pi * 3000 * np.arange(RATE // 200) / RATE)  # 5 ms at 3 kHz
    for second in range(seconds):
        middle = second * RATE + RATE // 2
        wave[middle - len(burst) // 2 : middle - len(burst) // 2 + len(burst)] = 0.9 * burst
        first = second * FPS + (FPS + 1) // 2  # at 0.52 s: the next frame after the click
        frames[first : first + 2] = 235
    return wave, frames


def mux(
    path: Path,
    video: str | None,
    audio: str | None,
    wave: NDArray[Any],
    frames: NDArray[np.uint8],
    *,
    container: str | None = None,
    rate: int = RATE,
    times: list[float] | None = None,
    options: dict[str, str] | None = None,
    late: float = 0.0,
    gap: tuple[float, float] = (0.0, 0.0),
    turn: tuple[float, bool, bool] | None = None,
    aspect: Fraction | int = 1,
    gop: int = 12,
    title: str = "",
) -> Path:
    """A file with these codecs; `times` are the frames' (default: `FPS`), `late` delays the sound, and
    `gap` (from, for) leaves some out; in seconds."""
    clock = Fraction(1, 1000 if times else FPS)
    with av.open(str(path), "w", format=container) as out:
        streams = []
        if title:
            out.metadata["title"] = title
        if video:
            picture = out.add_stream(video, rate=FPS, options=options or {})
            picture.height, picture.width = frames.shape[1:3]
            picture.pix_fmt, picture.gop_size = "yuv420p", gop
            picture.codec_context.time_base = clock
            picture.codec_context.sample_aspect_ratio = aspect
            picture.bit_rate = 2_000_000
            if turn:
                picture.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
            streams.append(picture)
        if audio:
            sound = out.add_stream(audio, rate=rate, layout="mono")
            streams.append(sound)
        packets: list[Any] = []
        if video:
            for number, pixels in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
                frame.pts, frame.time_base = (round(times[number] * 1000) if times else number), clock
                packets += picture.encode(frame)
            packets += picture.encode()
        if audio:
            heard = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), "fltp", "mono")
            heard.sample_rate = rate
            convert = av.AudioResampler(
                sound.codec_context.format, "mono", rate, frame_size=sound.codec_context.frame_size or 1024
            )
            at = round(late * rate)
            for part in [*convert.resample(heard), *convert.resample(None)]:
                missing = round(gap[1] * rate) if at >= gap[0] * rate else 0
                part.pts, part.time_base = at + missing, Fraction(1, rate)
                at += part.samples
                packets += sound.encode(part)
            packets += sound.encode()
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            out.mux(packet)
    return path


def white(frames: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The numbers of the bright frames."""
    return np.flatnonzero(frames.mean(axis=(1, 2, 3)) > 128)


def peak(wave: NDArray[Any], rate: int) -> float:
    """When the loudest 20 ms of a sound are, in seconds: the centre of their energy."""
    energy = wave.astype(np.float64) ** 2
    about = int(np.convolve(energy, np.ones(rate // 100), "same").argmax())
    near = np.arange(max(0, about - rate // 100), min(len(wave), about + rate // 100))
    return float((near * energy[near]).sum() / energy[near].sum() / rate)
