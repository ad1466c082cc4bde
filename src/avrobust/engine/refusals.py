"""Missing and broken gradients: is there a path from a signal to the objective?

A model may ignore a signal; then its gradient is zero.  A model that depends on a signal without a gradient hides: a
search would return the clean clip, and the model would look robust.  That is refused.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from avrobust.engine.draws import same_draws
from avrobust.types import AV, RANGE, InputError, PerClip, Signals

# The objective and the logits at some signals.
Answer = Callable[[Signals], Sequence[Tensor]]
SAME = 1e-5  # relative difference below which two answers are the same
NOISE = 10.0  # times the difference between two runs: a larger difference comes from the signal


class GradientError(InputError):
    """A gradient that a search needs is missing or not finite."""


def no_path(signal: str, cause: str) -> GradientError:
    """The error for a model whose answer has no gradient with respect to a signal."""
    return GradientError(
        f"expected a model through which gradients reach the {signal}, got {cause}. Look between signals and logits for "
        "torch.no_grad, inference mode, .detach(), .item() and NumPy, or attack without gradients: Square."
    )


def depends(answer: Answer, x: Signals, signal: str) -> bool:
    """Whether the answer changes when one modality of `x` is replaced by noise, another clip, and its negative.

    >>> x = AV(torch.rand(2, 8), torch.rand(2, 1, 3, 4, 4))
    >>> depends(lambda x: [x.audio.round()], x, "audio"), depends(lambda x: [x.audio.round()], x, "visual")
    (True, False)
    """
    before = _asked(answer, x)
    noise = NOISE * _apart(before, _asked(answer, x))
    return any(_apart(before, _asked(answer, other)) > noise + SAME for other in _changed(x, signal))


def _changed(x: Signals, signal: str) -> Iterator[Signals]:
    """The clips with one modality replaced: by noise, by the next clip's, by its negative."""
    (low, high), s = getattr(RANGE, signal), getattr(x, signal)
    noise = torch.rand(s.shape, generator=torch.Generator().manual_seed(0)).to(s)
    for other in (low + (high - low) * noise, s.roll(1, 0), low + high - s):
        yield AV(**(dict(x.items()) | {signal: other}))


def _asked(answer: Answer, x: Signals) -> list[Tensor]:
    """The answer without gradients, and with torch's random state the same each time."""
    with torch.no_grad(), same_draws(x.audio.device):
        return [part.detach().float().nan_to_num(nan=1e30) for part in answer(x)]


def _apart(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The largest relative difference."""
    pairs = [(p, q) for p, q in zip(a, b, strict=True) if p.numel()]
    return max((float((p - q).abs().max() / p.abs().max().clamp_min(1e-30)) for p, q in pairs), default=0.0)


def check_finite(value: PerClip, grad: Signals | None, names: Sequence[str]) -> None:
    """Raise `GradientError` for values that are nan, and gradients that are not finite; `names` are the clips'."""
    for what, bad in [("value", value.isnan())] + [
        (f"gradient for the {name}", ~g.flatten(1).isfinite().all(1)) for name, g in (grad.items() if grad else ())
    ]:
        if bad.any():
            raise GradientError(
                f"expected a finite {what} on every clip, got one that is not on clip '{names[int(bad.nonzero()[0])]}' "
                f"({int(bad.sum())} of {len(bad)} clips), although the answer there is finite. Look for sqrt, log, norm, "
                "atan2, a power or a division at 0 in the model or the objective, and keep it away from 0: (s + 1e-8).sqrt()."
            )
