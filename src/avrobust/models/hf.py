"""Any audio model beside any image or video model of `transformers`, as one two-stream network."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, PretrainedConfig, PreTrainedModel

from avrobust.models.configurations import described, made
from avrobust.models.frontends import (
    AudioFrontEnd,
    FrameSettings,
    MelSettings,
    VisualFrontEnd,
    WaveSettings,
    audio_settings,
    visual_settings,
)
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet, Spec, known, parts, refuse_few, weights_drawn_by
from avrobust.models.visual import fetch
from avrobust.types import AV

Modality = Literal["audio", "visual"]
Source: TypeAlias = str | Path | PretrainedConfig | PreTrainedModel

# Where models of two modalities (CLAP, CLIP, SigLIP, PE-AV) keep the tower of each.
TOWERS = {"audio": ("audio_model", "audio_encoder"), "visual": ("vision_model", "video_encoder")}
PROCESSORS = {"audio": AutoFeatureExtractor, "visual": AutoImageProcessor}


@dataclass(frozen=True)
class EncoderSettings:
    """An encoder that was built: all that making it again takes, but for its weights."""

    config: Mapping[str, Any]  # of `transformers`
    front_end: WaveSettings | MelSettings | FrameSettings
    pooled: bool
    width: int


@dataclass(frozen=True)
class PairSpec(Spec):
    """Two models of `transformers` as one two-stream network: `pair`, as settings.

    `audio` and `visual` are names on the model hub, or folders.  `rate` None is that of the clips it is trained on.
    `encoders`, of a network that was built, are what was found there: names and folders need not stay reachable.

    >>> PairSpec("MIT/ast-finetuned-audioset-10-10-0.4593", "google/vit-base-patch16-224-in21k").name
    'MIT/ast-finetuned-audioset-10-10-0.4593 + google/vit-base-patch16-224-in21k, concat'
    """

    audio: str | Path
    visual: str | Path
    fusion: str = "concat"
    frozen: bool = False
    rate: int | None = None
    classes: int | None = None
    encoders: AV[EncoderSettings] | None = field(default=None, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        refuse_few(self.classes)
        fusions = [name for name, kind in FUSIONS.items() if not kind.spatial]  # of one vector per clip and modality
        if self.fusion not in fusions:
            raise ValueError(f"expected a fusion of {', '.join(fusions)}, got '{self.fusion}'. Choose one of these.")

    @property
    def name(self) -> str:
        return f"{self.audio} + {self.visual}, {self.fusion}{', frozen' if self.frozen else ''}"

    def for_clips(self, classes: int, rate: int) -> "PairSpec":
        if self.rate not in (None, rate):
            raise ValueError(
                f"expected clips of {self.rate} samples a second, which the pair's front end is asked to take, got clips of "
                f"{rate}. Leave rate out of PairSpec, or prepare clips at that rate: ClipSpec(rate={self.rate})."
            )
        return replace(self, classes=classes, rate=rate)

    def build(self, seed: int) -> AVNet:
        return pair(
            self.audio, self.visual, classes=known(self.classes), rate=self._known_rate(), fusion=self.fusion,
            frozen=self.frozen, seed=seed,
        )  # fmt: skip

    def rebuild(self) -> AVNet:
        if self.encoders is None:
            raise ValueError("expected the settings of both encoders, got a pair that was not built yet")
        with weights_drawn_by(0):
            configs = self.encoders.map(lambda e: made(e.config))
            loaded = configs.map(
                lambda config, modality, e: Loaded(_tower(_random(config), modality), config, e.front_end, e.pooled),
                AV("audio", "visual"), self.encoders,
            )  # fmt: skip
            net = self.joined(loaded, self.encoders.map(lambda e: e.width))
        net.built_by(self)
        return net

    def joined(self, loaded: AV["Loaded"], widths: AV[int | None]) -> AVNet:
        """Both models behind their front ends, with a fusion and a classifier."""
        ends: AV[Any] = AV(
            audio=AudioFrontEnd(loaded.audio.front_end, self._known_rate()),
            visual=VisualFrontEnd(loaded.visual.front_end),
        )
        encoders: AV[nn.Module] = loaded.map(
            lambda model, end, width: Encoder(end, model, width, self.frozen), ends, widths
        )
        fusion = FUSIONS[self.fusion](encoders.map(lambda encoder: encoder.width))
        return AVNet(encoders, fusion, known(self.classes))

    def _known_rate(self) -> int:
        if self.rate is None:
            raise ValueError("expected the samples a second of the clips, got none. Give rate=...")
        return self.rate


def pair(
    audio: Source,
    visual: Source,
    *,
    classes: int,
    rate: int,
    fusion: str = "concat",
    processors: AV[Any] | None = None,
    frozen: bool = False,
    seed: int = 0,
) -> AVNet:
    """A two-stream network of two models of `transformers`, each behind its processor's front end.

    `audio` and `visual` are each a name on the model hub or a folder (with its weights and its processor), a configuration
    (random weights), or a model; the last two need their processor in `processors`.  Clips have `rate` samples a second.
    `frozen` encoders are not trained, only the fusion and the classifier.  Random weights depend on `seed` only.

    A checkpoint of it needs neither the hub nor the processors, if both models are as `AutoModel` makes them, of a type in
    `configurations.ENCODERS`.

    Raises OSError, saying what to do, where a name is neither here nor to be had, and `ValueError` where a processor is not
    known, does not fit its model, or the fusion does not fit the features.

    >>> from transformers import ASTConfig, ASTFeatureExtractor, ViTConfig, ViTImageProcessor
    >>> small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    >>> net = pair(
    ...     ASTConfig(**small, max_length=64),
    ...     ViTConfig(**small, image_size=32),
    ...     classes=10,
    ...     rate=16_000,
    ...     processors=AV(ASTFeatureExtractor(max_length=64), ViTImageProcessor(size={"height": 32, "width": 32})),
    ... )
    >>> net(AV(audio=torch.zeros(2, 8_000), visual=torch.zeros(2, 3, 3, 48, 64))).shape
    torch.Size([2, 10])
    """
    spec = PairSpec(_label(audio), _label(visual), fusion, frozen, rate, classes)
    with weights_drawn_by(seed):
        loaded = AV(audio, visual).map(_loaded, processors or AV(audio=None, visual=None), AV("audio", "visual"))
        net = spec.joined(loaded, AV(audio=None, visual=None))
    configs = loaded.map(lambda model: described(model.config))
    if None not in configs:
        encoders: AV[EncoderSettings] = loaded.map(
            lambda model, config, encoder: EncoderSettings(config, model.front_end, model.pooled, encoder.width),
            configs,
            net.encoders,
        )
        built = replace(spec, encoders=encoders)
        with torch.device("meta"):
            if parts(built.rebuild()) == parts(net):  # not so for a model of another head or without its pooler
                net.built_by(built)
    return net


@dataclass(frozen=True)
class Loaded:
    """A model of `transformers`, the configuration of the whole that it is of, and what its processor does.

    `pooled`: its `pooler_output` has weights that were trained with it.
    """

    model: PreTrainedModel
    config: PretrainedConfig
    front_end: Any
    pooled: bool = True


class Encoder(nn.Module):
    """A front end, a model of `transformers`, and one vector of what it returns.

    The vector is the `pooler_output`, or the mean of `last_hidden_state` where there is none or where its weights did not
    come with the others.  Image models see frame by frame; a clip's feature is the mean.  `width` None is learnt from a
    blank clip.
    """

    def __init__(
        self, front_end: AudioFrontEnd | VisualFrontEnd, loaded: Loaded, width: int | None = None, frozen: bool = False
    ) -> None:
        super().__init__()
        self.front_end = front_end
        self.backbone = loaded.model
        self.pooled = loaded.pooled
        self.frozen = frozen
        config = self.backbone.config
        self.of_images = front_end.settings.input == "pixel_values" and not hasattr(config, "num_frames")
        self.with_fusion = getattr(config, "enable_fusion", False)  # CLAP's; no clip is longer than it takes
        if hasattr(config, "apply_spec_augment"):
            config.apply_spec_augment = False  # masks from NumPy's global state, in training
        if frozen:
            self.backbone.requires_grad_(False)
        self.width = self._measured() if width is None else width

    @property
    def rate(self) -> int | None:
        """The samples a second of the clips that it takes; None for frames."""
        return self.front_end.rate if isinstance(self.front_end, AudioFrontEnd) else None

    def _measured(self) -> int:
        """The number of features of a blank clip."""
        frames = getattr(self.front_end.settings, "frames", None) or 1
        example = torch.zeros((1, self.rate) if self.rate else (1, frames, 3, 224, 224))
        self.eval()
        try:
            with torch.no_grad():
                return int(self(example).shape[1])
        except (AttributeError, ValueError, RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"expected a processor and a model that gives features of its output, got {self.front_end.settings} and "
                f"{type(self.backbone).__name__}, which fail together: {error} Give the processor that the model was trained "
                "with, and a model without a head: AutoModel."
            ) from error
        finally:
            self.train()

    def train(self, mode: bool = True) -> "Encoder":
        """As of every module; a frozen model stays as in evaluation, its dropout and statistics too."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b d"]:
        """Features of waveforms (b n) or of frames (b t 3 h w)."""
        x: Tensor = self.front_end(signal)
        out = self.backbone(
            **{self.front_end.settings.input: x.flatten(0, 1) if self.of_images else x},
            **({"is_longer": torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)} if self.with_fusion else {}),
        )
        pooled = getattr(out, "pooler_output", None) if self.pooled else None
        z: Tensor = out.last_hidden_state if pooled is None else pooled
        if pooled is not None:
            z = z.flatten(1)
        elif z.ndim == 4:  # (b d h w) of convolutions
            z = z.mean((2, 3))
        else:
            z = z.mean(1)
        return z.view(len(x), -1, z.shape[1]).mean(1) if self.of_images else z


def _loaded(source: Source, processor: Any, modality: Modality) -> Loaded:
    """The model and what its processor does; of a model of two modalities, this one's tower."""
    pooled = True
    if isinstance(source, str | Path):

        def load(name: str, **where: bool) -> tuple[PreTrainedModel, dict[str, Any], Any]:
            model, info = AutoModel.from_pretrained(
                name,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                dtype=torch.float32,
                **where,
            )
            own = processor or PROCESSORS[modality].from_pretrained(name, trust_remote_code=False, **where)
            return model, info, own

        model, info, processor = fetch(str(source), load, f"as {modality}, or give a configuration and a processor.")
        parameters, pooler = dict(model.named_parameters()), getattr(_tower(model, modality), "pooler", None)
        untrained = {id(parameters[name]) for name in info["missing_keys"] if name in parameters}
        pooled = pooler is None or not untrained & set(map(id, pooler.parameters()))
    elif processor is None:
        raise ValueError(
            f"expected a processor beside the {type(source).__name__}, got none. Give it as {modality} of `processors`, or "
            "give the name or the folder of a model."
        )
    else:
        model = source if isinstance(source, PreTrainedModel) else _random(source)
    tower = _tower(model, modality)
    if modality == "audio":
        return Loaded(tower, model.config, audio_settings(processor), pooled)
    return Loaded(tower, model.config, visual_settings(processor, getattr(tower.config, "num_frames", None)), pooled)


def _random(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a configuration, with random weights."""
    model: PreTrainedModel = AutoModel.from_config(config, trust_remote_code=False)
    return model


def _label(source: Source) -> str:
    """A name for a model: its own, or its class."""
    return (
        str(source) if isinstance(source, str | Path) else getattr(source, "name_or_path", "") or type(source).__name__
    )


def _tower(model: PreTrainedModel, modality: Modality) -> PreTrainedModel:
    if hasattr(model.config, "text_config"):
        tower = next((getattr(model, name) for name in TOWERS[modality] if hasattr(model, name)), None)
        if tower is None:
            raise ValueError(
                f"expected a model with a tower for {modality}, got {type(model).__name__}. Name a model of that modality."
            )
        return tower
    # Whisper and others that write text: what listens.
    return model.get_encoder() if model.config.is_encoder_decoder else model
