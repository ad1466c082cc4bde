"""A clip as a player decodes it after lossy compression; in memory, nothing is written to disk."""

import io
from itertools import chain
from typing import Any

import av
import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from avrobust.media.encode import encode_mp4
from avrobust.media.video import SCALER

# Samples of an AAC frame.  One of silence follows the audio: a container counts durations in milliseconds, and would
# cut off the last fraction of one.
FRAME = 1024


def through_mp4(
    wave: NDArray[Any], frames: NDArray[Any], rate: int, fps: float, *, crf: int = 23, audio_bitrate: int = 64_000
) -> tuple[Float32[np.ndarray, " n"], UInt8[np.ndarray, "t h w 3"]]:
    """Audio and frames after H.264 and AAC, of the same shapes and on the same clock as before.

    Arguments as for `encode_mp4`, with FFmpeg's default AAC coder.  AAC's first 1024 samples are padding, which is
    skipped.  Returns `wave` as float32 (n,) in [-1, 1] and `frames` as uint8 (t, h, w, 3).

    >>> wave, frames = np.zeros(5, np.float32), np.zeros((1, 3, 5, 3), np.uint8)
    >>> [x.shape for x in through_mp4(wave, frames, 8000, 4.0)]
    [(5,), (1, 3, 5, 3)]
    """
    longer = np.pad(wave, (0, FRAME))
    data = encode_mp4(longer, frames, rate, fps, crf=crf, audio_bitrate=audio_bitrate, aac_coder="twoloop")
    with av.open(io.BytesIO(data)) as file:
        audio = [frame.to_ndarray()[0] for frame in _decoded(file, file.streams.audio[0])]
    with av.open(io.BytesIO(data)) as file:
        video = _decoded(file, file.streams.video[0])
        images = [frame.to_ndarray(format="rgb24", interpolation=SCALER) for frame in video]
    high, wide = frames.shape[1:3]
    return np.concatenate(audio)[: len(wave)].clip(-1, 1), np.stack(images)[:, :high, :wide]


def _decoded(file: Any, stream: Any) -> Any:
    """Every frame of a stream."""
    stream.codec_context.thread_count = 1  # clips are so short that more threads would be slower
    return chain.from_iterable(packet.decode() for packet in file.demux(stream))
