"""PCL, prototype conformity loss: each clip near the centre of its class, far from the others (Mustafa et al., ICCV 2019).

The paper and its code differ: the code squares the distances, leaves out those between centres, keeps two sets of
centres, and weighs the terms 1 and 1e-4.  Tian & Xu 2021 compare with it and do not say which one; their code holds
two left-over learning rates.  Both are here by name.  Adaptive attacks are known to break it; it is here because
it is in the paper's Table 3.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avrobust.config import check_choices
from avrobust.models.network import Network
from avrobust.seeds import Seeds
from avrobust.types import AV, Batch, Signals


@dataclass(frozen=True)
class PCL:
    """Cross entropy plus prototype conformity of the fused features.

    `form` "code": `attract` x |f - c_y|^2 - `repel` x mean over others |f - c_j|^2.  "paper", eq. 5 of Mustafa et
    al.: `attract` x (|f - w_y| - mean over others (|f - w_j| + |w_y - w_j|)).  Means over the batch.

    Other than in their code: one set of centres instead of two; one layer, the fused features, instead of two; and
    `attract` is 1e-2 instead of 1, as the squared distance of 512 features that nobody normalised dwarfs the cross
    entropy.  The centres are buffers, not weights: they follow half the gradient of the first term with a learning
    rate of their own (`rate`, 0.5 as in their code, whose centres take the whole gradient and so move twice as far a step),
    and start from the class means of the first clips.
    """

    form: Literal["code", "paper"] = "code"
    attract: float = 1e-2
    repel: float = 1e-4
    rate: float = 0.5

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"PCL, {self.form} form"

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch, one number; in training mode the centres are updated."""
        if not isinstance(net.feature_defense, Centres):
            raise ValueError(
                "expected a network with centres for PCL, got one without. Set net.feature_defense = Centres.of(net, clips)."
            )
        z, logits = net.fuse_and_classify(net.represent(batch.x))
        loss = F.cross_entropy(logits, batch.label)
        z = z.float()
        if net.training:
            net.feature_defense.begin(z.detach(), batch.label)
        centres = net.feature_defense.centres.clone()  # the graph keeps these; `follow` moves the others
        if self.form == "code":
            far = torch.cdist(z, centres).square()
        else:
            far = torch.cdist(z, centres) + torch.cdist(centres, centres)[batch.label]
        own = F.one_hot(batch.label, len(centres)).bool()
        near = (
            (z - centres[batch.label]).square().sum(1)
            if self.form == "code"
            else (z - centres[batch.label]).norm(dim=1)
        )
        unseen = net.feature_defense.begun == 0  # a centre that no clip has placed yet repels nobody
        others = far.masked_fill(own | unseen, 0).sum(1) / (len(centres) - 1)
        if net.training:
            net.feature_defense.follow(z.detach(), batch.label, self.rate)
        repel = self.repel if self.form == "code" else self.attract
        return loss + self.attract * near.mean() - repel * others.mean()


@dataclass(frozen=True)
class Prototypes:
    """Settings without choices: gives a network its `Centres`, as `ExFMem` gives it a memory."""

    def fill(self, net: Network, clips: Iterable[Batch], seed: int) -> "Centres":
        """Centres for this network, to be placed in training."""
        return Centres.of(net, next(iter(clips)).x)


class Centres(nn.Module):
    """A feature defense that does not change features; it holds one centre (d) per class for the loss."""

    centres: Tensor
    begun: Tensor

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes, self.width = classes, width
        self.register_buffer("centres", torch.zeros(classes, width))
        self.register_buffer("begun", torch.zeros(classes))

    @classmethod
    @torch.inference_mode(False)
    @torch.no_grad()
    def of(cls, net: Network, clips: Signals) -> "Centres":
        """Centres for this network's classes and fused features, of which a clip shows the number."""
        training = net.training
        net.eval()  # which leaves BatchNorm's statistics as they are
        z, logits = net.fuse_and_classify(net.represent(clips.map(lambda s: s[:1])))
        net.train(training)
        return cls(logits.shape[1], z.shape[1])

    def forward(self, f: AV[Tensor]) -> AV[Tensor]:
        """The features themselves."""
        return f

    @torch.no_grad()
    def begin(self, z: Tensor, label: Tensor) -> None:
        """Place centres without clips so far at the mean of their class in this batch."""
        for k in sorted(set(label.tolist())):
            if not self.begun[k]:
                self.centres[k], self.begun[k] = z[label == k].mean(0), 1

    @torch.no_grad()
    def follow(self, z: Tensor, label: Tensor, rate: float) -> None:
        """One step of gradient descent on the batch's mean of |z - c_y|^2 / 2."""
        pull = torch.zeros_like(self.centres).index_add_(0, label, z - self.centres[label])
        self.centres += rate * pull / len(z)
