"""An attack on the clip that a file holds: 8 bits a colour, 16 bits a sample.

A perturbation of a third of a grey level exists in memory and in no file.  A picture that is rounded to 8 bits either
loses it or moves by a whole level, which may be more than was allowed.  So the search is after whole levels: the model
answers to what a file would hold, and gradients go through the rounding as if it were not there.
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
from avrobust.types import AV, Attack, Channel, Model, Signals, doubles

# Steps per unit, and the lowest and highest of them: 16-bit samples as `media.write_wav` writes them, 8-bit colours.
LEVELS: AV[tuple[float, float, float]] = AV(audio=(32768.0, -32768.0, 32767.0), visual=(255.0, 0.0, 255.0))


def on_levels(x: Signals) -> Signals:
    """The nearest that 16-bit samples and 8-bit colours can hold.

    >>> on_levels(AV(audio=torch.tensor([[1.0]]), visual=torch.tensor([0.5]))).map(lambda s: s.item())
    AV(audio=0.999969482421875, visual=0.501960813999176)
    """
    return x.map(lambda s, levels: (s * levels[0]).round().clamp(*levels[1:]) / levels[0], LEVELS)


def behind(channel: Channel, model: Model, example: Signals) -> engine.Victim:
    """`model`, given what `channel` leaves of clips; gradients pass the channel straight through.

    What the model's victim kept about clips is dropped: it was about clips that had passed no channel.
    """
    return engine.Behind(channel, engine.as_victim(model, example).without_cache())


@dataclass(frozen=True, repr=False)
class Quantized:
    """`attack`, made so that a lossless file keeps what it does.

    It searches a ball that ends half a level beyond the whole levels of the budget, so that what it finds rounds to
    allowed ones, and meets the model `behind` that rounding.  Linf budgets.  Where no level is inside the budget, which
    takes a clean value between two of them, that value stays clean.

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
        """What it costs, in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat` that a `.png` and a `.wav` can hold, shaped as `x`."""
        if any(ball.active and (ball.norm != "linf" or ball.scale == "signal") for ball in threat):
            raise ValueError(f"saving knows linf budgets only, got {threat}. Round an L2 attack's clips yourself.")
        whole = Threat(*threat.map(_whole, LEVELS))
        adversarial = (
            x
            if whole.subset == "clean"
            else self.attack(behind(on_levels, model, x.map(lambda s: s[:1])), x, y, whole, seeds)
        )
        return threat.map(_kept, x, adversarial, LEVELS)


def _whole(ball: Ball, levels: tuple[float, float, float]) -> Ball:
    """The ball of what rounds to whole levels inside `ball`, around a clip that lies on levels; none if there are none."""
    steps = [math.floor((float(w) * ball.eps + ROUNDING) * levels[0]) for w in ball.scale]
    scale = tuple((k + 0.49) / levels[0] for k in steps)  # not a half: it would round to the next level
    return replace(ball, eps=1.0 if any(steps) else 0.0, scale=scale)


def _kept(ball: Ball, clean: Tensor, adversarial: Tensor, levels: tuple[float, float, float]) -> Tensor:
    """The nearest allowed level; in double precision, for a level of sound is a rounding error of 1 / 256 of a float."""
    if not ball.active:
        return clean
    per_unit, lowest, highest = levels
    x, limit = doubles(clean), doubles(ball.weight(clean)) * ball.eps + ROUNDING
    low = np.ceil((x - limit) * per_unit).clip(min=lowest)
    high = np.floor((x + limit) * per_unit).clip(max=highest)
    nearest = np.minimum(np.maximum(np.rint(doubles(adversarial) * per_unit), low), high) / per_unit
    there = torch.from_numpy(nearest.astype(np.float32)).to(clean)
    return torch.where(torch.from_numpy(low <= high).to(clean.device), there, clean)
