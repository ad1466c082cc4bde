"""Gradients for those who write an attack of their own: any model in, gradients with respect to its signals out."""

from collections.abc import Sequence
from typing import Any

import torch

from avrobust.engine.recognise import as_victim
from avrobust.engine.victim import GradientError, check_sound
from avrobust.objectives import as_objective
from avrobust.threat import Threat
from avrobust.types import Labels, Model, PerClip, Signals


def gradient(
    model: Model, objective: Any, x: Signals, y: Labels, threat: Threat, ids: Sequence[str] = ()
) -> tuple[PerClip, Signals]:
    """The objective per clip at `x`, and its gradient; 0 for a modality that the threat or the model leaves alone.

    `ids` name the clips in errors.  Works inside `torch.no_grad()` and `torch.inference_mode()` too.  Raises `GradientError`
    where the objective depends on a modality that no gradient reaches, and where a gradient is not finite.

    >>> from avrobust.types import AV, Output
    >>> x = AV(torch.zeros(2, 3), torch.zeros(2, 1, 3, 1, 1))
    >>> value, grad = gradient(lambda x: x.audio, lambda out, y: out.logits[:, 0], x, torch.tensor([0, 1]), Threat.linf(audio=1))
    >>> grad.audio
    tensor([[1., 0., 0.],
            [1., 0., 0.]])
    """
    victim = as_victim(model, x.map(lambda s: s[:1]))
    value, grad, _ = victim.value_and_grad(as_objective(objective), x, y, threat, ignored=set())
    check_sound(value, grad, ids or range(len(y)))
    return value, threat.replaced(x.map(torch.zeros_like), by=grad)


def raw_gradient(model: Model, objective: Any, x: Signals, y: Labels, threat: Threat) -> Signals:
    """The gradient as it comes, to learn about the model: 0 where none arrives, and not always finite."""
    try:
        grad = as_victim(model, x.map(lambda s: s[:1])).value_and_grad(as_objective(objective), x, y, threat)[1]
    except GradientError:  # an operation without a derivative: such a model is attacked without gradients
        return x.map(torch.zeros_like)
    return threat.replaced(x.map(torch.zeros_like), by=grad)
