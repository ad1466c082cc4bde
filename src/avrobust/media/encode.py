"""Arrays become files: `.mp4`, `.wav`, `.png`.  Knows codecs, no labels and no models.

Each format has two verbs: `encode_*` gives the file's bytes, `write_*` puts them under a name.  A file is
written whole under another name and then renamed, so that a killed run or a full disk never leaves half a file.
The same arrays give the same bytes, call after call and on every CPU.
"""

import io
import os
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation
from numpy.typing import NDArray
from PIL import Image
from scipy.io import wavfile

# What MPEG-4 AAC can carry.
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350)
# Without the middle two, swscale's shortcuts shift every colour by 1 to 2 of 255; the last: the same on every CPU.
SCALER = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP | Interpolation.BITEXACT
# Else x264's code differs from CPU to CPU in what it makes of a frame, and with AVX-512 from call to call.
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
    """A clip as an `.mp4` file (H.264 and AAC) that every player and browser opens; see `encode_mp4`."""
    data = encode_mp4(wave, frames, rate, fps, crf=crf, preset=preset, audio_bitrate=audio_bitrate)
    return write_bytes(path, data)


def write_wav(path: str | Path, wave: NDArray[Any], rate: int, *, float32: bool = False) -> Path:
    """A sound as a mono `.wav` file; see `encode_wav`."""
    return write_bytes(path, encode_wav(wave, rate, float32=float32))


def write_png(path: str | Path, frame: NDArray[Any]) -> Path:
    """A frame as a `.png` file; see `encode_png`."""
    return write_bytes(path, encode_png(frame))


def write_bytes(path: str | Path, data: bytes) -> Path:
    """`data` under the name `path`, whole or not at all.  Makes the folders it needs.  An OSError names the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:  # a write that fails, as on a full disk, does not say where
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)
    return path


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
    """The bytes of an `.mp4` file with this sound and these frames; both begin at time 0.

    `wave` is (n,) in [-1, 1] at `rate` Hz, one of `AAC_RATES`; `frames` is (t, h, w, 3) RGB, uint8, or
    floating in [0, 1], which is rounded to 8 bits.  H.264 halves the colour's resolution and wants even sides:
    an odd side gets its last row or column once more.  `crf` is x264's quality (0 lossless, 51 worst);
    `audio_bitrate` in bits per second, as far as the rate allows.  `aac_coder` "twoloop" is FFmpeg's own choice, which
    hears like a person and puts noise in place of noise; "fast" stays closer to the samples.  One thread: encode clips
    side by side instead.
    """
    wave, frames = _wave(wave), _frames(frames)
    if rate not in AAC_RATES:
        raise ValueError(f"AAC carries {AAC_RATES} Hz, got {rate}. Resample the sound, or write_wav it.")
    if not 0 < fps < float("inf"):
        raise ValueError(f"fps should be a positive number, got {fps}. Say how many frames are shown per second.")
    frames = np.pad(frames, ((0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)), mode="edge")
    file = io.BytesIO()
    # bitexact: no date and no version in the file, so that the same clip is the same bytes
    with av.open(file, "w", format="mp4", container_options={"fflags": "+bitexact"}) as out:
        video = out.add_stream("libx264", rate=Fraction(fps).limit_denominator(100_000))
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.options = {"crf": str(crf), "preset": preset, "flags": "+bitexact", "x264-params": X264}
        video.codec_context.thread_count = 1
        # Said outright: where it is not, players guess from the size and disagree.
        video.colorspace = video.color_primaries = video.color_trc = BT709
        video.color_range = ColorRange.MPEG
        audio = out.add_stream("aac", rate=rate, layout="mono")
        audio.bit_rate = min(audio_bitrate, 6 * rate)  # AAC's ceiling: 6144 bits per 1024 samples
        # "fast" is not the lesser search here: ten times as quick as the default, and 10 dB closer at these rates.
        # No noise substitution with it: that would replace a faint perturbation by another of its loudness.
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

        sound = av.AudioFrame.from_ndarray(wave[None], "fltp", "mono")
        sound.rate, sound.pts, sound.time_base = rate, 0, Fraction(1, rate)
        out.mux(audio.encode(sound))
        out.mux(audio.encode())
    return file.getvalue()


def encode_wav(wave: NDArray[Any], rate: int, *, float32: bool = False) -> bytes:
    """The bytes of a mono `.wav` file: 16-bit PCM, or the very samples with `float32`.

    `wave` is (n,) in [-1, 1].  16 bits: round(32768 wave), at most 32767, so that reading gives at most half a
    step (1.5e-5) of difference, and a whole one at +1.
    """
    wave = _wave(wave)
    if not float32:
        wave = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    file = io.BytesIO()
    wavfile.write(file, rate, wave)
    return file.getvalue()


def encode_png(frame: NDArray[Any]) -> bytes:
    """The bytes of a `.png` file.  `frame` is (h, w, 3) RGB, uint8, or floating in [0, 1], which is rounded to 8 bits."""
    file = io.BytesIO()
    Image.fromarray(_frames(frame[None])[0]).save(file, "PNG")
    return file.getvalue()


def _wave(wave: NDArray[Any]) -> NDArray[Any]:
    """`wave` as float32, if it is a sound."""
    if wave.ndim != 1 or not len(wave) or wave.dtype.kind != "f":
        raise ValueError(
            f"a sound should be floating, of shape (n,), n > 0, got {wave.dtype} {wave.shape}. Pass one clip, mono."
        )
    if not np.abs(wave).max() <= 1:  # also true of NaN
        raise ValueError(f"a sound should lie in [-1, 1], got [{wave.min()}, {wave.max()}]. Scale or clip it first.")
    return wave.astype(np.float32)


def _frames(frames: NDArray[Any]) -> NDArray[np.uint8]:
    """`frames` as uint8, if they are RGB pictures."""
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
