"""The copy of a network that gradients are taken of: frozen, folded, channels-last, in low precision if asked.

What is *reported* about a model is never taken from here: the evaluation asks the user's own model, in its own precision.
"""

import copy
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from avrobust.engine import folding
from avrobust.engine.draws import same_draws
from avrobust.engine.lowprecision import lowering
from avrobust.engine.recognise import agree, as_victim, noise_like
from avrobust.engine.verified import verified
from avrobust.engine.victim import Victim, normal
from avrobust.types import AV, InputError, Model, Signals

Precision = Literal["auto", "float32", "bfloat16"]


def surrogate(model: Model, example: Signals, precision: str = "auto") -> Victim:
    """A cheap stand-in for `model` to take gradients of.

    Of an `nn.Module`, a frozen copy: channels-last, BatchNorm folded, ReLUs in place, on a CPU its convolutions `Packed`, each
    verified on the `example` (a clip or more) and left out where it changes the answer.  On a CPU it has the memory of the model's
    weights: make another when they change.  What cannot be copied, and any other callable, is attacked as it is.
    With `precision` "bfloat16", as many of its layers as keep its gradient run in that: see `lowprecision`.  "auto" is
    float32 on every machine.  Raises `InputError` for any other precision than these three.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision should be 'auto', 'float32' or 'bfloat16', got {precision!r}.")
    victim = as_victim(model, example)
    if victim.module is None or not len(example.audio):
        return victim
    # Whether anything is found anew changes no later draw of torch's.
    with torch.inference_mode(False), same_draws(example.audio.device):
        example = example.map(normal)
        copied = _copied(victim, victim.module, example)
        cheap = copied or victim
        if precision != "bfloat16":
            return cheap
        parts = cheap.parts if copied else ()
        # Noise is known to run where it was copied.
        asked = [example, noise_like(example)] if copied else [example]
        low = verified(
            victim.module,
            example,
            lambda: lowering(cheap, lambda v: _slopes(v, example)[1], lambda v: _logits(v, asked), parts),
            (lowering, type(victim)),
        )
        return low.apply(cheap, parts) if low else cheap


@torch.no_grad()
def _logits(victim: Victim, batches: Sequence[Signals]) -> Tensor:
    """Of each batch, with the same draws each time."""
    with same_draws(batches[0].audio.device):
        return torch.cat([victim(x.map(torch.clone)).float() for x in batches])


@torch.no_grad()
def _answer(victim: Victim, x: Signals) -> list[Tensor]:
    """What has to stay the same of the clips."""
    encoded = victim.encoded(x.map(torch.clone))
    return [*map(torch.clone, encoded), *victim.decided(encoded)]


def _slopes(victim: Victim, x: Signals) -> tuple[list[Tensor], AV[Tensor | None]]:
    """What the module encodes, and the gradient of a sum of it, drawn at random."""
    x = x.map(lambda s: s.detach().clone().requires_grad_())
    draw = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        # Not the signals themselves: an encoder may write into what it is given.
        found = victim.encoded(x.map(torch.clone))
        total = torch.stack(
            [(f.float() * torch.randn(f.shape[1:], generator=draw).to(f.device)).sum() for f in found]
        ).sum()
        grads = torch.autograd.grad(total, list(x), allow_unused=True) if total.requires_grad else (None, None)
    return [f.detach() for f in found], AV(*grads)


# The layout of a copy, and what is changed in it.
Plan = tuple[torch.memory_format, list[folding.Change]]


def _copied(victim: Victim, module: nn.Module, example: Signals) -> Victim | None:
    """The victim over a frozen copy, changed where that changes nothing; None if the copy fails or answers otherwise.

    What may be changed is found once, until the model changes: the next copy is made without a run.
    """
    plan = verified(module, example, lambda: _plan(victim, module, example), (surrogate, type(victim)))
    if plan is None:
        return None
    layout, changes = plan
    copied = _copy(victim, module, layout)
    for change in changes:
        change.apply(_module(copied))
    return copied


def _plan(victim: Victim, module: nn.Module, example: Signals) -> Plan | None:
    """How a copy is made; None where there can be none.

    What is changed is verified on the `example` and, with gradients, on as much noise: a silent clip hides much.  All runs are
    of as many clips, for a GPU's libraries prepare each new number of them for long.
    """
    noise, expected = noise_like(example), None
    for layout in (torch.channels_last, torch.contiguous_format):
        try:
            copied = _copy(victim, module, layout)
            expected = expected or (_answer(victim, noise), _answer(victim, example))
            changes = _changed(copied, layout, noise, example, *expected)
        except torch.OutOfMemoryError:
            raise
        except Exception:  # whatever stands in the way of copying a user's modules: the attack needs no copy
            return None
        if changes is not None:
            return layout, changes
    return None


def _copy(victim: Victim, module: nn.Module, layout: torch.memory_format) -> Victim:
    # Laid out as they are copied: a second copy of every weight would leave holes in memory behind.
    laid_out = {id(s): _own(s, layout) for s in (*module.parameters(), *module.buffers()) if _plain(s)}
    return victim.with_module(copy.deepcopy(module, laid_out).eval().requires_grad_(False))


def _module(victim: Victim) -> nn.Module:
    assert victim.module is not None  # a copy is one of a module
    return victim.module


def _changed(
    copied: Victim,
    layout: torch.memory_format,
    noise: Signals,
    example: Signals,
    on_noise: list[Tensor],
    on_example: list[Tensor],
) -> list[folding.Change] | None:
    """Change all layers of a copy that can be; returns the changes, None where it does not answer as the module did."""

    def run() -> tuple[list[Tensor], list[Tensor]]:
        encoded, grads = _slopes(copied, noise)
        with torch.no_grad():
            return [*map(torch.clone, encoded), *copied.decided(encoded)], [g for g in grads if g is not None]

    def same() -> bool:
        try:
            return all(map(agree, before, run())) and agree(on_example, _answer(copied, example))
        except torch.OutOfMemoryError:
            raise
        except Exception:  # a user's code may not take a changed layer, in whichever way
            return False

    net = _module(copied)
    changes, before = folding.candidates(net, run, layout, on_cpu=noise.audio.device.type == "cpu")
    if not agree(on_noise, before[0]):
        return None
    changes = folding.apply(net, changes, same)
    return changes if changes or same() else None


def _plain(s: Tensor) -> bool:
    """Whether it is a parameter or a buffer with nothing to it but its numbers."""
    return type(s) in (nn.Parameter, Tensor) and not vars(s)


def _own(s: Tensor, layout: torch.memory_format) -> Tensor:
    """A parameter or buffer for a copy: on a GPU in the layout if it is the weight of a convolution over images; on a CPU,
    where such weights are laid out layer by layer, a parameter has the memory of the module's."""
    parameter = isinstance(s, nn.Parameter)
    if parameter and s.device.type == "cpu" and not s.is_inference():
        return nn.Parameter(s.detach(), requires_grad=False)
    clone = s.detach().clone(memory_format=layout if s.ndim == 4 else torch.preserve_format)
    return nn.Parameter(clone, requires_grad=False) if parameter else clone
