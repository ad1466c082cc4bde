"""Networks from settings: `build` makes the network that a `NetSpec` describes."""

import json
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import nn
from transformers import PreTrainedModel

from avrobust.models.audio import Conv1dNet
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import Absent, AVNet
from avrobust.models.visual import FrameNet, from_config, pretrained, resnet18
from avrobust.seeds import stable_hash
from avrobust.types import AV


@dataclass(frozen=True)
class NetSpec:
    """The network of Tian & Xu 2021 and its relatives.

    >>> NetSpec(classes=11)
    NetSpec(classes=11, modality='AV', fusion='concat', visual_weights=None, width=64, classifier_std=0.01)
    """

    classes: int
    modality: Literal["AV", "A", "V"] = "AV"
    fusion: str = (
        "concat"  # a name in `FUSIONS`; a network of one modality has nothing to fuse, but may have spatial attention
    )
    visual_weights: str | None = None  # e.g. "microsoft/resnet-18"; None: random ResNet-18
    width: int = 64  # channels of the encoders' first stages; their features have 8 times as many
    classifier_std: float = 1e-2  # the published code starts its classifier from 1e-4

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(
                f"expected at least 2 classes, got {self.classes}. Pass the number of classes of the data."
            )
        # In channels-last memory, oneDNN's strided 1 x 1 convolutions write past their end where there are fewer
        # channels than its block of 8 (AVX2) or 16 (AVX-512): uxlfoundation/oneDNN issue 6035.
        if self.width < 1 or self.width % 16:
            raise ValueError(f"expected a width that is a multiple of 16, got {self.width}. Ask for 16, 32 or 64.")
        if self.fusion not in FUSIONS:
            raise ValueError(f"expected a fusion of {', '.join(FUSIONS)}, got '{self.fusion}'. Choose one of these.")
        spatial = self.modality == "V" and FUSIONS[self.fusion].spatial
        if self.modality != "AV" and self.fusion != "concat" and not spatial:
            raise ValueError(
                f"expected the fusion 'concat' in a network of one modality ({self.modality}), got '{self.fusion}'. "
                "Leave the fusion out: there is nothing to fuse. A visual-only network may have 'attention'."
            )


@dataclass(frozen=True, kw_only=True)
class BuiltSpec(NetSpec):
    """The `NetSpec` of a network that was built, with the settings of its image model.

    The weights named in a spec need not stay reachable.
    """

    backbone: dict[str, Any] | None  # of `transformers`; None: a network without video


def build(spec: NetSpec, seed: int) -> AVNet:
    """The network that `spec` describes, with random weights that depend on `seed` only.

    The global random state is neither used nor changed.

    >>> net = build(NetSpec(classes=11, modality="A"), seed=0)
    >>> count_parameters(net)
    1570251
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(seed, "network"))
        if "V" not in spec.modality:
            return _assemble(spec, None)
        return _assemble(spec, pretrained(spec.visual_weights) if spec.visual_weights else resnet18(spec.width))


def rebuild(spec: BuiltSpec) -> AVNet:
    """The network whose `AVNet.spec` this is, with weights yet to be loaded; fetches nothing.

    It may come from a stranger's file (`config.from_plain`): raises `ValueError` for settings of no image model.

    >>> net = build(NetSpec(classes=11, width=16), seed=0)
    >>> rebuild(net.spec).spec == net.spec
    True
    """
    if ("V" in spec.modality) != (spec.backbone is not None):
        raise ValueError(f"expected the settings of an image model for video only, got the modality {spec.modality}")
    with torch.random.fork_rng(devices=[]):
        return _assemble(spec, from_config(spec.backbone) if spec.backbone is not None else None)


def count_parameters(net: nn.Module) -> int:
    """The number of trainable weights."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)


def _assemble(spec: NetSpec, backbone: PreTrainedModel | None) -> AVNet:
    encoders: AV[nn.Module] = AV(
        audio=Conv1dNet(spec.width) if "A" in spec.modality else Absent(),
        visual=Absent() if backbone is None else FrameNet(backbone, spatial=FUSIONS[spec.fusion].spatial),
    )
    fusion = FUSIONS[spec.fusion](encoders.map(lambda encoder: encoder.width))
    config = json.loads(backbone.config.to_json_string()) if backbone is not None else None
    asked = {f.name: getattr(spec, f.name) for f in fields(NetSpec)}
    return AVNet(
        encoders, fusion, spec.classes, classifier_std=spec.classifier_std, spec=BuiltSpec(**asked, backbone=config)
    )
