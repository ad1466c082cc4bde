"""The model under attack: what a search may ask of it, whatever the model is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from avrobust.engine.chunks import cat, joined
from avrobust.engine.outcome import outcome, value_of
from avrobust.engine.refusals import GradientError, check_finite, depends, no_path
from avrobust.objectives import Need, Objective, needs_of
from avrobust.threat import Threat
from avrobust.types import AV, Labels, Output, PerClip, Signals

T = TypeVar("T")
# The objective at some signals, its gradient, and on which clips the attacker has surely succeeded.
ValueAndGrad = tuple[PerClip, Signals, Bool[Tensor, " b"]]


class Victim(ABC):
    """A model under attack.  Calling it gives logits, as the model itself does.

    A search uses `output`, `value_and_grad`, `value`, `subset` and `fix_unattacked`; adaptive attacks also use `ways` and
    `averaged`.  The caches that the evaluation asks for do nothing where they do not apply.
    """

    @property
    def precision(self) -> torch.dtype:
        """The precision in which the engine runs the model."""
        return torch.float32

    @property
    def rounding(self) -> float:
        """How far its logits may be off the model's, where that was measured: see `lowprecision`."""
        return 0.0

    @property
    def why(self) -> str:
        """Why a model that shows two streams is attacked as a black box, in words; "" where there is nothing to say."""
        return ""

    @property
    def any_batch(self) -> bool:
        """Whether batches may be joined: the victim chunks them itself, and each clip's answer is independent of its batch."""
        return False

    @abstractmethod
    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        """The model's answer to the clips `x`, with what an objective `needs` besides logits, as far as the model has it."""

    @abstractmethod
    def subset(self, clips: Any) -> "Victim":
        """The same victim with its cache for some of the clips only, by any index."""

    @abstractmethod
    def fix_unattacked(self, x: Signals, threat: Threat, needs: Sequence[Need] = ()) -> "Victim":
        """The same victim, the streams that `threat` leaves alone computed once, at the clean `x`.

        With "clean" among the `needs`, it also keeps its answer to `x` for objectives that compare with that.
        """

    @abstractmethod
    def in_precision(self, precision: torch.dtype, rounding: float = 0.0) -> "Victim":
        """The same victim run in float32 or bfloat16, where its logits may be off by `rounding`."""

    @abstractmethod
    def averaged(self, draws: int) -> "Victim":
        """The same victim answering with mean logits over `draws` runs: its gradient is that of an expectation (EOT)."""

    @abstractmethod
    def ways(self, x: Signals) -> "tuple[Way, ...]":
        """Ways around the model's defense: see `attacks.adaptive`."""

    def map_chunks(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        """The results of `work`, chunk by chunk; any callable gets the whole batch, as the user chose its size."""
        return [work(slice(None))]

    def __call__(self, x: Signals) -> Tensor:
        return self.output(x).logits

    def value_and_grad(
        self,
        objective: Objective,
        x: Signals,
        y: Labels,
        threat: Threat,
        delta: Signals | None = None,
        ignored: set[str] | None = None,
    ) -> ValueAndGrad:
        """The objective at x + delta, its gradient, and on which clips the attacker has surely succeeded.

        Perturbation and gradient have no numbers of a modality that the threat leaves alone: see `Threat.attacked`.  The gradient is
        0 for a modality that the model leaves alone, and on clips whose value is infinite, because their logits are not finite.
        `ignored` are the modalities known to change nothing, and grows; without it, nobody
        checks why a gradient is missing.  Raises `GradientError` where the objective depends on a modality that no gradient
        reaches, `InputError` where it is not one number per clip.
        """

        def part(on: slice) -> ValueAndGrad:
            here, allowed, labels = self.subset(on), threat.for_clips(on), y[on]
            at = x.map(lambda s: s[on])
            if delta is not None:
                at = shift(at, delta.map(lambda d: d[on]), allowed)
            value, grad, out = here._gradient(objective, at, labels, allowed)
            if ignored is not None:
                for name, g in grad.items():
                    if g is None and getattr(allowed, name).active and name not in ignored:
                        if depends(lambda x: here._answer(objective, x, labels), at, name):
                            raise no_path(name, "an answer that depends on it without one")
                        ignored.add(name)
            value, won = outcome(value, out, objective, labels, here.precision, here.rounding)
            # Nothing is left to raise where a value is infinite.
            grads = grad.map(
                lambda g, s: torch.zeros_like(s) if g is None else g.masked_fill(per_clip(value.isinf(), g), 0.0),
                allowed.attacked(at),
            )
            return value, grads, won

        values, grads, won = zip(*self.map_chunks(x, part), strict=True)
        return cat(values), joined(grads), cat(won)

    @torch.no_grad()
    def value(
        self, objective: Objective, x: Signals, y: Labels, threat: Threat, delta: Signals
    ) -> tuple[PerClip, Bool[Tensor, " b"]]:
        """The objective at x + delta, and on which clips the attacker has surely succeeded."""
        out = self.output(shift(x, delta, threat), needs_of(objective))
        value = value_of(objective, out, y)
        return outcome(value, out, objective, y, self.precision, self.rounding)

    def _gradient(
        self, objective: Objective, x: Signals, y: Labels, threat: Threat
    ) -> tuple[PerClip, AV[Tensor | None], Output]:
        """The objective and its gradient, None where there is none, and the answer that they were taken of."""
        # No gradient can be taken of tensors made in inference mode: of those, a copy.
        with torch.inference_mode(False), torch.enable_grad():
            x = threat.map(lambda ball, s: normal(s).detach().requires_grad_(ball.active), x)
            y, wanted = normal(y), [s for s in x if s.requires_grad]
            try:
                out = self.output(x, needs_of(objective))
                out = replace(out, clean=out.clean and out.clean.map(normal))
                value = value_of(objective, out, y)
                total = value.sum()  # a sum: each clip keeps its own gradient
                found = torch.autograd.grad(total, wanted, allow_unused=True) if total.requires_grad else ()
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError) as error:
                with torch.no_grad():
                    # An error that comes without gradients too is raised as it is.
                    value_of(objective, self.output(x.map(torch.clone), needs_of(objective)), y)
                raise no_path(" and the ".join(n for n, s in x.items() if s.requires_grad), f"'{error}'") from error
        left = iter(found or [None] * len(wanted))
        return value.detach(), x.map(lambda s: next(left) if s.requires_grad else None), out.map(Tensor.detach)

    def _answer(self, objective: Objective, x: Signals, y: Labels) -> list[Tensor]:
        out = self.output(x, needs_of(objective))
        return [value_of(objective, out, y), out.logits]

    # What a cheap copy may stand for: see `surrogate`.

    @property
    def module(self) -> nn.Module | None:
        """The module behind the victim, where there is one and nothing but it."""
        return None

    def with_module(self, module: nn.Module) -> "Victim":
        """The same victim over another module of the same form."""
        return self

    def encoded(self, x: Signals) -> list[Tensor]:
        """What the module computes of `x` before any feature defense: what has to stay the same in a copy."""
        return [self(x)]

    def decided(self, encoded: list[Tensor]) -> list[Tensor]:
        """What the module computes of that in turn, the feature defense left out: it may be random."""
        return []

    @property
    def parts(self) -> Sequence[nn.Module]:
        """What runs in `precision`: an encoder for audio and one for visual, one module for both, or nothing that is known."""
        return () if self.module is None else (self.module,)

    # What the evaluation shares between attacks.

    @property
    def cached(self) -> int:
        """How many numbers it holds of the clips at hand."""
        return 0

    def cache_embeddings(self, x: Signals) -> "Victim":
        """The same victim with both embeddings of the clean `x` cached, shared by all attacks on these clips."""
        return self

    def cache_clean_gradients(self, x: Signals, y: Labels) -> "Victim":
        """The same victim with its gradients at the clean `x` cached: as much memory as `x`, for each objective."""
        return self

    def without_clean_gradients(self) -> "Victim":
        """The same victim for a search that has left the clean clips: each step would look whether it is there again."""
        return self

    def without_cache(self) -> "Victim":
        """The same victim without any cache, for any clips."""
        return self

    def fix_at(self, x: Signals) -> "Victim":
        """The same victim for the clips `x` only, both embeddings cached."""
        return self

    def mix_modalities(self, visual: Any) -> "Victim":
        """The same victim with the visual embeddings that `visual` has cached; both are results of `fix_at` for the same clips."""
        return self

    def join(self, others: Sequence[Any]) -> "Victim":
        """The same victim with the embeddings that `others` have cached for other clips as well."""
        return self


# From the victim, for its clips, to the victim that gradients are taken of instead.
Way = Callable[[Victim], Victim]


def sound(value: PerClip, grad: Signals | None = None) -> Bool[Tensor, ""]:
    """Whether a search can go on from these, as a tensor: a GPU waits only where it is read."""
    fine = ~value.isnan()
    for g in grad or ():
        fine = fine & g.flatten(1).sum(1).isfinite()
    return fine.all()


def check_sound(value: PerClip, grad: Signals | None, names: Sequence[object]) -> None:
    """Raise `GradientError` where a search cannot go on; `names` are the clips'."""
    if not bool(sound(value, grad)):
        check_finite(value, grad, [str(name) for name in names])


def shift(x: Signals, delta: Signals, threat: Threat) -> Signals:
    """x + delta; an unattacked modality is the clean tensor itself, so that it stays identical bit for bit.

    >>> x = AV(torch.zeros(1, 2), torch.zeros(1, 1, 3, 1, 1))
    >>> shift(x, x.map(lambda s: s + 0.5), Threat.linf(audio=0.5)).audio
    tensor([[0.5000, 0.5000]])
    """
    return threat.map(lambda ball, s, d: (s + d).clamp_(ball.low, ball.high) if ball.active else s, x, delta)


def per_clip(clips: Tensor, like: Tensor) -> Tensor:
    """One number per clip, shaped to be combined with signals like `like`.

    >>> per_clip(torch.ones(2), torch.zeros(2, 3, 4)).shape
    torch.Size([2, 1, 1])
    """
    return clips.view(-1, *[1] * (like.ndim - 1))


def normal(s: Tensor) -> Tensor:
    """A tensor that autograd may use: a copy, where `s` was made in inference mode."""
    return s.clone() if s.is_inference() else s


__all__ = ["GradientError", "ValueAndGrad", "Victim", "Way", "check_sound", "normal", "per_clip", "shift", "sound"]
