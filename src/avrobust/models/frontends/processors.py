"""From a processor of `transformers` to the settings of its front end.  Knows each processor by its class name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from avrobust.models.configurations import transformers
from avrobust.models.frontends.audio import AudioFrontEnd, MelFilters, MelSettings, WaveSettings
from avrobust.models.frontends.visual import Filter, FrameSettings, VisualFrontEnd

S = TypeVar("S")

FILTERS: dict[int, Filter] = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers
VARIANTS = ("", "Pil", "Fast")  # one processor, by its backends
# Where a processor says what class it is, in its file.
TYPES = ("feature_extractor_type", "image_processor_type", "video_processor_type")


def audio_frontend(processor: Any, rate: int) -> AudioFrontEnd:
    """What a feature extractor does, for waveforms at `rate` Hz; its `settings` tell what was read.

    `processor` is one of `AUDIO`, a processor that has one, or the content of its `preprocessor_config.json`.  Each clip
    is treated as if it were the only one.  Largest difference from `transformers` 5.23 on 20 real clips of music and speech:

    | processor | largest difference | values |
    |---|---|---|
    | `ASTFeatureExtractor` (without torchaudio) | 1.2e-7 | -1.3 to 1.3 |
    | `ClapFeatureExtractor`, both truncations, all paddings | 7.7e-6 dB | -100 to 44 dB |
    | `Wav2Vec2FeatureExtractor` | 1.9e-6 | -21 to 23 |
    | `WhisperFeatureExtractor`, 80 and 128 bands (its own rounding: it computes in float32) | 7.4e-5 | -1.4 to 1.6 |
    | `PeAudioFeatureExtractor` | 0 | -1 to 1 |

    Raises `ValueError` for another processor, and where it draws at random (`dither`).  CLAP's front end raises it for
    clips longer than `max_length_s`, which both of the processor's truncations, "fusion" and "rand_trunc", crop at random.

    >>> from transformers import Wav2Vec2FeatureExtractor
    >>> audio_frontend(Wav2Vec2FeatureExtractor(), rate=16_000).settings
    WaveSettings(rate=16000, normalise=True, multiple=1, channel=False, input='input_values')
    """
    return AudioFrontEnd(audio_settings(processor), rate)


def visual_frontend(processor: Any, frames: int | None = None) -> VisualFrontEnd:
    """What an image or video processor does; `frames`: how many the encoder takes, where the processor does not say so.

    `processor` is one of `VISUAL`, a processor that has one, or the content of its `preprocessor_config.json`.  Processors
    round to 8 bits while they resize, which has no gradient; this does not.  Largest difference from `transformers` 5.23
    with Pillow on 20 real frames, in grey levels of 255: 1.11 where resizing is bicubic, 1.00 bilinear, 1e-4 without
    (upright frames: see `resize`).

    Raises `ValueError` for another processor, and where it does what `FrameSettings` cannot say.

    >>> visual_frontend({"image_processor_type": "ViTImageProcessor"}).settings.resize
    (224, 224)
    """
    return VisualFrontEnd(visual_settings(processor, frames))


def audio_settings(processor: Any) -> WaveSettings | MelSettings:
    """What `audio_frontend` reads from a processor."""
    return _settings(processor, AUDIO, "audio_frontend", ("feature_extractor",))


def visual_settings(processor: Any, frames: int | None = None) -> FrameSettings:
    """What `visual_frontend` reads from a processor."""
    settings = _settings(processor, VISUAL, "visual_frontend", ("image_processor", "video_processor"))
    return settings if frames is None else replace(settings, frames=frames)


def _ast(p: Any) -> MelSettings:
    return MelSettings(
        rate=p.sampling_rate, frame=400, hop=160, fft=512, kaldi=True,
        mel=MelFilters(p.num_mel_bins, 20, p.sampling_rate // 2, "kaldi"),
        frames=p.max_length, floor=1.192092955078125e-07, log=math.e,
        mean=p.mean if p.do_normalize else 0.0, std=2 * p.std if p.do_normalize else 1.0,
        input="input_values",
    )  # fmt: skip


def _clap(p: Any) -> MelSettings:
    fusion = _choice("truncation", p.truncation, {"fusion": True, "rand_trunc": False})
    bands = p.feature_size, p.frequency_min, p.frequency_max
    return MelSettings(
        rate=p.sampling_rate, frame=p.fft_window_size, hop=p.hop_length, fft=p.fft_window_size,
        mel=MelFilters(*bands, "htk") if fusion else MelFilters(*bands, "slaney", "slaney"),
        frames=p.nb_max_samples // p.hop_length + 1, floor=1e-10, log=10, decibels=10, copies=4 if fusion else 1,
        samples=p.nb_max_samples, cut=False,
        extend=_choice("padding", p.padding, {"repeatpad": "repeat whole", "repeat": "repeat", "pad": "silence"}),
    )  # fmt: skip


def _whisper(p: Any) -> MelSettings:
    if p.dither:
        raise ValueError(
            f"expected a WhisperFeatureExtractor without dither, got dither={p.dither}. Set it to 0: features that are "
            "drawn at random can be attacked, but the model's answers to them cannot be counted."
        )
    return MelSettings(
        rate=p.sampling_rate, frame=p.n_fft, hop=p.hop_length, fft=p.n_fft,
        mel=MelFilters(p.feature_size, 0.0, 8000.0, "slaney", "slaney"),
        frames=p.nb_max_frames, floor=1e-10, log=10, depth=8.0, mean=-4.0, std=4.0,
        samples=p.n_samples, layout="mel first",
    )  # fmt: skip


def _wav2vec2(p: Any) -> WaveSettings:
    return WaveSettings(rate=p.sampling_rate, normalise=p.do_normalize)


def _pe_audio(p: Any) -> WaveSettings:
    return WaveSettings(rate=p.sampling_rate, multiple=p.hop_length, channel=True)


def _frames(p: Any) -> FrameSettings:
    """Resize, centre crop, rescale, normalise: each if the processor does it."""

    def does(step: str) -> bool:
        return bool(getattr(p, f"do_{step}", None))

    if does("pad"):
        raise ValueError(
            f"expected a processor that does not pad, got {type(p).__name__} with do_pad. Set it to False, or pad frames "
            "in a module of your own before the encoder."
        )
    crop = dict(p.crop_size) if does("center_crop") else None
    return FrameSettings(
        resize=_size(p.size) if does("resize") else None,
        filter=_choice("resample", int(p.resample), FILTERS) if does("resize") else "bilinear",
        crop=(crop["height"], crop["width"]) if crop else None,
        scale=255 * (p.rescale_factor if does("rescale") else 1.0),
        mean=tuple(p.image_mean) if does("normalize") else (0.0, 0.0, 0.0),
        std=tuple(p.image_std) if does("normalize") else (1.0, 1.0, 1.0),
        frames=getattr(p, "num_frames", None) if does("sample_frames") else None,
    )


def _convnext(p: Any) -> FrameSettings:
    """Sizes below 384: resize to 1 / `crop_pct` of the size, then crop the centre; others: resize without keeping shapes."""
    settings, side = _frames(p), p.size["shortest_edge"]
    if settings.resize is None:
        return settings
    if side < 384:
        return replace(settings, resize=int(side / p.crop_pct), crop=(side, side))
    return replace(settings, resize=(side, side))


def _pe_video(p: Any) -> FrameSettings:
    return replace(_frames(p), both_ends=True, input="pixel_values_videos")


# By the class name of the processor: what reads its settings.
AUDIO: dict[str, Callable[[Any], WaveSettings | MelSettings]] = {
    "ASTFeatureExtractor": _ast,
    "ClapFeatureExtractor": _clap,
    "PeAudioFeatureExtractor": _pe_audio,
    "Wav2Vec2FeatureExtractor": _wav2vec2,
    "WhisperFeatureExtractor": _whisper,
}
VISUAL: dict[str, Callable[[Any], FrameSettings]] = {
    "BeitImageProcessor": _frames,
    "BitImageProcessor": _frames,  # of DINOv2
    "CLIPImageProcessor": _frames,
    "ConvNextImageProcessor": _convnext,  # of ResNet
    "DeiTImageProcessor": _frames,
    "PeVideoVideoProcessor": _pe_video,
    "SiglipImageProcessor": _frames,
    "VideoMAEImageProcessor": _frames,
    "VideoMAEVideoProcessor": _frames,
    "ViTImageProcessor": _frames,
}


def _settings(processor: Any, known: Mapping[str, Callable[[Any], S]], caller: str, parts: tuple[str, ...]) -> S:
    """What is read from the processor, or from that part of it which is one."""
    if isinstance(processor, Mapping):
        name = next((processor[key] for key in TYPES if key in processor), None)
    else:
        processor = next((part for key in parts if (part := getattr(processor, key, None)) is not None), processor)
        name = type(processor).__name__
    base = {known_as + variant: known_as for known_as in known for variant in VARIANTS}.get(str(name))
    if base is None:
        raise ValueError(
            f"expected a processor of {', '.join(known)}, got {name or type(processor).__name__}. Give {caller} one of these, "
            "or write the front end as a module of your own, signals in and the encoder's input out: "
            "nn.Sequential(front_end, encoder)."
        )
    if isinstance(processor, Mapping):
        # The backend of Pillow needs no torchvision; older releases have that one alone, without a suffix.
        kind = getattr(transformers(), f"{base}Pil", None) or getattr(transformers(), base)
        processor = kind(**{key: value for key, value in processor.items() if key not in TYPES})
    return known[base](processor)


def _choice(name: str, value: Any, known: Mapping[Any, S]) -> S:
    if value not in known:
        raise ValueError(
            f"expected {name} of {', '.join(map(repr, known))}, got {value!r}. Change it in the processor, or write the front "
            "end as a module of your own."
        )
    return known[value]


def _size(size: Any) -> int | tuple[int, int]:
    """The shorter side, or height and width."""
    sides = dict(size)
    if set(sides) == {"shortest_edge"}:
        return int(sides["shortest_edge"])
    if set(sides) == {"height", "width"}:
        return int(sides["height"]), int(sides["width"])
    raise ValueError(
        f"expected a size of shortest_edge, or of height and width, got {sides}. Change it in the processor, or write the "
        "front end as a module of your own."
    )
