"""Encodes arrays as `.mp4`, `.wav` and `.png` files.  Knows no labels and no models.

`encode_*` returns the file's bytes, `write_*` writes them.  A file is written under another name and then renamed, so
that a killed run or a full disk never leaves half a file.  The same arrays give the same bytes on every CPU.
"""

import io
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

from avrobust.files import write_bytes

# Sample rates of MPEG-4 AAC, in Hz.
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
# Without the middle two, swscale's shortcuts shift every colour by 1 to 2 of 255; the last: the same on every CPU.
SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
# Otherwise x264 encodes a frame differently from CPU to CPU, and with AVX-512 from call to call.
X264 = "cpu-independent=1"
BT709 = 1  # H.264's number for this colour space, in all three of its fields


def write_mp4(
    path: str | Path,
    wave: NDArray[Any],
    frames: NDArray[Any],
    rate: int,
    fps: float,
    *,
    crf: int = 18,
    preset: str = "veryfast",
    audio_bitrate: int = 128_000,
) -> Path:
    """Write a clip as an `.mp4` file (H.264 and AAC) that every player and browser opens; see `encode_mp4`.

    >>> import tempfile
    >>> wave, frames = np.zeros(8000, np.float32), np.zeros((4, 48, 64, 3), np.uint8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_mp4(Path(folder, "a.mp4"), wave, frames, rate=8000, fps=4.0).name
    'a.mp4'
    """
    data = encode_mp4(wave, frames, rate, fps, crf=crf, preset=preset, audio_bitrate=audio_bitrate)
    return write_bytes(path, data)


def write_wav(path: str | Path, wave: NDArray[Any], rate: int, *, float32: bool = False) -> Path:
    """Write audio as a mono `.wav` file; see `encode_wav`."""
    return write_bytes(path, encode_wav(wave, rate, float32=float32))


def write_png(path: str | Path, frame: NDArray[Any]) -> Path:
    """Write a frame as a `.png` file; see `encode_png`."""
    return write_bytes(path, encode_png(frame))


def encode_mp4(
    wave: NDArray[Any],
    frames: NDArray[Any],
    rate: int,
    fps: float,
    *,
    crf: int = 18,
    preset: str = "veryfast",
    audio_bitrate: int = 128_000,
    aac_coder: Literal["fast", "twoloop"] = "fast",
) -> bytes:
    """The bytes of an `.mp4` file with this audio and these frames; both begin at time 0.

    `wave` is (n,) in [-1, 1] at `rate` Hz, one of `AAC_RATES`; `frames` is (t, h, w, 3) RGB, uint8, or floating in
    [0, 1], which is rounded to 8 bits.  H.264 halves the resolution of colours and needs even sides: the last row or
    column of an odd side is repeated.  `crf` is x264's quality (0 lossless, 51 worst); `audio_bitrate` is in bits per
    second, limited by the sample rate.  `aac_coder` "twoloop" is FFmpeg's default, which follows a model of hearing and
    replaces noise by other noise; "fast" stays closer to the samples.  Uses one thread.

    Raises ValueError for other shapes, ranges and rates.

    >>> data = encode_mp4(np.zeros(8000, np.float32), np.zeros((4, 48, 64, 3), np.uint8), rate=8000, fps=4.0)
    >>> data[4:8]
    b'ftyp'
    """
    wave, frames = _wave(wave), _frames(frames)
    if rate not in AAC_RATES:
        raise ValueError(f"AAC carries {AAC_RATES} Hz, got {rate}. Resample the audio, or write it with write_wav.")
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps should be a positive number, got {fps}. Give the frames per second.")
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    # bitexact: no date and no version in the file, so that the same clip is the same bytes
    with av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as out:
        video = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": str(crf), "preset": preset, "flags": "+bitexact", "x264-params": X264}
        video.codec_context.thread_count = 1
        # Declared, because players otherwise guess from the size, and disagree.
        video.colorspace = video.color_primaries = video.color_trc = BT709
        video.color_range = ColorRange.MPEG
        audio = out.add_stream("aac", rate=rate, layout="mono")
        audio.bit_rate = min(audio_bitrate, 6 * rate)  # AAC's ceiling: 6144 bits per 1024 samples
        # "fast" is ten times as fast as the default, and 10 dB closer to the samples at these rates.
        # Without noise substitution, which would replace a faint perturbation by other noise of its loudness.
        pns = "0" if aac_coder == "fast" else "1"
        audio.options = {"flags": "+bitexact", "aac_coder": aac_coder, "aac_pns": pns}

        for number, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
                format="yuv420p",
                dst_colorspace="ITU709",
                dst_color_range="MPEG",
                interpolation=SCALER,
                threads=1,
            )
            frame.pts = number
            frame.time_base = 1 / video.codec_context.framerate
            out.mux(video.encode(frame))
        out.mux(video.encode())

        samples = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
        samples.rate, samples.pts, samples.time_base = rate, 0, Fraction(1, rate)
        out.mux(audio.encode(samples))
        out.mux(audio.encode())
    return file.getvalue()


def encode_wav(wave: NDArray[Any], rate: int, *, float32: bool = False) -> bytes:
    """The bytes of a mono `.wav` file: 16-bit PCM, or the exact samples with `float32`.

    `wave` is (n,) in [-1, 1], `rate` in Hz.  16 bits store round(32768 wave), at most 32767: the difference after reading
    is at most half a step (1.5e-5), and one step at +1.  Raises ValueError for other shapes and ranges.

    >>> encode_wav(np.zeros(4, np.float32), 8000)[:4]
    b'RIFF'
    """
    wave = _wave(wave)
    if not float32:
        wave = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    wavfile.write(file, rate, wave)
    return file.getvalue()


def encode_png(frame: NDArray[Any]) -> bytes:
    """The bytes of a `.png` file.  `frame` is (h, w, 3) RGB, uint8, or floating in [0, 1], which is rounded to 8 bits.

    Raises ValueError for other shapes and ranges.

    >>> encode_png(np.zeros((2, 3, 3)))[1:4]
    b'PNG'
    """
    file = io.BytesIO()
    Image.fromarray(_frames(frame[None])[0]).save(file, "PNG")
    return file.getvalue()


def _wave(wave: NDArray[Any]) -> NDArray[Any]:
    """`wave` as float32, if it is audio."""
    if wave.ndim != 1 or not len(wave) or wave.dtype.kind != "f":
        raise ValueError(
            f"audio should be floating, of shape (n,), n > 0, got {wave.dtype} {wave.shape}. Pass one clip, mono."
        )
    if not np.abs(wave).max() <= 1:  # also true of NaN
        raise ValueError(f"audio should lie in [-1, 1], got [{wave.min()}, {wave.max()}]. Scale or clip it first.")
    return wave.astype(np.float32)


def _frames(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """`frames` as uint8, if they are RGB."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(
            f"frames should be of shape (t, h, w, 3), none of them 0, got {frames.shape}. Put colours last."
        )
    if frames.dtype == np.uint8:
        return np.ascontiguousarray(frames)
    if frames.dtype.kind != "f" or not (frames.min() >= 0 and frames.max() <= 1):
        raise ValueError(
            f"frames should be uint8, or floating in [0, 1], got {frames.dtype} in [{frames.min()}, {frames.max()}]. "
            "Undo the normalisation first."
        )
    return np.round(frames * 255).astype(np.uint8)
