"""Files become arrays and arrays become files.  Knows codecs (FFmpeg, through PyAV); no labels, no models."""

from avrobust.media.encode import (
    encode_mp4,
    encode_png,
    encode_wav,
    write_bytes,
    write_mp4,
    write_png,
    write_wav,
)
from avrobust.media.spec import ClipSpec

__all__ = [
    "ClipSpec",
    "encode_mp4",
    "encode_png",
    "encode_wav",
    "write_bytes",
    "write_mp4",
    "write_png",
    "write_wav",
]
