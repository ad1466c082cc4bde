"""The copy of a network that gradients are taken of: frozen, folded, laid out channels-last, in low precision if asked.

Low precision is never chosen for anybody: near 0.5 the numbers of bfloat16 lie a grey level apart, and smaller budgets
are lost on their way into the network.  What is *reported* about a model is never taken from here: the harness asks the
user's own model, in its own precision.
"""

import copy
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import nn

from avrobust.engine.folding import alike, fold_batchnorm, rectify_in_place
from avrobust.engine.victim import TwoStream, as_victim, normal
from avrobust.models.network import AVNet
from avrobust.types import InputError, Model, Signals

Precision = Literal["auto", "float32", "bfloat16"]


def surrogate(model: Model, example: Signals, precision: str = "auto") -> Model:
    """A cheap stand-in for `model` to take gradients of; what is no `AVNet`, or cannot be copied, stays as it is.

    For an `AVNet`: a frozen, folded, channels-last copy.  Its `precision` "auto" is float32 on every machine: an attack
    is never weaker for being cheap.
    `example` is a clip or more, on which the folding is verified.  Raises `InputError` for a precision that is none of these.
    """
    if precision not in get_args(Precision):
        raise InputError(f"precision should be 'auto', 'float32' or 'bfloat16', got {precision!r}.")
    streams = as_victim(model)
    if not isinstance(streams, TwoStream):
        return model
    streams = replace(streams, dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32)
    with torch.inference_mode(False):
        net = _copy(streams.net)
        example = example.map(normal)
        if net is None or not alike(net, streams.net, example):
            return streams
        fold_batchnorm(net, example)
        rectify_in_place(net, example)
        if streams.dtype == torch.bfloat16:
            for encoder in net.encoders:  # what follows them is small, and stays in float32
                for module in encoder.modules():
                    if isinstance(module, nn.Conv2d | nn.Conv1d | nn.Linear):
                        module.to(torch.bfloat16)
    return replace(streams, net=net)


def _copy(net: AVNet) -> AVNet | None:
    """A frozen copy, weights of pictures laid out channels-last; None of what cannot be copied."""
    # Laid out as they are copied: a second copy of every weight would leave holes in memory behind.
    laid_out = {
        id(weight): nn.Parameter(weight.detach().clone(memory_format=torch.channels_last))
        for m in net.modules()
        # A weight that is computed (weight norm, parametrisations) is no parameter, and another tensor each time.
        if isinstance(m, nn.Conv2d) and type(weight := m._parameters.get("weight")) is nn.Parameter
    }
    try:
        return copy.deepcopy(net, laid_out).eval().requires_grad_(False)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever stands in the way of copying somebody's modules: the attack needs no copy
        return None
