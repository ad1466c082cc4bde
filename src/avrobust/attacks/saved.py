"""What is left of an attack when its clip is saved: 8 bits a colour, 16 bits a sample.

A perturbation of a third of a grey level exists in memory and in no file.  A picture that is rounded to 8 bits either
loses it or moves by a whole level, which may be more than was allowed; so here each value goes to the nearest one that
a file can hold *and* the budget allows.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from avrobust.attacks.gradient import concise
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Attack, Model, Signals

# Steps per unit: 8-bit colours, 16-bit samples (as `media.write_wav` writes them).
LEVELS = AV(audio=32768.0, visual=255.0)


@dataclass(frozen=True, repr=False)
class Saved:
    """`attack`, and then what a lossless file would keep of it.

    Linf budgets.  Where the clean clip itself lies between two levels and neither is inside the budget, the value stays
    clean: nothing that a file holds is allowed there.

    >>> from avrobust.attacks import FGSM
    >>> Saved(FGSM()).name
    'FGSM, saved'
    """

    attack: Attack

    def __repr__(self) -> str:
        return concise(self)

    @property
    def name(self) -> str:
        """How a table calls it."""
        inner: Any = self.attack
        return f"{getattr(inner, 'name', None) or getattr(inner, '__name__', type(inner).__name__)}, saved"

    @property
    def steps(self) -> int:
        """What it costs, in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat` that a `.png` and a `.wav` can hold, shaped as `x`."""
        if any(ball.active and ball.norm != "linf" for ball in threat):
            raise ValueError(f"saving knows linf budgets only, got {threat}. Round an L2 attack's clips yourself.")
        adversarial = self.attack(model, x, y, threat, seeds)
        return threat.map(_kept, x, adversarial, LEVELS)


def _kept(ball: Ball, clean: Tensor, adversarial: Tensor, levels: float) -> Tensor:
    if not ball.active:
        return clean
    limit = ball.weight(clean) * ball.eps * (1 + 1e-6)
    nearest = (adversarial * levels).round()
    # One level back towards the clean clip, where the nearest one is too far.
    back = nearest - (adversarial - clean).sign()
    best = torch.where((nearest / levels - clean).abs() <= limit, nearest, back) / levels
    allowed = ((best - clean).abs() <= limit) & (best >= ball.low) & (best <= ball.high)
    return torch.where(allowed, best, clean)
