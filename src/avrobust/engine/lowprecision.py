"""Low precision that keeps the strength of an attack: the layers that need float32 keep it.

Near 0.5 the numbers of bfloat16 lie a grey level apart: a smaller perturbation is lost on its way into the network.  After a
few layers it has grown, and what follows may be coarse.  How many layers that takes differs between networks and between
audio and visual, so it is measured on an example: docs/decisions/0027-low-precision.md.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from avrobust.engine.packed import Packed
from avrobust.engine.victim import Victim
from avrobust.types import AV

T = TypeVar("T")
LAYERS = (nn.Conv1d, nn.Conv2d, nn.Linear)
# Of the layers of an encoder, the share that stays in float32, first layers first: the least that is enough.
SHARES = (0.0, 1 / 8, 1 / 4, 1 / 2, 1.0)
# What a step along the signs of the low gradient has to gain, to first order, of what it gains along those in float32.
ENOUGH = 0.96

# An attacker is sure of a success that is this many times as far as logits are off on the example.
SURE = 4.0

# The gradient of what a victim encodes of an example, by modality; None where there is none.
Slopes = Callable[[Victim], AV[Tensor | None]]
# A victim's logits of an example.
Answers = Callable[[Victim], Tensor]


@dataclass(frozen=True)
class Lowering:
    """What of a victim runs in bfloat16, found by `lowering`: it may be applied to any copy.

    `exact` are the layers with weights that stay in float32, by their names in each of the victim's `parts`, `low` the others.
    `rounding` is how far logits may be off then.
    """

    exact: tuple[tuple[str, ...], ...]
    low: tuple[tuple[str, ...], ...]
    rounding: float

    def apply(self, victim: Victim, parts: Sequence[nn.Module]) -> Victim:
        """The victim in bfloat16, the layers of its `parts` changed."""
        for part, exact, low in zip(parts, self.exact, self.low, strict=True):
            for layer in map(part.get_submodule, exact):
                layer.forward = partial(_exactly, layer.forward)
            for layer in map(part.get_submodule, low):
                if not isinstance(vars(layer).get("forward"), Packed):
                    # Once: autocast would in every step.  Not in place: another layer may have the same weights.
                    for name, weight in layer.named_parameters(recurse=False):
                        setattr(layer, name, nn.Parameter(weight.to(torch.bfloat16), requires_grad=False))
        return victim.in_precision(torch.bfloat16, self.rounding)


def lowering(victim: Victim, slopes: Slopes, answers: Answers, parts: Sequence[nn.Module]) -> Lowering | None:
    """How the victim runs in bfloat16, with the first layers of its `parts` in float32 as far as its gradient needs that.

    `parts` are the encoders of audio and of visual, or one module for both, or none where nothing may be changed.  None
    where the gradient needs float32 throughout, and where the victim does not run in bfloat16.
    """
    exact_answer = answers(victim)
    low, (layers, wanted) = victim.in_precision(torch.bfloat16), _in_order(parts, lambda: slopes(victim))
    levels = [0] * len(parts)
    while True:
        counts = [ceil(SHARES[level] * len(some)) for some, level in zip(layers, levels, strict=True)]
        with _in_float32([some[:count] for some, count in zip(layers, counts, strict=True)]):
            gains = gained(lambda: slopes(low), wanted)
            short = [k for k, gain in enumerate(gains if len(parts) == 2 else [min(gains)]) if not gain >= ENOUGH]
            if not short:
                off = float((answers(low) - exact_answer).abs().max())
                break
        if any(k >= len(parts) or levels[k] + 1 == len(SHARES) for k in short):
            return None
        levels = [level + (k in short) for k, level in enumerate(levels)]
        if all(SHARES[level] == 1 for level in levels):
            return None
    kept, rest = [], []
    for part, some, count in zip(parts, layers, counts, strict=True):
        name = {module: name for name, module in part.named_modules()}
        named = tuple(name[layer] for layer in some)
        kept.append(named[:count])
        rest.append(named[count:])
    return Lowering(tuple(kept), tuple(rest), SURE * off)


def gained(slopes: Callable[[], AV[Tensor | None]], wanted: AV[Tensor | None]) -> AV[float]:
    """What a step along the signs of a gradient gains to first order, as a share of what it gains along those of `wanted`.

    The mean over clips, by modality; 0 where the gradient cannot be computed.

    >>> g = torch.tensor([[3.0, -1.0]])
    >>> gained(lambda: AV(g, g * torch.tensor([1.0, -1.0])), AV(g, g))
    AV(audio=1.0, visual=0.5)
    """
    try:
        found = slopes()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # an operation without a kernel for bfloat16
        return AV(0.0, 0.0)

    def share(low: Tensor | None, full: Tensor | None) -> float:
        if full is None or not bool(full.any()):
            return 1.0
        if low is None or not bool(low.isfinite().all()):
            return 0.0
        size = full.abs().flatten(1).sum(1)
        return float(((low.sign() * full).flatten(1).sum(1) / size)[size > 0].mean())

    return found.map(share, wanted)


def _in_order(parts: Sequence[nn.Module], run: Callable[[], T]) -> tuple[list[list[Any]], T]:
    """The layers with weights of each part, in the order in which `run` first uses them, and what it gives."""
    used: list[dict[nn.Module, None]] = [{} for _ in parts]
    hooks = [
        m.register_forward_pre_hook(lambda layer, _, mine=mine: mine.setdefault(layer))
        for part, mine in zip(parts, used, strict=True)
        for m in part.modules()
        if isinstance(m, LAYERS)
    ]
    found = run()
    for hook in hooks:
        hook.remove()
    return [list(mine) for mine in used], found


@contextmanager
def _in_float32(layers: Sequence[Sequence[Any]]) -> Iterator[None]:
    """Inside, these layers run in float32, whatever surrounds them."""
    every = [(layer, vars(layer).get("forward")) for some in layers for layer in some]
    for layer, _ in every:
        layer.forward = partial(_exactly, layer.forward)
    try:
        yield
    finally:
        for layer, own in every:
            del layer.forward
            if own is not None:
                layer.forward = own


def _exactly(forward: Callable[[Tensor], Tensor], s: Tensor) -> Tensor:
    with torch.autocast(s.device.type, enabled=False):
        return forward(s.float())
