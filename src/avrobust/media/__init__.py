"""Files become arrays and arrays become files.  Knows codecs (FFmpeg, through PyAV); no labels, no models."""

from avrobust.media.decode import Clip, MediaError, decode
from avrobust.media.encode import (
    encode_mp4,
    encode_png,
    encode_wav,
    write_bytes,
    write_mp4,
    write_png,
    write_wav,
)
from avrobust.media.probe import AudioStream, Probe, VideoStream, probe
from avrobust.media.spec import ClipSpec

__all__ = [
    "AudioStream",
    "Clip",
    "ClipSpec",
    "MediaError",
    "Probe",
    "VideoStream",
    "decode",
    "encode_mp4",
    "encode_png",
    "encode_wav",
    "probe",
    "write_bytes",
    "write_mp4",
    "write_png",
    "write_wav",
]
