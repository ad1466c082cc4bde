"""What a clip is after a lossy codec: arrays in, the same arrays as a player has them out."""

import io
from itertools import chain
from typing import Any

import av
import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from avrobust.media.encode import encode_mp4
from avrobust.media.picture import SCALER

# AAC's frame. Silence of that length goes after the sound: a container counts its length in milliseconds, and what
# is shorter than one would be cut off.
FRAME = 1024


def through_mp4(
    wave: NDArray[Any], frames: NDArray[Any], rate: int, fps: float, *, crf: int = 23, audio_bitrate: int = 64_000
) -> tuple[Float32[np.ndarray, " n"], UInt8[np.ndarray, "t h w 3"]]:
    """Sound and picture after H.264 and AAC: as long, as large and on the same clock as what was put in.

    Arguments as for `encode_mp4`; AAC as FFmpeg writes it when nobody asks for more.  It begins with 1024 samples that
    nobody should hear; the file says so, and they are skipped.  Nothing is written to disk.

    >>> wave, frames = np.zeros(5, np.float32), np.zeros((1, 3, 5, 3), np.uint8)
    >>> [x.shape for x in through_mp4(wave, frames, 8000, 4.0)]
    [(5,), (1, 3, 5, 3)]
    """
    longer = np.pad(wave, (0, FRAME))
    data = encode_mp4(longer, frames, rate, fps, crf=crf, audio_bitrate=audio_bitrate, aac_coder="twoloop")
    with av.open(io.BytesIO(data)) as file:
        heard = [frame.to_ndarray()[0] for frame in _decoded(file, file.streams.audio[0])]
    with av.open(io.BytesIO(data)) as file:
        shown = _decoded(file, file.streams.video[0])
        seen = [frame.to_ndarray(format="rgb24", interpolation=SCALER) for frame in shown]
    high, wide = frames.shape[1:3]
    return np.concatenate(heard)[: len(wave)].clip(-1, 1), np.stack(seen)[:, :high, :wide]


def _decoded(file: Any, stream: Any) -> Any:
    """Every frame of a stream."""
    stream.codec_context.thread_count = 1  # clips are so short that threads cost more than they bring
    return chain.from_iterable(packet.decode() for packet in file.demux(stream))
