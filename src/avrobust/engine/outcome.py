"""What an objective says of some clips: its value, and on which of them the attacker has surely won."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from avrobust.engine.victim import TwoStream
from avrobust.objectives import ShowsFeatures, objective_name, success
from avrobust.types import AV, InputError, Model, Objective, PerClip, Signals

# The objective at some place, its gradient, and on which clips the attacker has surely won.
ValueAndGrad = tuple[PerClip, Signals, Tensor]
# What logits may be off by, as a share of the largest, in arithmetic that is coarser than float32.
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.02}


def outcome(
    value: PerClip, model: Model, heard: Sequence[Tensor], objective: Objective, y: Tensor
) -> tuple[PerClip, Tensor]:
    """The value, infinite where logits are not finite, and on which clips the attacker has surely won.

    By more than what this arithmetic may be off, where the objective says by how much.  On none, where it did not ask
    for logits, or does not say when it has succeeded.
    """
    won = torch.zeros_like(value, dtype=torch.bool)
    if not heard or len(heard[-1]) != len(value):
        return value, won
    logits = heard[-1]
    coarse = torch.bfloat16 if isinstance(model, TwoStream) and model.dtype == torch.bfloat16 else logits.dtype
    logits = logits.float()
    broken, lead = ~logits.flatten(1).isfinite().all(1), success(objective, logits, y)
    if lead is not None and lead.dtype != torch.bool:
        off = ROUNDING.get(coarse, 1e-3) * logits.flatten(1).abs().amax(1).clamp_min(0.1)
        lead = lead > torch.where(broken, 0.0, off)
    ends = torch.where(broken if lead is None else lead, torch.inf, -torch.inf).to(value)
    return torch.where(broken, ends, value), won if lead is None else lead


def check_value(value: object, objective: Objective, clips: int) -> None:
    if not isinstance(value, Tensor) or value.shape != (clips,):
        got = f"one shaped {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"the objective {objective_name(objective)} should return a tensor of one number per clip, shaped ({clips},), "
            f"got {got}. Sum over each clip, not over the batch: reduction='none'."
        )


def record_logits(model: Model) -> tuple[Model, list[Tensor]]:
    """`model`, and a list that its logits are added to whenever it is asked: nobody runs it twice to see them."""
    heard: list[Tensor] = []
    if isinstance(model, TwoStream):
        return replace(model, heard=heard), heard

    if isinstance(model, ShowsFeatures):
        return _Aloud(model, heard), heard

    def aloud(x: Signals) -> Any:
        logits = model(x)
        if isinstance(logits, Tensor):  # an objective of somebody's own may know what to do with anything else
            heard.append(logits.detach())
        return logits

    return aloud, heard


class _Aloud:
    """A model of somebody's own that shows its features, its logits kept."""

    def __init__(self, model: ShowsFeatures, heard: list[Tensor]) -> None:
        self.model, self.heard = model, heard

    def __call__(self, x: Signals) -> Tensor:
        logits = self.model(x)
        self.heard.append(logits.detach())
        return logits

    def represent(self, x: Signals) -> AV[Tensor]:
        return self.model.represent(x)

    def decide(self, f: AV[Tensor]) -> Tensor:
        logits = self.model.decide(f)
        self.heard.append(logits.detach())
        return logits
