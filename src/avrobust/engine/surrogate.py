"""The copy of a network that gradients are taken of: frozen, folded, channels-last, in low precision if asked.

Low precision is never the default: near 0.5 the numbers of bfloat16 lie a grey level apart, and smaller budgets are lost
on their way into the network.  What is *reported* about a model is never taken from here: the evaluation asks the user's
own model, in its own precision.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from avrobust.engine.blackbox import BlackBox
from avrobust.engine.folding import fold_batchnorm, rectify_in_place
from avrobust.engine.recognise import agree, as_victim, encoder_by_encoder, with_noise
from avrobust.engine.twostream import TwoStream
from avrobust.engine.victim import Victim, normal
from avrobust.types import AV, InputError, Model, Signals

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
    module = _module(victim)
    if module is None or not len(example.audio):
        return victim
    with torch.inference_mode(False):
        example = example.map(normal)
        net = _copy(victim, module, example)
        if net is not None:
            answer = _answer(_with(victim, net))
            fold_batchnorm(net, answer, example)
            rectify_in_place(net, _slopes(_with(victim, net)), example)
            victim = _with(victim, net)
        return _low(victim, example, own=net is not None) if precision == "bfloat16" else victim


def _module(victim: Victim) -> nn.Module | None:
    """The module that a copy may stand for."""
    inner = victim.net if isinstance(victim, TwoStream) else victim.model if isinstance(victim, BlackBox) else None
    return inner if isinstance(inner, nn.Module) else None


def _with(victim: Any, net: nn.Module) -> Victim:
    changed: Victim = replace(victim, **{"net" if isinstance(victim, TwoStream) else "model": net})
    return changed


def _answer(victim: Victim) -> Callable[[Signals], list[Tensor]]:
    """What has to stay the same: embeddings, and logits without the feature defense, which may be random."""

    @torch.no_grad()
    def answer(x: Signals) -> list[Tensor]:
        if not isinstance(victim, TwoStream):
            return [victim(x.map(torch.clone))]
        f = AV(*victim.net.embed(x.map(torch.clone)))
        plain = victim.as_written or getattr(victim.net, "feature_defense", None) is None
        return [*f.map(torch.clone), *([victim.net.decide(f)] if plain else [])]

    return answer


def _slopes(victim: Victim) -> Callable[[Signals], list[Tensor]]:
    """The same and its gradient."""

    def slopes(x: Signals) -> list[Tensor]:
        x = x.map(lambda s: s.detach().clone().requires_grad_())
        with torch.enable_grad():
            # Not the signals themselves: an encoder may write into what it is given.
            lent = x.map(torch.clone)
            found = list(AV(*victim.net.embed(lent))) if isinstance(victim, TwoStream) else [victim(lent)]
            total = torch.stack([f.sum() for f in found]).sum()
            grads = torch.autograd.grad(total, list(x), allow_unused=True) if total.requires_grad else ()
        return [f.detach() for f in found] + [g for g in grads if g is not None]

    return slopes


def _copy(victim: Victim, module: nn.Module, example: Signals) -> nn.Module | None:
    """A frozen copy, channels-last if that changes nothing; None of what cannot be copied, or answers otherwise."""
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
            net = copy.deepcopy(module, laid_out).eval().requires_grad_(False)
            expected = _answer(victim)(clips) if expected is None else expected
            if agree(expected, _answer(_with(victim, net))(clips)):
                return net
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever stands in the way of copying a user's modules: the attack needs no copy
            return None
    return None


def _low(victim: Victim, example: Signals, *, own: bool) -> Victim:
    """The same victim in bfloat16, where it runs in that; the weights too of encoders that are our `own` copy's."""
    low = victim.in_precision(torch.bfloat16)
    try:
        with torch.no_grad():
            if not all(z.isfinite().all() for z in _in_low(low, example)):
                return victim
    except torch.OutOfMemoryError:
        raise
    except Exception:  # an operation that knows no bfloat16
        return victim
    if own and isinstance(low, TwoStream) and low.embeds is encoder_by_encoder:
        for encoder in low.net.encoders:  # what follows them is small, and stays in float32
            for module in encoder.modules():
                if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear):
                    module.to(torch.bfloat16)
    return low


def _in_low(low: Victim, example: Signals) -> list[Tensor]:
    return list(low.embed(example)) if isinstance(low, TwoStream) else [low(example)]
