"""Any audio model beside any image or video model of `transformers`, as one two-stream network."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avrobust.models.configurations import described, made
from avrobust.models.encoder import Encoder, Loaded, Source, loaded_from, random_model, tower
from avrobust.models.frontends import AudioFrontEnd, FrameSettings, MelSettings, VisualFrontEnd, WaveSettings
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet, Spec, known, parts, refuse_few, weights_drawn_by
from avrobust.types import AV, NAMES


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
    def fine_tunes(self) -> bool:  # type: ignore[override]  # of a value, here
        return not self.frozen

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
                lambda config, modality, e: Loaded(tower(random_model(config), modality), config, e.front_end, e.pooled),
                NAMES, self.encoders,
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
        loaded = AV(audio, visual).map(loaded_from, processors or AV(audio=None, visual=None), NAMES)
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


def _label(source: Source) -> str:
    """A name for a model: its own, or its class."""
    return (
        str(source) if isinstance(source, str | Path) else getattr(source, "name_or_path", "") or type(source).__name__
    )
