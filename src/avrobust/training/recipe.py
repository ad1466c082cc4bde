"""How to train: optimiser, learning rates and their schedule, epochs, precision."""

from dataclasses import dataclass, replace
from math import cos, pi
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from avrobust.config import check_choices
from avrobust.engine import Precision
from avrobust.models.network import Network, Spec
from avrobust.seeds import Seeds
from avrobust.types import AV, Batch

OUR_RATES = AV(audio=2e-3, visual=2e-3)


@dataclass(frozen=True)
class Recipe:
    """A way to train a network; `Recipe()` is ours.  `name` is for display.

    76 s for an audio-visual network of width 32, on 1,100 clips of 64 pixels and 12,288 samples and two AVX2 cores.

    `lr` are the highest learning rates of the encoders, `lr_head` of the fusion and classifier; the schedule
    scales all of them alike.  An encoder with rate 0 is frozen: its weights stay, it drops out nothing, and its BatchNorm
    keeps its statistics.  `batch` counts the clips of one step over all processes.
    """

    name: str = "ours"
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd: momentum 0.9
    lr: AV[float] = OUR_RATES
    lr_head: float = 2e-3
    weight_decay: float = 0.05
    schedule: Literal["onecycle", "steps"] = "onecycle"
    warmup: float = 0.15  # onecycle: the share of training in which the rate rises
    drops: tuple[int, ...] = ()  # steps: the rate falls to a tenth after so many epochs
    epochs: int = 8
    head_first: int = 0  # epochs in which the encoders stay as they are, before all weights learn
    batch: int = 32
    precision: Precision = "auto"  # of the arithmetic (autocast); auto: bfloat16 where that is faster
    channels_last: bool = True  # memory layout; twice as fast on CPUs, the same results but for rounding

    def __post_init__(self) -> None:
        check_choices(self)
        if self.epochs < 1 or self.batch < 1:
            raise ValueError(
                f"expected 1 epoch and 1 clip a step at least, got {self.epochs} and {self.batch}. "
                "Leave --epochs out for the recipe's own number."
            )

    def factor(self, step: int, steps_per_epoch: int) -> float:
        """The factor of the learning rates in step `step` of the whole training.

        onecycle: from 1/25 up to 1 and down to 1/250,000 along half cosines, as `torch`'s OneCycleLR.

        >>> recipe = Recipe(schedule="steps", drops=(1, 2), epochs=3)
        >>> [round(recipe.factor(step, 2), 6) for step in range(6)]
        [1.0, 1.0, 0.1, 0.1, 0.01, 0.01]
        """
        if self.schedule == "steps":
            return 0.1 ** sum(step // steps_per_epoch >= drop for drop in self.drops)
        last = self.epochs * steps_per_epoch - 1
        peak = max(0.0, self.warmup * (last + 1) - 1)
        if step < peak:
            return _glide(1 / 25, 1.0, step / peak)
        return _glide(1.0, 1 / 250_000, (step - peak) / max(last - peak, 1))

    def for_epochs(self, epochs: int) -> "Recipe":
        """This recipe with another number of epochs; what happens after some epochs moves in proportion.

        Its drops never move to before the first epoch.

        >>> Recipe(schedule="steps", drops=(30, 60, 90), epochs=100).for_epochs(20).drops
        (6, 12, 18)
        """
        share = epochs / self.epochs
        drops = tuple(max(1, round(d * share)) for d in self.drops)
        return replace(self, epochs=epochs, drops=drops, head_first=round(self.head_first * share))

    def dtype(self, device: torch.device) -> torch.dtype:
        """The type of convolutions and matrix products; weights stay float32."""
        low = self.precision == "bfloat16" or (self.precision == "auto" and fast_bfloat16(device))
        return torch.bfloat16 if low else torch.float32

    def set_training(self, net: Network) -> None:
        """Put the network in training mode, except the encoders that are frozen."""
        net.train()
        for encoder, rate in zip(net.encoders or (), self.lr, strict=False):
            if rate == 0:
                encoder.eval().requires_grad_(False)

    def build_optimizer(self, net: Network) -> torch.optim.Optimizer:
        """The optimiser of the network's trainable weights: one group per encoder, and one for all others.

        The others are fusion and classifier, and what a feature defense learns.
        """
        weights = [p for p in net.parameters() if p.requires_grad]
        groups: list[dict[str, Any]] = []
        for encoder, rate in zip(net.encoders or (), self.lr, strict=False):
            its = set(encoder.parameters())
            groups.append({"params": [p for p in weights if p in its], "peak": rate})
            weights = [p for p in weights if p not in its]
        groups.append({"params": weights, "peak": self.lr_head})
        # One kernel for all weights of a group, where the device has it.
        fused = next(net.parameters()).device.type in ("cpu", "cuda")
        if self.optimizer == "sgd":
            return torch.optim.SGD(groups, lr=self.lr_head, momentum=0.9, weight_decay=self.weight_decay, fused=fused)
        return torch.optim.AdamW(groups, lr=self.lr_head, weight_decay=self.weight_decay, fused=fused)


OURS = Recipe()
# Pretrained encoders, which large steps would spoil: first a head that fits them (Kumar et al. 2022, "Fine-tuning can
# distort pretrained features and underperform out-of-distribution"), then all weights, the encoders' at a hundredth.
FINE_TUNE = Recipe(name="fine-tune", lr=AV(audio=2e-5, visual=2e-5), head_first=2)
# A pretrained visual encoder beside an audio encoder that starts from random weights; the former moves slowly.  float32: on
# CPUs, the weight gradients of depthwise convolutions are slow in bfloat16.
PRETRAINED_VISUAL = Recipe("pretrained-visual", lr=AV(audio=2e-3, visual=5e-4), epochs=6, precision="float32")


def usual(spec: Spec) -> Recipe:
    """The recipe for a network of which nothing else is asked: `FINE_TUNE` for a pair of pretrained encoders, else ours."""
    return FINE_TUNE if spec.fine_tunes else OURS


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Each group's learning rate: its highest one times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def cross_entropy(net: Network, batch: Batch, seeds: Seeds) -> Tensor:
    """The mean cross entropy of a batch: the default loss."""
    return F.cross_entropy(net(batch.x), batch.label)


def fast_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 run faster than in float32 here."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    # An old torch does not say: bool() is False.
    return device.type == "cpu" and getattr(torch.cpu, "_is_avx512_bf16_supported", bool)()


def _glide(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + cos(pi * share)) / 2
