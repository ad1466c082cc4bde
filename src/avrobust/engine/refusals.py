"""Whether a gradient that is wanted is there: the path from a signal to what an attacker raises.

A model may ignore a signal, and then there is no gradient to be had.  A model that depends on a signal and gives no
gradient for it hides: a search would return the clip as it was, and the model would look robust.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from avrobust.types import AV, RANGE, InputError, PerClip, Signals

# All that an objective and the logits behind it say of some signals.
Answer = Callable[[Signals], Sequence[Tensor]]
SAME = 1e-5  # answers that agree to this share of their size are the same
NOISE = 10.0  # times what asking again changes: what changes more was changed by the signal


class GradientError(InputError):
    """A gradient that a search needs is not there, or not finite."""


def no_path(signal: str, cause: str) -> GradientError:
    """The refusal of a model from whose answer no gradient leads back to a signal."""
    return GradientError(
        f"expected a model through which gradients reach the {signal}, got {cause}. Look between signals and logits for "
        "torch.no_grad, inference mode, .detach(), .item() and NumPy, or attack without gradients: Square."
    )


def depends(answer: Answer, x: Signals, signal: str) -> bool:
    """Whether the answer changes with the audio, or the visual, signals `x`, as far as large changes show.

    >>> x = AV(torch.rand(2, 8), torch.rand(2, 1, 3, 4, 4))
    >>> depends(lambda x: [x.audio.round()], x, "audio"), depends(lambda x: [x.audio.round()], x, "visual")
    (True, False)
    """
    before = _asked(answer, x)
    noise = NOISE * _apart(before, _asked(answer, x))
    return any(_apart(before, _asked(answer, other)) > noise + SAME for other in _changed(x, signal))


def _changed(x: Signals, signal: str) -> Iterator[Signals]:
    """The clips with noise instead of one signal, with the next clip's, and with its negative."""
    (low, high), s = getattr(RANGE, signal), getattr(x, signal)
    noise = torch.rand(s.shape, generator=torch.Generator().manual_seed(0)).to(s)
    for other in (low + (high - low) * noise, s.roll(1, 0), low + high - s):
        yield AV(**(dict(x.items()) | {signal: other}))


def _asked(answer: Answer, x: Signals) -> list[Tensor]:
    """Without gradients, and with the same draws each time, as far as they are torch's."""
    devices = [x.audio.device] if x.audio.is_cuda else []
    with torch.no_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(0)
        return [part.detach().float().nan_to_num(nan=1e30) for part in answer(x)]


def _apart(a: Sequence[Tensor], b: Sequence[Tensor]) -> float:
    """The largest difference, as a share of the size of what differs."""
    pairs = [(p, q) for p, q in zip(a, b, strict=True) if p.numel()]
    return max((float((p - q).abs().max() / p.abs().max().clamp_min(1e-30)) for p, q in pairs), default=0.0)


def check_finite(value: PerClip, grad: Signals, names: Sequence[str]) -> None:
    """Refuse values that are no number, and gradients that are not finite; `names` are the clips'."""
    for what, bad in [("value", value.isnan())] + [
        (f"gradient for the {name}", ~g.flatten(1).isfinite().all(1)) for name, g in grad.items()
    ]:
        if bad.any():
            raise GradientError(
                f"expected a finite {what} on every clip, got one that is not on clip '{names[int(bad.nonzero()[0])]}' "
                f"({int(bad.sum())} of {len(bad)} clips), although the answer there is finite. Look for sqrt, log, norm, "
                "atan2, a power or a division at 0 in the model or the objective, and keep it away from 0: (s + 1e-8).sqrt()."
            )
