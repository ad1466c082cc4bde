"""What an objective says about some clips: its value, and on which of them the attacker has surely succeeded."""

from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from avrobust.objectives import Objective, Success, display_name
from avrobust.types import InputError, Labels, Output, PerClip

# How far logits may be off, as a share of the largest, in arithmetic that is coarser than float32.
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.02}
ROUNDING_FLOAT32 = 1e-3


@torch.no_grad()
def outcome(
    value: PerClip, out: Output, objective: Objective, y: Labels, precision: torch.dtype, rounding: float = 0.0
) -> tuple[PerClip, Bool[Tensor, " b"]]:
    """The value, infinite where logits are not finite, and on which clips the attacker has surely succeeded.

    Surely: by more than `rounding`, and than rounding in `precision` may be off, where the objective returns a lead.  On no
    clip, where the objective does not say when it has succeeded.

    >>> from avrobust.objectives import margin
    >>> out, y = Output(torch.tensor([[1.0, 0.97], [1.0, 0.5]])), torch.tensor([1, 1])
    >>> outcome(torch.zeros(2), out, margin, y, torch.bfloat16)[1]
    tensor([False,  True])
    """
    nobody = torch.zeros_like(value, dtype=torch.bool)
    if len(out.logits) != len(value):
        return value, nobody
    coarse = precision if precision in ROUNDING else out.logits.dtype
    logits = out.logits.float().reshape(len(value), -1)  # of a regression, predictions may be shaped (b)
    broken, lead = ~logits.isfinite().all(1), _success(objective, out, y)
    if lead is not None and lead.dtype != torch.bool:
        off = ROUNDING.get(coarse, ROUNDING_FLOAT32) * logits.abs().amax(1).clamp_min(0.1)
        off = off.clamp_min(rounding)
        lead = lead > torch.where(broken, 0.0, off)
    ends = torch.where(broken if lead is None else lead, torch.inf, -torch.inf).to(value)
    return torch.where(broken, ends, value), nobody if lead is None else lead


def _success(objective: Objective, out: Output, y: Labels) -> Tensor | None:
    lead = _asked(objective, objective.success, out, y)
    if lead is not None and (not isinstance(lead, Tensor) or lead.shape != out.logits.shape[:1]):
        got = f"one shaped {tuple(lead.shape)}" if isinstance(lead, Tensor) else type(lead).__name__
        raise InputError(
            f"success of {display_name(objective)} should be a tensor of one value per clip, shaped ({len(out.logits)},), "
            f"got {got}. Return one for each clip: out.logits.argmax(1) == target."
        )
    return lead


def value_of(objective: Objective, out: Output, y: Labels) -> PerClip:
    """The value of an objective.  Raises `InputError` where it is not one number per clip."""
    value, clips = _asked(objective, objective.value, out, y), len(y)
    if not isinstance(value, Tensor) or value.shape != (clips,):
        got = f"one shaped {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise InputError(
            f"the objective {display_name(objective)} should return a tensor of one number per clip, shaped ({clips},), "
            f"got {got}. Sum over each clip, not over the batch: reduction='none'."
        )
    return value


def _asked(objective: Objective, method: Success, out: Output, y: Labels) -> Any:
    """What a method of an objective returns.  Raises `InputError` where it fails, or writes into what it is given."""
    lent = _tensors(out, y)
    if any(s.is_inference() for s in lent):  # nobody counts writes into these: it gets copies
        out, y, lent = out.map(torch.clone), y.clone(), []
    before = [s._version for s in lent]
    try:
        found = method(out, y)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        if torch.is_grad_enabled() and isinstance(error, RuntimeError):  # perhaps for want of a gradient: see `Victim`
            raise
        there, missing = (
            [f.name for f in fields(out) if (getattr(out, f.name) is None) == none] for none in (False, True)
        )
        raise InputError(
            f"the objective {display_name(objective)} should take (out, labels), got {type(error).__name__}: {error}. `out` is an "
            f"Output: here it has {' and '.join(there)}, with out.logits shaped {tuple(out.logits.shape)}, and no "
            f"{', '.join(missing)}; labels are shaped {tuple(y.shape)}. Give one number per clip of these: "
            "lambda out, y: torch.nn.functional.cross_entropy(out.logits, y, reduction='none')."
        ) from error
    if [s._version for s in lent] != before:
        raise InputError(
            f"the objective {display_name(objective)} wrote into the output or the labels that it was given, which the attack still "
            "needs. Clone what it changes: z = out.logits.clone()."
        )
    return found


def _tensors(out: Output, y: Labels) -> list[Tensor]:
    found = [y]

    def note(s: Tensor) -> Tensor:
        found.append(s)
        return s

    out.map(note)
    return found
