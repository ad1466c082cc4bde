"""The gradient with respect to signals, as cheap as the model at hand allows.  Known to no attack by name.

A search may hold many clips; the network takes a chunk of them at a time.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from avrobust.engine.chunks import cat, joined
from avrobust.engine.outcome import ValueAndGrad, check_value, outcome, record_logits
from avrobust.engine.refusals import Answer, GradientError, check_finite, depends, no_path
from avrobust.engine.victim import TwoStream, is_absent, map_chunks, normal, subset, with_normal_tensors
from avrobust.objectives import margin
from avrobust.threat import Threat
from avrobust.types import AV, Model, Objective, PerClip, Signals


def gradient(
    model: Model, objective: Objective, x: Signals, y: Tensor, threat: Threat, ids: Sequence[str] = ()
) -> tuple[PerClip, Signals]:
    """The objective per clip at `x`, and its gradient; 0 for a modality that the threat or the model leaves alone.

    Raises `GradientError` where the objective depends on a modality that no gradient reaches, and where a gradient is
    not finite; `ids` name the clips.  Holds inside `torch.no_grad()` and `torch.inference_mode()` too.
    """
    value, grad, _ = checked(value_and_grad(model, objective, x, y, y, threat, ignored=set()), ids or range(len(y)))
    return value, grad


def raw_gradient(model: Model, objective: Objective, x: Signals, y: Tensor, threat: Threat) -> Signals:
    """The gradient as it comes, to learn what a model is like: 0 where none arrives, and not always finite."""
    try:
        return value_and_grad(model, objective, x, y, y, threat)[1]
    except GradientError:  # an operation without a derivative: such a model is attacked without gradients
        return x.map(torch.zeros_like)


def value_and_grad(
    model: Model,
    objective: Objective,
    x: Signals,
    goal: Tensor,
    y: Tensor,
    threat: Threat,
    delta: Signals | None = None,
    ignored: set[str] | None = None,
) -> ValueAndGrad:
    """What the objective gets for its `goal` at x + delta, as many clips at a time as the model has room for.

    `ignored` are the modalities that are known to change nothing, and grows; without it, nobody asks why a gradient lacks.
    """
    if (
        isinstance(model, TwoStream)
        and (kept := model.clean_gradients)
        and goal is y
        and kept.holds(x, delta, y, threat)
    ):
        return kept(model, objective, threat, ignored)

    def part(on: slice) -> ValueAndGrad:
        those, allowed = subset(model, on), threat.for_clips(on)
        at = x.map(lambda s: s[on])
        if delta is not None:
            at = shift(at, delta.map(lambda d: d[on]), allowed)
        asked, heard = record_logits(those)
        value, grad = _gradient(asked, objective, at, goal[on], allowed)
        heard = heard[-1:]
        if ignored is not None:
            for name in (n for n, g in grad.items() if g is None and getattr(allowed, n).active and n not in ignored):
                if not is_absent(those, name) and depends(_answer(those, objective, goal[on]), at, name):
                    raise no_path(name, "an answer that depends on it without one")
                ignored.add(name)
        value, won = outcome(value, those, heard, objective if goal is y else margin, y[on])
        # Nothing is left to raise where a value is infinite.
        grads = grad.map(
            lambda g, s: torch.zeros_like(s) if g is None else torch.where(per_clip(value.isinf(), g), 0.0, g), at
        )
        return value, grads, won

    values, grads, won = zip(*map_chunks(model, x, part), strict=True)
    return cat(values), joined(grads), cat(won)


def _gradient(
    model: Model, objective: Objective, x: Signals, y: Tensor, threat: Threat
) -> tuple[PerClip, AV[Tensor | None]]:
    """The objective and its gradient; None where there is none."""
    # No gradient can be taken of tensors from an inference mode: of those that came from one, a copy.
    with torch.inference_mode(False), torch.enable_grad():
        x = threat.map(lambda ball, s: normal(s).detach().requires_grad_(ball.active), x)
        wanted = [s for s in x if s.requires_grad]
        try:
            # A model of somebody's own may write into what it is given.
            lent = x if isinstance(model, TwoStream) else x.map(torch.clone)
            value = objective(with_normal_tensors(model), lent, normal(y))
            check_value(value, objective, len(y))
            total = value.sum()  # a sum: each clip keeps its own gradient
            found = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else ()
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError) as error:
            with torch.no_grad():
                # What fails anyway, fails as it is.
                objective(with_normal_tensors(model), x.map(torch.clone), normal(y))
            raise no_path(" and the ".join(n for n, s in x.items() if s.requires_grad), f"'{error}'") from error
    left = iter(found or [None] * len(wanted))
    return value.detach(), x.map(lambda s: next(left) if s.requires_grad else None)


def _answer(model: Model, objective: Objective, y: Tensor) -> Answer:
    """What the objective says, and the logits that it says it of."""

    def answer(x: Signals) -> list[Tensor]:
        asked, heard = record_logits(model)
        return [objective(asked, x, y), *heard[-1:]]

    return answer


def checked(looked: ValueAndGrad, names: Sequence[object]) -> ValueAndGrad:
    """What was looked at, if a search can go on from there.  One question for all clips, for a GPU waits for the answer."""
    value, grad, _ = looked
    sound = ~value.isnan()
    for g in grad:
        sound = sound & g.flatten(1).sum(1).isfinite()
    if not bool(sound.all()):
        check_finite(value, grad, [str(name) for name in names])
    return looked


def shift(x: Signals, delta: Signals, threat: Threat) -> Signals:
    """x + delta; an untouched modality is the clean tensor itself, so that it stays identical bit for bit."""
    return threat.map(lambda ball, s, d: (s + d).clamp(ball.low, ball.high) if ball.active else s, x, delta)


def per_clip(clips: Tensor, like: Tensor) -> Tensor:
    """One number per clip, to be combined with signals shaped as `like`."""
    return clips.view(-1, *[1] * (like.ndim - 1))
