"""Decodes files to arrays and encodes arrays to files, with FFmpeg through PyAV.  Knows no labels, no models."""

from avrobust.media.decode import Clip, decode
from avrobust.media.encode import (
    encode_mp4,
    encode_png,
    encode_wav,
    write_mp4,
    write_png,
    write_wav,
)
from avrobust.media.errors import MediaError
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
    "write_mp4",
    "write_png",
    "write_wav",
]
