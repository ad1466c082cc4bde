"""What an attacker wants: one number per clip, pushed UP.  No budgets, no search."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from avrobust.types import Logits, Model, PerClip, Signals


def margins(logits: Logits, y: Tensor) -> PerClip:
    """Best other logit minus the true one: positive means wrong.

    >>> import torch
    >>> margins(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    true = logits.gather(1, y[:, None])[:, 0]
    other = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return other - true


def cross_entropy(model: Model, x: Signals, y: Tensor) -> PerClip:
    """Minus the log-probability of the true class: the loss that the paper's attackers raise."""
    return F.cross_entropy(model(x).float(), y, reduction="none")


def margin(model: Model, x: Signals, y: Tensor) -> PerClip:
    """Best other logit minus the true one (Carlini & Wagner 2017, f6 without its cut): does not saturate."""
    return margins(model(x).float(), y)


@dataclass(frozen=True)
class Targeted:
    """The log-probability of class number `target`: an attack towards it, whatever the true class."""

    target: int

    def __call__(self, model: Model, x: Signals, y: Tensor) -> PerClip:
        """One number per clip; `y` only says how many clips there are."""
        return -F.cross_entropy(model(x).float(), torch.full_like(y, self.target), reduction="none")
