"""What the processors of `transformers` do before an encoder, differentiable: signals in, an encoder's input out.

A processor's own configuration says how: `audio_frontend(processor, rate)`, `visual_frontend(processor)`.  An attack then
moves the waveform and the frames themselves, and its budget keeps its physical meaning.
"""

from avrobust.models.frontends.audio import AudioFrontEnd, MelFilters, MelSettings, Resample, WaveSettings
from avrobust.models.frontends.processors import (
    AUDIO,
    VISUAL,
    audio_frontend,
    audio_settings,
    visual_frontend,
    visual_settings,
)
from avrobust.models.frontends.visual import FrameSettings, VisualFrontEnd, centre_crop, resize, sample_frames

__all__ = [
    "AUDIO",
    "VISUAL",
    "AudioFrontEnd",
    "FrameSettings",
    "MelFilters",
    "MelSettings",
    "Resample",
    "VisualFrontEnd",
    "WaveSettings",
    "audio_frontend",
    "audio_settings",
    "centre_crop",
    "resize",
    "sample_frames",
    "visual_frontend",
    "visual_settings",
]
