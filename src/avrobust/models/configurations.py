"""Configurations of `transformers` models as plain data, and back: the file that holds them may be a stranger's.

Known types and their own settings only, in every part: a configuration can name code to run (`auto_map`,
`attn_implementation`), weights to fetch (`use_timm_backbone`) and sizes that never end.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from transformers import AutoConfig, PretrainedConfig

from avrobust.config import brief
from avrobust.models.visual import MOST_LAYERS, NOTES
from avrobust.models.visual import TYPES as IMAGES

AUDIO = (
    "audio-spectrogram-transformer", "clap", "data2vec-audio", "hubert", "sew", "sew-d", "unispeech", "unispeech-sat",
    "wav2vec2", "wav2vec2-conformer", "wavlm", "whisper",
)  # fmt: skip
VISUAL = (
    *IMAGES, "bit", "clip", "data2vec-vision", "dinov2_with_registers", "siglip", "siglip2", "siglip2_vision_model", "swinv2",
    "timesformer", "videomae", "vit_msn",
)  # fmt: skip
TYPES = AUDIO + VISUAL


def described(config: PretrainedConfig) -> dict[str, Any] | None:
    """A configuration as plain data; None for a model of no type in `TYPES`."""
    told = json.loads(config.to_json_string())
    return _own(told, type(config)) if told.get("model_type") in TYPES else None


def made(told: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration that was `described`.  Raises `ValueError` for any other."""
    kind = told.get("model_type")
    if kind not in TYPES:
        raise ValueError(f"expected an encoder of {', '.join(TYPES)}, got {brief(repr(kind), 60)}")
    config = AutoConfig.for_model(kind)
    if _own(told, type(config)) != told:
        raise ValueError(f"expected the settings of a {kind}, got {brief(told)}, with others among them")
    for key, count in _counts(told):
        if not 0 < count <= MOST_LAYERS:
            raise ValueError(f"expected 1 to {MOST_LAYERS} layers, got {brief(repr(key), 60)} {count}")
    found: PretrainedConfig = AutoConfig.for_model(**told)
    return found


def _own(told: Mapping[str, Any], kind: type[PretrainedConfig]) -> dict[str, Any]:
    """The settings that configurations of this class have, in its parts too."""
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
            for count in value if isinstance(value, list) else [value]:
                if isinstance(count, int) and not isinstance(count, bool):
                    yield key, count
