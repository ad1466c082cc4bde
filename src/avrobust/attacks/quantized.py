"""Attacks whose result survives a lossless file: 8 bits per colour, 16 bits per sample.

A perturbation of a third of a grey level exists in memory and in no file.  Rounding a frame to 8 bits either removes it or
moves the pixel by a whole level, which may exceed the budget.  So the search aims at whole levels: the model sees the
rounded clip, and gradients pass the rounding straight through.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks.base import wrapped_info
from avrobust.config import concise
from avrobust.facts import AttackInfo
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import ROUNDING, Ball, Threat
from avrobust.types import AV, Attack, Channel, Labels, Model, Signals, doubles

# Steps per unit, and the lowest and highest of them: 16-bit samples as `media.write_wav` writes them, 8-bit colours.
LEVELS: AV[tuple[float, float, float]] = AV(audio=(32768.0, -32768.0, 32767.0), visual=(255.0, 0.0, 255.0))


def on_levels(x: Signals) -> Signals:
    """The nearest values of 16-bit samples and 8-bit colours.

    >>> on_levels(AV(audio=torch.tensor([[1.0]]), visual=torch.tensor([0.5]))).map(lambda s: s.item())
    AV(audio=0.999969482421875, visual=0.501960813999176)
    """
    return x.map(lambda s, levels: (s * levels[0]).round().clamp(*levels[1:]) / levels[0], LEVELS)


def behind(channel: Channel, model: Model, example: Signals) -> engine.Victim:
    """`model` behind a channel: it sees the clips after `channel`; gradients pass the channel straight through.

    Anything cached about clips is dropped: it was about clips before the channel.
    """
    return engine.Behind(engine.as_victim(model, example).without_cache(), channel)


@dataclass(frozen=True, repr=False)
class Quantized:
    """`attack` on the model behind rounding to 8 and 16 bits; its clips lie on these levels and inside the budget.

    It searches a ball that ends half a level beyond the last whole level of the budget, so that its result rounds to an
    allowed level.  Where no level lies inside the budget, the clean value stays.  Raises `ValueError` for budgets other
    than linf.

    >>> from avrobust.attacks import FGSM
    >>> Quantized(FGSM()).name
    'FGSM, quantized'
    """

    attack: Attack

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return wrapped_info(self.attack, variant="quantized")

    @property
    def name(self) -> str:
        """Display name."""
        return f"{display_name(self.attack)}, quantized"

    @property
    def steps(self) -> int:
        """Its cost in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat` that a `.png` and a `.wav` can hold, shaped as `x`."""
        if any(ball.active and (ball.norm != "linf" or not isinstance(ball.scale, tuple)) for ball in threat):
            raise ValueError(
                f"Quantized supports linf budgets only, of one size for all clips, got {threat}. Round the clips of others yourself."
            )
        whole = Threat(*threat.map(_whole, LEVELS))
        adversarial = (
            x
            if whole.subset == "clean"
            else self.attack(behind(on_levels, model, x.map(lambda s: s[:1])), x, y, whole, seeds)
        )
        return threat.map(_kept, x, adversarial, LEVELS)


def _whole(ball: Ball, levels: tuple[float, float, float]) -> Ball:
    """The ball of what rounds to whole levels inside `ball`, around a clip that lies on levels; none if there are none."""
    assert isinstance(ball.scale, tuple)  # other budgets were refused
    steps = [math.floor((float(w) * ball.eps + ROUNDING) * levels[0]) for w in ball.scale]
    scale = tuple((k + 0.49) / levels[0] for k in steps)  # not a half: it would round to the next level
    return replace(ball, eps=1.0 if any(steps) else 0.0, scale=scale)


def _kept(ball: Ball, clean: Tensor, adversarial: Tensor, levels: tuple[float, float, float]) -> Tensor:
    """The nearest allowed level; in double precision, for an audio level is only 256 times float32's rounding error."""
    if not ball.active:
        return clean
    per_unit, lowest, highest = levels
    x, limit = doubles(clean), doubles(ball.weight(clean)) * ball.eps + ROUNDING
    low = np.ceil((x - limit) * per_unit).clip(min=lowest)
    high = np.floor((x + limit) * per_unit).clip(max=highest)
    nearest = np.minimum(np.maximum(np.rint(doubles(adversarial) * per_unit), low), high) / per_unit
    there = torch.from_numpy(nearest.astype(np.float32)).to(clean)
    return torch.where(torch.from_numpy(low <= high).to(clean.device), there, clean)
