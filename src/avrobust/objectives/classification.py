"""Objectives of classification; the labels y are class numbers (b)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor

from avrobust.objectives.base import Loss
from avrobust.types import InputError, Labels, Logits, Output, PerClip


def margins(logits: Logits, y: Labels) -> PerClip:
    """Best other logit minus the true one: positive means wrong.

    >>> import torch
    >>> margins(torch.tensor([[2.0, 0.5, 1.0]]), torch.tensor([0]))
    tensor([-1.])
    """
    true = logits.gather(1, y[:, None])[:, 0]
    other = logits.scatter(1, y[:, None], float("-inf")).amax(1)
    return other - true


def correct(logits: Logits, y: Labels) -> Bool[Tensor, " b"]:
    """Whether the model classifies each clip correctly; logits that are not finite are never correct.

    >>> correct(torch.tensor([[1.0, 0.0], [float("nan"), 0.0]]), torch.tensor([0, 0]))
    tensor([ True, False])
    """
    right: Tensor = (logits.argmax(1) == y) & logits.isfinite().all(1)
    return right


def misclassified(out: Output, y: Labels) -> Tensor:
    """By how much another class than `y` is ahead: above 0 the clip is misclassified; inf where logits are not finite.

    False on all clips if the labels are not class numbers.

    >>> misclassified(Output(torch.tensor([[2.0, 0.5], [0.0, float("nan")]])), torch.tensor([0, 0]))
    tensor([-1.5000,     inf])
    """
    logits = out.logits.float()
    if y.ndim != 1 or y.is_floating_point() or logits.ndim != 2:
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
    return torch.where(logits.isfinite().all(1), margins(logits, y), torch.inf)


def negative_log_likelihood(out: Output, y: Labels) -> PerClip:
    return F.cross_entropy(out.logits.float(), y, reduction="none")


def _margin(out: Output, y: Labels) -> PerClip:
    return margins(out.logits.float(), y)


def _dlr(out: Output, y: Labels) -> PerClip:
    logits = out.logits.float()
    if logits.shape[1] < 3:
        raise InputError(f"expected at least 3 classes for DLR, got {logits.shape[1]}. Use margin.")
    top = logits.topk(3, dim=1).values
    return margins(logits, y) / (top[:, 0] - top[:, 2]).clamp_min(1e-12)


def _dlr_towards(out: Output, y: Labels) -> PerClip:
    logits = out.logits.float()
    if logits.shape[1] < 4:
        raise InputError(f"expected at least 4 classes for targeted DLR, got {logits.shape[1]}. Use margin.")
    top = logits.topk(4, dim=1).values
    return -margins(logits, y[:, 1]) / (top[:, 0] - (top[:, 2] + top[:, 3]) / 2).clamp_min(1e-12)


def _first_misclassified(out: Output, y: Labels) -> Tensor:
    return misclassified(out, y[:, 0])


# Minus the log-probability of the true class: the loss that the paper's attackers raise.
cross_entropy = Loss("cross_entropy", negative_log_likelihood, misclassified, on_answer=True)
# Best other logit minus the true one (Carlini & Wagner 2017, f6 without its cut): does not saturate.
margin = Loss("margin", _margin, misclassified, on_answer=True)
# The difference of logits ratio (Croce & Hein 2020, eq. 6): the margin over the spread of the first three logits.
# Rescaling or shifting the logits does not change it, so a model cannot hide by saturating.  Needs three classes.
dlr = Loss("dlr", _dlr, misclassified, on_answer=True)
# The targeted difference of logits ratio (Croce & Hein 2020, eq. 7), y shaped (b 2): the true class and the target.
# (z_t - z_y) / (z_1 - (z_3 + z_4) / 2), logits sorted.  We take the best logit but the target's for z_y: the same number
# for as long as the clip is classified correctly.  Succeeds with any misclassification.  Needs four classes.
dlr_towards = Loss("dlr_towards", _dlr_towards, _first_misclassified)


@dataclass(frozen=True)
class Targeted:
    """The log-probability of class number `target`: a targeted attack, whatever the true class.

    Raises `InputError` for a target that is not one of the model's classes.

    >>> out = Output(torch.tensor([[0.0, 2.0], [3.0, 2.0]]))
    >>> Targeted(1).success(out, torch.tensor([0, 0]))
    tensor([ 2., -1.])
    """

    target: int

    @property
    def name(self) -> str:
        """Display name."""
        return f"towards {self.target}"

    def value(self, out: Output, y: Labels) -> PerClip:
        """Log-probability of the target."""
        logits = out.logits.float()
        return -F.cross_entropy(logits, self._target(logits), reduction="none")

    def success(self, out: Output, y: Labels) -> PerClip:
        """By how much the target is ahead of all other classes; -inf where logits are not finite."""
        logits = out.logits.float()
        return torch.where(logits.isfinite().all(1), -margins(logits, self._target(logits)), -torch.inf)

    def _target(self, logits: Logits) -> Tensor:
        if not 0 <= self.target < logits.shape[1]:
            raise InputError(
                f"the target should be one of the model's {logits.shape[1]} classes, 0…{logits.shape[1] - 1}, got {self.target}."
            )
        return torch.full((len(logits),), self.target, device=logits.device)
