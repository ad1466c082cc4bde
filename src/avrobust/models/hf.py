"""Any audio model beside any image or video model of `transformers`, as one two-stream network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoModel, PretrainedConfig, PreTrainedModel

from avrobust.models.frontends import AudioFrontEnd, VisualFrontEnd, audio_frontend, visual_frontend
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import AVNet
from avrobust.models.visual import fetch
from avrobust.seeds import stable_hash
from avrobust.types import AV

Modality = Literal["audio", "visual"]
Source: TypeAlias = str | Path | PretrainedConfig | PreTrainedModel

# Where models of two modalities (CLAP, CLIP, SigLIP, PE-AV) keep the tower of each.
TOWERS = {"audio": ("audio_model", "audio_encoder"), "visual": ("vision_model", "video_encoder")}
PROCESSORS = {"audio": AutoFeatureExtractor, "visual": AutoImageProcessor}


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
    fusions = [name for name, kind in FUSIONS.items() if not kind.spatial]  # of one vector per clip and modality
    if fusion not in fusions:
        raise ValueError(f"expected a fusion of {', '.join(fusions)}, got '{fusion}'. Choose one of these.")
    given = processors or AV(audio=None, visual=None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(seed, "network"))
        loaded = AV(audio, visual).map(_loaded, given, AV("audio", "visual"))
        frames = getattr(loaded.visual.model.config, "num_frames", None)
        encoders: AV[nn.Module] = AV(
            audio=Encoder(audio_frontend(loaded.audio.processor, rate), loaded.audio, torch.zeros(1, rate), frozen),
            visual=Encoder(
                visual_frontend(loaded.visual.processor, frames),
                loaded.visual,
                torch.zeros(1, frames or 1, 3, 224, 224),
                frozen,
            ),
        )
        return AVNet(encoders, FUSIONS[fusion](encoders.map(lambda encoder: encoder.width)), classes)


@dataclass(frozen=True)
class Loaded:
    """A model of `transformers` and its processor; `pooled`: its `pooler_output` has weights that were trained with it."""

    model: PreTrainedModel
    processor: Any
    pooled: bool = True


class Encoder(nn.Module):
    """A front end, a model of `transformers`, and one vector of what it returns.

    The vector is the `pooler_output`, or the mean of `last_hidden_state` where there is none or where its weights did not
    come with the others.  Image models see frame by frame; a clip's feature is the mean.  `example` is a clip: `width` is
    learnt from it.
    """

    def __init__(
        self, front_end: AudioFrontEnd | VisualFrontEnd, loaded: Loaded, example: Tensor, frozen: bool = False
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
        self.eval()
        try:
            with torch.no_grad():
                self.width = self(example).shape[1]
        except (AttributeError, ValueError, RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"expected a processor and a model that gives features of its output, got {front_end.settings} and "
                f"{type(self.backbone).__name__}, which fail together: {error} Give the processor that the model was trained "
                "with, and a model without a head: AutoModel."
            ) from error
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
    """The model and its processor; of a model of two modalities, this one's tower."""
    if isinstance(source, str | Path):

        def load(name: str, **where: bool) -> tuple[PreTrainedModel, dict[str, Any], Any]:
            model, info = AutoModel.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **where
            )
            own = processor or PROCESSORS[modality].from_pretrained(name, trust_remote_code=False, **where)
            return model, info, own

        model, info, processor = fetch(str(source), load, f"as {modality}, or give a configuration and a processor.")
        parameters, tower = dict(model.named_parameters()), _tower(model, modality)
        untrained = {id(parameters[name]) for name in info["missing_keys"] if name in parameters}
        pooler = getattr(tower, "pooler", None)
        return Loaded(tower, processor, pooled=pooler is None or not untrained & set(map(id, pooler.parameters())))
    if processor is None:
        raise ValueError(
            f"expected a processor beside the {type(source).__name__}, got none. Give it as {modality} of `processors`, or "
            "give the name or the folder of a model."
        )
    model = source if isinstance(source, PreTrainedModel) else AutoModel.from_config(source, trust_remote_code=False)
    return Loaded(_tower(model, modality), processor)


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
