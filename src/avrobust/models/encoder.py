"""One model of `transformers` behind its processor's front end: signals in, one vector per clip out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor, nn

from avrobust.models.configurations import PretrainedConfig, PreTrainedModel, transformers, with_weights
from avrobust.models.frontends import AudioFrontEnd, VisualFrontEnd, audio_settings, visual_settings
from avrobust.models.visual import fetch

Modality = Literal["audio", "visual"]
Source: TypeAlias = str | Path | PretrainedConfig | PreTrainedModel

PROCESSORS = {"audio": "AutoFeatureExtractor", "visual": "AutoImageProcessor"}
# Where models of two modalities (CLAP, CLIP, SigLIP, PE-AV) keep the tower of each.
TOWERS = {"audio": ("audio_model", "audio_encoder"), "visual": ("vision_model", "video_encoder")}


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
        return self.with_segments(signal)[0]

    def with_segments(self, signal: Float[Tensor, "b ..."]) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b s d"]]:
        """The features, and those of each frame; of a model that sees a clip whole, of one segment."""
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
        parts = z.view(len(x), -1, z.shape[1]) if self.of_images else z[:, None]
        return parts.mean(1) if self.of_images else z, parts


def loaded_from(source: Source, processor: Any, modality: Modality) -> Loaded:
    """The model and what its processor does; of a model of two modalities, this one's tower."""
    pooled = True
    if isinstance(source, str | Path):

        def load(name: str, **where: bool) -> tuple[PreTrainedModel, dict[str, Any], Any]:
            model, info = with_weights(name, output_loading_info=True, **where)
            own = processor or getattr(transformers(), PROCESSORS[modality]).from_pretrained(
                name, trust_remote_code=False, **where
            )
            return model, info, own

        model, info, processor = fetch(str(source), load, f"as {modality}, or give a configuration and a processor.")
        parameters, pooler = dict(model.named_parameters()), getattr(tower(model, modality), "pooler", None)
        untrained = {id(parameters[name]) for name in info["missing_keys"] if name in parameters}
        pooled = pooler is None or not untrained & set(map(id, pooler.parameters()))
    elif processor is None:
        raise ValueError(
            f"expected a processor beside the {type(source).__name__}, got none. Give it as {modality} of `processors`, or "
            "give the name or the folder of a model."
        )
    else:
        model = source if isinstance(source, transformers().PreTrainedModel) else random_model(source)
    part = tower(model, modality)
    if modality == "audio":
        return Loaded(part, model.config, audio_settings(processor), pooled)
    return Loaded(part, model.config, visual_settings(processor, getattr(part.config, "num_frames", None)), pooled)


def random_model(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a configuration, with random weights."""
    return transformers().AutoModel.from_config(config, trust_remote_code=False)


def tower(model: PreTrainedModel, modality: Modality) -> PreTrainedModel:
    if hasattr(model.config, "text_config"):
        part = next((getattr(model, name) for name in TOWERS[modality] if hasattr(model, name)), None)
        if part is None:
            raise ValueError(
                f"expected a model with a tower for {modality}, got {type(model).__name__}. Name a model of that modality."
            )
        return part
    # Whisper and others that write text: what listens.
    return model.get_encoder() if model.config.is_encoder_decoder else model
