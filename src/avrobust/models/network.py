"""The two-stream network and its seam: embed, feature defense, fuse, classify.  Knows no particular encoder, and no attacks."""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from avrobust.models.fusion import Attention, Fusion
from avrobust.seeds import Seeds
from avrobust.types import AV, Batch, Signals


class AVNet(nn.Module):
    """Sound and picture in, logits out: one encoder per modality, a fusion, one linear layer.

    `forward(x)` is `classify(fuse(feature_defense(embed(x))))`; defenses and the attack engine work between these.  `feature_defense`
    is what a defense puts between the encoders and the fusion, features in and features out; nothing by default.
    A network that only hears, or only sees, is the same class with an `Absent` encoder on the other side.
    The classifier starts from N(0, `classifier_std`) and zero bias.  `spec` says how to build the network
    again: `zoo.build` gives it, a checkpoint carries it; None if the network was put together by hand.
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
        """How many classes it tells apart; None where the network does not say."""
        return self.classifier.out_features

    @property
    def encoders(self) -> AV[nn.Module]:
        """The encoder of each modality."""
        return AV(audio=self.audio, visual=self.visual)

    def embed(self, x: Signals) -> AV[Tensor]:
        """What each encoder makes of its modality: (b d), or a map (b d t h w) where the fusion looks at places."""
        return self.encoders.map(lambda encoder, signal: encoder(signal), x)

    def represent(self, x: Signals) -> AV[Tensor]:
        """The features that the decision is made from: `embed`, and what the feature defense makes of it."""
        f: AV[Tensor] = self.feature_defense(self.embed(x))
        return f

    def fuse(self, f: AV[Tensor]) -> Float[Tensor, "b d"]:
        """Both features as one."""
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
        """Where the network looks, of features as `represent` gives them; None for a fusion without attention."""
        return self.fusion.heat(f) if isinstance(self.fusion, Attention) else None

    def forward(self, x: Signals) -> Float[Tensor, "b k"]:
        """Logits of the clips."""
        return self.decide(self.represent(x))


class Absent(nn.Module):
    """The encoder of a modality that the network does not have: features of width 0."""

    width = 0

    def forward(self, signal: Float[Tensor, "b ..."]) -> Float[Tensor, "b 0"]:
        """Nothing, once per clip."""
        return signal.new_zeros((len(signal), 0))


# What training pushes DOWN: one number for the batch.  The seeds name the clips, for losses that draw.
# A loss may have two methods more.  `at(progress)` is the loss when that share of the steps is done, in [0, 1).
# `clips(net, batch, seeds)` is the batch as the loss in the end trains on it: what validation is made of, too.
Loss = Callable[[AVNet, Batch, Seeds], Tensor]


def loss_at(loss: Loss, progress: float) -> Loss:
    """The loss when this share of the steps is done; itself, where it does not change."""
    at: Callable[[float], Loss] | None = getattr(loss, "at", None)
    return loss if at is None else at(progress)


def loss_clips(loss: Loss, net: AVNet, batch: Batch, seeds: Seeds) -> Batch:
    """The batch as the loss trains on it; itself, where it changes no clips."""
    clips: Callable[[AVNet, Batch, Seeds], Batch] | None = getattr(loss, "clips", None)
    return batch if clips is None else clips(net, batch, seeds)
