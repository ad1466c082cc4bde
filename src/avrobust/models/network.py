"""The audio-visual network and its parts: embed, feature defense, fuse, classify.  Knows no particular encoder, and no attack."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from avrobust.models.fusion import Attention, Fusion
from avrobust.seeds import Seeds
from avrobust.types import AV, Batch, Signals


class AVNet(nn.Module):
    """An audio-visual model: one encoder per modality, a feature defense, a fusion, one linear layer.

    `forward(x)` is `classify(fuse(feature_defense(embed(x))))`; defenses and the attack engine work between these steps.
    `feature_defense` is any module from features to features, an identity by default.  An audio-only or visual-only
    network is the same class with an `Absent` encoder for the other modality.  The classifier starts from
    N(0, `classifier_std`) and zero bias.

    `spec` says how to build the network again: `zoo.build` sets it and a checkpoint carries it; None for a network that
    was put together by hand.

    >>> import torch
    >>> from avrobust.models import NetSpec, build
    >>> net = build(NetSpec(classes=3, width=16), seed=0).eval()
    >>> x = AV(audio=torch.zeros(2, 4096), visual=torch.zeros(2, 1, 3, 32, 32))
    >>> net.embed(x).audio.shape, net(x).shape
    (torch.Size([2, 128]), torch.Size([2, 3]))
    """

    def __init__(
        self,
        encoders: AV[nn.Module],
        fusion: Fusion,
        classes: int,
        *,
        classifier_std: float = 1e-2,
        spec: Any = None,
    ) -> None:
        super().__init__()
        self.audio = encoders.audio
        self.visual = encoders.visual
        self.feature_defense: nn.Module = nn.Identity()
        self.fusion = fusion
        self.classifier = nn.Linear(fusion.width, classes)
        nn.init.normal_(self.classifier.weight, std=classifier_std)
        nn.init.zeros_(self.classifier.bias)
        self.spec = spec

    @property
    def classes(self) -> int | None:
        """The number of classes; None where the network does not say."""
        return self.classifier.out_features

    @property
    def encoders(self) -> AV[nn.Module]:
        """The encoder of each modality."""
        return AV(audio=self.audio, visual=self.visual)

    def embed(self, x: Signals) -> AV[Tensor]:
        """The features of each modality: (b d), or a map (b d t h w) for a fusion with spatial attention."""
        return self.encoders.map(lambda encoder, signal: encoder(signal), x)

    def represent(self, x: Signals) -> AV[Tensor]:
        """The features behind the feature defense, from which the model decides."""
        f: AV[Tensor] = self.feature_defense(self.embed(x))
        return f

    def fuse(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """The fused features."""
        z: Tensor = self.fusion(f)
        return z

    def classify(self, z: Float[Tensor, "b d"]) -> Float[Tensor, "b k"]:
        """Logits of the fused features."""
        logits: Tensor = self.classifier(z)
        return logits

    def decide(self, f: AV[Tensor]) -> Float[Tensor, "b k"]:
        """Logits of features as `represent` gives them."""
        return self.classify(self.fuse(f))

    def heat(self, f: AV[Tensor]) -> Float[Tensor, "b t h w"] | None:
        """The attention weights for features as `represent` gives them; None for a fusion without attention."""
        return self.fusion.heat(f) if isinstance(self.fusion, Attention) else None

    def forward(self, x: Signals) -> Float[Tensor, "b k"]:
        """Logits of the clips."""
        return self.decide(self.represent(x))


class Absent(nn.Module):
    """The encoder of a modality that the network does not have: features of width 0."""

    width = 0

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b 0"]:
        """Features of width 0, one row per clip."""
        return signal.new_zeros((len(signal), 0))


# What training minimises: one number for the batch.  The seeds name the clips, for losses that draw random numbers.
# A loss may have two more methods: `at_progress(share)` is the loss when that share of the steps is done, in [0, 1), and
# `training_batch(net, batch, seeds)` is the batch that the loss trains on in the end, on which validation is made too.
Loss = Callable[[AVNet, Batch, Seeds], Tensor]


def loss_at_progress(loss: Loss, share: float) -> Loss:
    """The loss when this share of the steps is done; a loss that does not change is returned as it is."""
    changing: Callable[[float], Loss] | None = getattr(loss, "at_progress", None)
    return loss if changing is None else changing(share)


def training_batch(loss: Loss, net: AVNet, batch: Batch, seeds: Seeds) -> Batch:
    """The batch that the loss trains on; a loss that changes no clips gets the batch itself."""
    change: Callable[[AVNet, Batch, Seeds], Batch] | None = getattr(loss, "training_batch", None)
    return batch if change is None else change(net, batch, seeds)
