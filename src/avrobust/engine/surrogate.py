"""The copy of a network that gradients are taken of: frozen, folded, channels-last, in low precision if asked.

Low precision is never the default: near 0.5 the numbers of bfloat16 lie a grey level apart, and smaller budgets are lost
on their way into the network.  What is *reported* about a model is never taken from here: the evaluation asks the user's
own model, in its own precision.
"""

import copy
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avrobust.engine.folding import fold_batchnorm, rectify_in_place
from avrobust.engine.recognise import agree, as_victim, with_noise
from avrobust.engine.victim import Victim, normal
from avrobust.types import InputError, Model, Signals

Precision = Literal["auto", "float32", "bfloat16"]


def surrogate(model: Model, example: Signals, precision: str = "auto") -> Victim:
    """A cheap stand-in for `model` to take gradients of.

    Of an `nn.Module`, a frozen copy: channels-last, BatchNorm folded, ReLUs in place, in bfloat16 if asked, each verified on
    the `example` (a clip or more) and left out where it changes the answer.  What cannot be copied, and any other callable,
    is attacked as it is.  `precision` "auto" is float32 on every machine: an attack is never weaker for being cheap.  Raises
    `InputError` for any other precision than these three.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision should be 'auto', 'float32' or 'bfloat16', got {precision!r}.")
    victim = as_victim(model, example)
    if victim.module is None or not len(example.audio):
        return victim
    with torch.inference_mode(False):
        example = example.map(normal)
        copied = _copied(victim, victim.module, example)
        if copied is not None and (net := copied.module) is not None:
            fold_batchnorm(net, _answer(copied), example)
            rectify_in_place(net, _slopes(copied), example)
        low = (copied or victim).in_precision(torch.bfloat16) if precision == "bfloat16" else None
        if low is None or not _runs(low, example):
            return copied or victim
        return low if copied is None else low.cast_encoders()


def _answer(victim: Victim) -> Callable[[Signals], list[Tensor]]:
    """What has to stay the same of the clips."""

    @torch.no_grad()
    def answer(x: Signals) -> list[Tensor]:
        encoded = victim.encoded(x.map(torch.clone))
        return [*map(torch.clone, encoded), *victim.decided(encoded)]

    return answer


def _slopes(victim: Victim) -> Callable[[Signals], list[Tensor]]:
    """What the module encodes, and its gradient."""

    def slopes(x: Signals) -> list[Tensor]:
        x = x.map(lambda s: s.detach().clone().requires_grad_())
        with torch.enable_grad():
            # Not the signals themselves: an encoder may write into what it is given.
            found = victim.encoded(x.map(torch.clone))
            total = torch.stack([f.sum() for f in found]).sum()
            grads = torch.autograd.grad(total, list(x), allow_unused=True) if total.requires_grad else ()
        return [f.detach() for f in found] + [g for g in grads if g is not None]

    return slopes


def _copied(victim: Victim, module: nn.Module, example: Signals) -> Victim | None:
    """The victim over a frozen copy, channels-last if that changes nothing; None if the copy fails or answers otherwise."""
    clips, expected = with_noise(example), None
    for layout in (torch.channels_last, torch.contiguous_format):
        # Laid out as they are copied: a second copy of every weight would leave holes in memory behind.
        laid_out = {
            id(weight): nn.Parameter(weight.detach().clone(memory_format=layout))
            for m in module.modules()
            # A weight that is computed (weight norm, parametrisations) is no parameter, and another tensor each time.
            if isinstance(m, nn.Conv2d) and type(weight := m._parameters.get("weight")) is nn.Parameter
        }
        try:
            copied = victim.with_module(copy.deepcopy(module, laid_out).eval().requires_grad_(False))
            expected = _answer(victim)(clips) if expected is None else expected
            if agree(expected, _answer(copied)(clips)):
                return copied
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever stands in the way of copying a user's modules: the attack needs no copy
            return None
    return None


def _runs(low: Victim, example: Signals) -> bool:
    """Whether the module runs in low precision, and answers in finite numbers."""
    try:
        with torch.no_grad():
            return all(bool(z.isfinite().all()) for z in low.encoded(example.map(torch.clone)))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # an operation without a kernel for bfloat16
        return False
