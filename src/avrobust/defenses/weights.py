"""Adversarial weight perturbation: a loss at weights that are moved against it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from avrobust.attacks.base import at_rate
from avrobust.models.network import Loss, Network, loss_at_progress, training_batch
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.types import Batch


@dataclass(frozen=True)
class WeightsAttacked:
    """`loss` where the weights are moved against it, each layer's by `size` of its length (AWP; Wu, Xia & Wang, NeurIPS 2020).

    The move is one step along the gradient of the loss on the same clips; vectors, such as biases and scales, stay.  A
    minimum that is flat in the weights is flat in the inputs of clips that were not trained on, too.  The gradient that
    training follows is the one at the moved weights.  Where `loss` attacks clips, it attacks them at either weights; the
    authors attack once, at the weights themselves.  A step takes twice as long.

    >>> from avrobust import Threat
    >>> from avrobust.defenses import Recombined
    >>> WeightsAttacked(Recombined(Threat.linf(audio=0.01, visual="4/255"))).name
    'adversarial, recombined, PGD-1, weights attacked'
    """

    loss: Loss
    size: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.size < 1:
            raise ValueError(
                f"expected a size in (0, 1), got {self.size}. It is a share of the length of a layer's weights."
            )

    @property
    def name(self) -> str:
        """Display name."""
        return f"{display_name(self.loss)}, weights attacked"

    def at_rate(self, rate: int) -> "WeightsAttacked":
        """The same for clips of this sampling rate, in Hz, which `training.train` fills in."""
        return replace(self, loss=at_rate(self.loss, rate))

    def at_progress(self, progress: float) -> Loss:
        """The loss when this share of training is done."""
        return replace(self, loss=loss_at_progress(self.loss, progress))

    def training_batch(self, net: Network, batch: Batch, seeds: Seeds) -> Batch:
        """The batch that the loss trains on."""
        return training_batch(self.loss, net, batch, seeds)

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch at the moved weights, one number; its gradient is the one there."""
        whole = _Lost(net, self.loss)
        weights = {name: p for name, p in whole.named_parameters() if p.requires_grad}
        unseen = {name: b.clone() for name, b in whole.named_buffers()}  # running statistics do not see this look
        _, slopes = _value_and_grad(whole, weights, unseen, batch, seeds)
        moved = {
            name: w + self.size * w.norm() * g / g.norm().clamp_min(1e-12) if w.ndim > 1 else w
            for (name, w), g in zip(weights.items(), slopes, strict=True)
        }
        value, slopes = _value_and_grad(whole, moved, {}, batch, seeds)
        # As large as the loss, and with its gradient at the moved weights.
        still = [((w - w.detach()) * g).sum() for w, g in zip(weights.values(), slopes, strict=True)]
        return value + torch.stack(still).sum()


class _Lost(nn.Module):
    """Network and loss as one module, whose weights can be others for one call."""

    def __init__(self, net: Network, loss: Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, batch: Batch, seeds: Seeds) -> Tensor:
        return self.loss(self.net, batch, seeds)


def _value_and_grad(
    whole: _Lost, weights: Mapping[str, Tensor], buffers: dict[str, Tensor], batch: Batch, seeds: Seeds
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss at other weights, which are leaves: what attacks clips inside holds them without gradients for a while."""
    leaves: dict[str, Any] = {name: nn.Parameter(w.detach().clone()) for name, w in weights.items()}
    value = functional_call(whole, leaves | buffers, (batch, seeds))
    # Of a layer that the loss does not use, 0.
    return value.detach(), torch.autograd.grad(value, list(leaves.values()), materialize_grads=True)
