"""Configurations of `transformers` models as plain data, and back: the file that holds them may be a stranger's.

Known types and their own settings only, in every part: a configuration can name code to run (`auto_map`,
`attn_implementation`), weights to fetch (`use_timm_backbone`) and sizes that never end.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeAlias

import torch

from avrobust.config import brief
from avrobust.extras import needs

# Of `transformers`, which is imported where a model is made, not where one is named: that takes seconds.
PretrainedConfig: TypeAlias = Any
PreTrainedModel: TypeAlias = Any

# Image models with a pooled output: their code is in `transformers` or here.
IMAGES = (
    "resnet", "regnet", "convnext", "convnextv2", "vit", "deit", "dinov2", "swin", "beit",
    "clip_vision_model", "siglip_vision_model", "efficientnet-lite",
)  # fmt: skip
# The encoders of a pair: their processors have a front end.
ENCODERS = (
    "audio-spectrogram-transformer", "clap", "data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat",
    "wav2vec2", "wav2vec2-conformer", "wavlm", "whisper",
    *IMAGES, "bit", "clip", "data2vec-vision", "dinov2_with_registers", "siglip", "siglip2", "siglip2_vision_model", "swinv2",
    "timesformer", "videomae", "vit_msn",
)  # fmt: skip
# Entries that change no number, or would change what a call returns: left out.
NOTES = {
    "_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id",
    "problem_type", "return_dict", "output_attentions", "output_hidden_states",
}  # fmt: skip
MOST_LAYERS = 1_000  # more than anyone can wait for


def described(config: PretrainedConfig) -> dict[str, Any] | None:
    """A configuration as plain data; None for a model of no type in `ENCODERS`."""
    told = json.loads(config.to_json_string())
    return known_settings(told, ENCODERS) if told.get("model_type") in ENCODERS else None


def known_settings(told: Mapping[str, Any], types: Collection[str]) -> dict[str, Any]:
    """The settings that models of this type have, in all their parts.  Raises `ValueError` for a type not in `types`."""
    kind = told.get("model_type")
    if kind not in types:
        raise ValueError(f"expected a model of type {', '.join(types)}, got {brief(repr(kind), 60)}")
    return _own(told, type(transformers().AutoConfig.for_model(kind)))


def made(told: Mapping[str, Any], types: Collection[str] = ENCODERS) -> PretrainedConfig:
    """The configuration that was `described`.  Raises `ValueError` for a type not in `types`, and for other settings."""
    own = known_settings(told, types)
    if unknown := sorted({key for key in told if told[key] != own.get(key)} - NOTES):
        raise ValueError(
            f"expected the settings of a {told['model_type']}, got {brief(', '.join(map(repr, unknown)))} among them"
        )
    for key, count in _counts(own):
        if not 0 < count <= MOST_LAYERS:
            raise ValueError(f"expected 1 to {MOST_LAYERS} layers, got {brief(repr(key), 60)} {count}")
    return transformers().AutoConfig.for_model(**own)


def transformers() -> Any:
    """The package `transformers`, which then also knows the type of model that this package adds."""
    with needs("models"):
        import transformers as package

        from avrobust.models import efficientnet  # noqa: F401
    return package


def with_weights(name: str, **options: Any) -> Any:
    """The model `name` as `AutoModel` has it: in float32, also where its weights are stored in less; no code beside them is run."""
    return transformers().AutoModel.from_pretrained(
        name, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, **options
    )


def _own(told: Mapping[str, Any], kind: type[PretrainedConfig]) -> dict[str, Any]:
    """The settings that configurations of this class have."""
    usual, inside = set(kind().to_dict()) - NOTES | {"model_type"}, kind.sub_configs
    return {
        key: _own(value, inside[key]) if key in inside and isinstance(value, Mapping) else value
        for key, value in told.items()
        if key in usual
    }


def _counts(told: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """All numbers of layers, by their settings' names."""
    for key, value in told.items():
        if isinstance(value, Mapping):
            yield from _counts(value)
        elif "layers" in key or key == "depths":
            of_stages = value if isinstance(value, list) else [value]
            if all(isinstance(n, int) for n in of_stages):
                yield key, sum(of_stages)
