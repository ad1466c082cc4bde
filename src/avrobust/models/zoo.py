"""The package's own networks, from settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from avrobust.config import check_choices
from avrobust.models.audio import Conv1dNet
from avrobust.models.configurations import PreTrainedModel, described
from avrobust.models.fusion import FUSIONS
from avrobust.models.network import Absent, AVNet, Modality, Spec, known, refuse_few, weights_drawn_by
from avrobust.models.visual import FrameNet, from_config, pretrained, resnet18
from avrobust.types import AV


@dataclass(frozen=True)
class NetSpec(Spec):
    """The network of Tian & Xu 2021 and its relatives.

    `backbone` are the settings of the image model, with its `model_type`; None: those of the weights, or a ResNet-18.  Given
    without weights, they are of a model with random ones.  A network that was built has them in its spec: the weights that
    a spec names need not stay reachable.

    >>> NetSpec(classes=11)
    NetSpec(classes=11, modality='AV', fusion='concat', visual_weights=None, width=64, classifier_std=0.01)
    >>> net = NetSpec(classes=11, modality="A").build(seed=0)
    >>> count_parameters(net), net.spec.rebuild().spec == net.spec
    (1570251, True)
    """

    classes: int | None = None
    modality: Modality = "AV"
    fusion: str = (
        "concat"  # a name in `FUSIONS`; a network of one modality has nothing to fuse, but may have spatial attention
    )
    visual_weights: str | None = None  # e.g. "microsoft/resnet-18"; None: random ones
    width: int = 64  # channels of the encoders' first stages; their features have 8 times as many
    classifier_std: float = 1e-2  # the published code starts its classifier from 1e-4
    backbone: Mapping[str, Any] | None = field(default=None, repr=False, kw_only=True)  # of `transformers`

    def __post_init__(self) -> None:
        refuse_few(self.classes)
        check_choices(self)
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

    @property
    def localises(self) -> bool:  # type: ignore[override]  # of a value, here
        return FUSIONS[self.fusion].spatial

    @property
    def name(self) -> None:
        """It is one of the package's own."""

    def for_clips(self, classes: int, rate: int) -> "NetSpec":
        return replace(self, classes=classes)

    def build(self, seed: int) -> AVNet:
        with weights_drawn_by(seed):
            if "V" not in self.modality:
                return self._assemble(None)
            if self.visual_weights:
                return self._assemble(pretrained(self.visual_weights))
            return self._assemble(resnet18(self.width) if self.backbone is None else from_config(self.backbone))

    def rebuild(self) -> AVNet:
        if ("V" in self.modality) != (self.backbone is not None):
            raise ValueError(
                f"expected the settings of an image model for video only, got the modality {self.modality}"
            )
        with weights_drawn_by(0):
            return self._assemble(from_config(self.backbone) if self.backbone is not None else None)

    def _assemble(self, backbone: PreTrainedModel | None) -> AVNet:
        encoders: AV[nn.Module] = AV(
            audio=Conv1dNet(self.width) if "A" in self.modality else Absent(),
            visual=Absent() if backbone is None else FrameNet(backbone, spatial=self.localises),
        )
        fusion = FUSIONS[self.fusion](encoders.map(lambda encoder: encoder.width))
        net = AVNet(encoders, fusion, known(self.classes), classifier_std=self.classifier_std)
        net.built_by(replace(self, backbone=backbone and described(backbone.config)))
        return net


def count_parameters(net: nn.Module) -> int:
    """The number of trainable weights."""
    return sum(p.numel() for p in net.parameters() if p.requires_grad)
