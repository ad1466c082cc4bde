"""Attacked-modality-aware prediction: a model that falls back on the modality that it trusts."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from avrobust.defenses.detection import Detection, Features, Learned, Watch
from avrobust.defenses.embedded import embedded
from avrobust.models.network import Network
from avrobust.types import AV, Batch

ODD_ONE_OUT = Learned()


@dataclass(frozen=True)
class Gate:
    """Replaces the features of a modality that looks attacked by their mean over training clips, in proportion.

    The share is sigmoid(`sharpness` x suspicion), times what is trusted of the other modality: where both look attacked,
    nothing is gained by losing both.  `detection` makes the detector.  A network that has been trained on clips that miss a
    modality decides well from what is left; the gate is then a router between an audio-visual, an audio-only and a
    visual-only expert that share their weights.  Gradients go through detector and gate, so that every attack on the model
    is one on both; adaptive attacks also go around them, as around any feature defense.

    Tian & Xu 2021 name such models as future work; odd-one-out gating is of Yang et al., CVPR 2021.
    """

    detection: Detection = ODD_ONE_OUT
    sharpness: float = 2.0

    def __post_init__(self) -> None:
        if not self.sharpness > 0:
            raise ValueError(f"expected a sharpness above 0, got {self.sharpness}. Give 2, for example.")

    @torch.inference_mode(False)
    def fill(self, net: Network, clips: Iterable[Batch], seed: int) -> "Gated":
        """The gate of this network, in evaluation mode and without a feature defense, by its training clips."""
        clips = list(clips)
        known = embedded(net, clips)
        detector, f = self.detection.fit(net, clips, known, seed), known.features
        gate = Gated(detector, f.audio.shape[1], f.visual.shape[1], self.sharpness).to(f.audio.device)
        gate.mean_audio.copy_(f.audio.mean(0))
        gate.mean_visual.copy_(f.visual.mean(0))
        return gate.eval()


class Gated(Watch):
    """The feature defense of `Gate`: a detector, and what stands for a modality that is not trusted."""

    mean_audio: Tensor
    mean_visual: Tensor

    def __init__(self, detector: nn.Module, audio: int, visual: int, sharpness: float) -> None:
        super().__init__(detector)
        self.audio, self.visual, self.sharpness = audio, visual, sharpness
        self.register_buffer("mean_audio", torch.zeros(audio))
        self.register_buffer("mean_visual", torch.zeros(visual))

    def left_out(self, f: Features) -> AV[Tensor]:
        """The share of each modality that is replaced, (b) each in [0, 1]."""
        a, v = (torch.sigmoid(self.sharpness * s) for s in self.suspicion(f))
        return AV(audio=a * (1 - v), visual=v * (1 - a))

    def forward(self, f: Features) -> Features:
        """Features shaped as `f`, less of what is suspicious."""
        means = AV(audio=self.mean_audio, visual=self.mean_visual)
        return self.plain(f).map(lambda s, share, mean: s + share[:, None] * (mean - s), self.left_out(f), means)
