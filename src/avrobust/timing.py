"""What an attacker may do in time: a stream comes late or early, or a stretch of it is lost, by so many milliseconds.

Balls like `threat.Ball`, whose members can be counted: geometry only, no search.  No sample and no pixel is perturbed, so a
search along gradients has nothing to do; `attacks.Misaligned` tries them.
"""

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import NDArray
from torch import Tensor

from avrobust.config import check_choices
from avrobust.facts import ModalityBudget
from avrobust.threat import Ball
from avrobust.units import Norm, number

Edge = Literal["silence", "repeat", "circular"]
# Clips are compared in double precision, as differences of float32.
SAME = 1e-6
# To recognise a delay: so many places of a clip are compared first, and all of them only where these agree.
PROBES = 64


@dataclass(frozen=True)
class Timed(Ball):
    """The base: `eps` in milliseconds, of a stream with `rate` samples or frames a second."""

    norm: Norm = "delay"
    rate: float = 16_000

    def __post_init__(self) -> None:
        check_choices(self)
        object.__setattr__(self, "eps", number(self.eps))
        if not (math.isfinite(self.eps) and self.eps >= 0):
            raise ValueError(f"a budget should be a finite number of milliseconds, 0 or more, got {self.eps}.")
        if not self.rate > 0:
            raise ValueError(
                f"rate should be the samples or frames a second, got {self.rate}. Give 16000, for example."
            )

    @property
    def most(self) -> int:
        """The largest whole number of samples, or frames, inside the budget."""
        return math.floor(self.eps * self.rate / 1000 + 1e-9)

    @property
    def budget(self) -> ModalityBudget:
        return ModalityBudget(self.eps, self.norm, self.unit) if self.active else ModalityBudget()

    @abstractmethod
    def places(self, length: int, every_ms: float) -> list[int]:
        """What may be done to a stream of so many samples or frames, as numbers for `moved`, `every_ms` apart."""

    @abstractmethod
    def moved(self, x: Tensor, place: Int[Tensor, " b"]) -> Tensor:
        """The streams `x` with this done to each."""

    @abstractmethod
    def _size(self, adversarial: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
        """How far one stream is from the clean one, in milliseconds; inf if this was not done to it.  Both are (n ...)."""

    def _length(self, delta: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
        flat = clean.reshape(len(clean), -1)
        return self._size(flat + delta.reshape(flat.shape), flat)

    def allowed(self, x: Tensor) -> NDArray[np.float64]:
        return np.full(len(x), self.eps * (1 + 1e-9) + 1e-9)

    def at_rate(self, rate: int) -> "Timed":
        """The same milliseconds of audio of this sampling rate, in Hz."""
        return replace(self, rate=rate)

    def _every(self, every_ms: float) -> int:
        return max(1, round(every_ms * self.rate / 1000))


@dataclass(frozen=True)
class Delay(Timed):
    """A stream late or early against the other by at most `eps` milliseconds, in whole samples or frames.

    What comes in at the `edge` of a clip is "silence" (0: black, of frames), its first or last sample or frame, "repeat", or
    what went out at the other end, "circular".

    >>> late = Delay(2.0, rate=1000)
    >>> late.moved(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([2])), late.places(100, every_ms=1.0)
    (tensor([[0., 0., 1., 2.]]), [0, -1, 1, -2, 2])
    >>> print(late)
    delay 2 ms (silence)
    """

    edge: Edge = "silence"

    @property
    def unit(self) -> str:
        return f"ms ({self.edge})"

    def places(self, length: int, every_ms: float) -> list[int]:
        """Shifts, the shortest first; above 0 is late.  Those of a smaller budget are among those of a larger one."""
        every = self._every(every_ms)
        longest = min(self.most, length - 1) // every * every
        return sorted(range(-longest, longest + 1, every), key=abs)

    def moved(self, x: Tensor, place: Int[Tensor, " b"]) -> Tensor:
        """The streams, each shifted by so many samples or frames."""
        at = torch.arange(x.shape[1], device=x.device) - place.to(x.device)[:, None]
        found = x[torch.arange(len(x), device=x.device)[:, None], self._within(at, x.shape[1])]
        if self.edge != "silence":
            return found
        outside = (at < 0) | (at >= x.shape[1])
        return found.masked_fill(outside.view(*outside.shape, *[1] * (x.ndim - 2)), 0.0)

    def _within(self, at: Tensor, length: int) -> Tensor:
        return at % length if self.edge == "circular" else at.clamp(0, length - 1)

    def _size(self, adversarial: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
        length = len(clean)
        shifts = np.array(self.places(length, 0.0))
        probes = np.unique(np.linspace(0, length - 1, min(length, PROBES)).astype(int))
        columns = np.unique(np.linspace(0, clean.shape[1] - 1, min(clean.shape[1], PROBES)).astype(int))
        near = self._shifted(clean[:, columns], probes - shifts[:, None])
        alike = (np.abs(near - adversarial[np.ix_(probes, columns)]) <= SAME).all((1, 2))
        for shift in shifts[alike]:
            if (np.abs(self._shifted(clean, np.arange(length) - shift) - adversarial) <= SAME).all():
                return abs(int(shift)) * 1000 / self.rate
        return math.inf

    def _shifted(self, clean: NDArray[np.float64], at: NDArray[np.int64]) -> NDArray[np.float64]:
        """The clean stream (n d) at these places, as it is beyond its ends."""
        found = clean[at % len(clean) if self.edge == "circular" else at.clip(0, len(clean) - 1)]
        if self.edge == "silence":
            found[(at < 0) | (at >= len(clean))] = 0.0
        return found


@dataclass(frozen=True)
class Outage(Timed):
    """A stretch of a stream of at most `eps` milliseconds is lost: silence, black frames.

    >>> lost = Outage(2.0, rate=1000)
    >>> lost.moved(torch.ones(1, 4), torch.tensor([1])), lost.places(4, every_ms=1.0), str(lost)
    (tensor([[1., 0., 0., 1.]]), [0, 1, 2], 'outage 2 ms')
    """

    norm: Norm = "outage"

    @property
    def unit(self) -> str:
        return "ms"

    def places(self, length: int, every_ms: float) -> list[int]:
        """Where the stretch may begin: of the longest one, which contains any shorter."""
        last = max(0, length - self.most)
        return [*range(0, last, self._every(every_ms)), last]

    def moved(self, x: Tensor, place: Int[Tensor, " b"]) -> Tensor:
        """The streams, each without a stretch that begins there."""
        since = torch.arange(x.shape[1], device=x.device) - place.to(x.device)[:, None]
        gone = (since >= 0) & (since < self.most)
        return x.masked_fill(gone.view(*gone.shape, *[1] * (x.ndim - 2)), 0.0)

    def _size(self, adversarial: NDArray[np.float64], clean: NDArray[np.float64]) -> float:
        changed = np.flatnonzero(np.abs(adversarial - clean).max(1) > SAME)
        if not len(changed):
            return 0.0
        stretch = slice(changed[0], changed[-1] + 1)
        return (
            float(np.inf)
            if np.abs(adversarial[stretch]).max() > SAME
            else (stretch.stop - stretch.start) * 1000 / self.rate
        )


def timed(threat: Iterable[Ball]) -> list[Timed]:
    """Those of the balls that are budgets in time, and count.

    >>> timed([Ball(0.1), Delay(40.0), Delay(0.0)])
    [Delay(eps=40.0, norm='delay', scale=(1.0,), low=-inf, high=inf, rate=16000, edge='silence')]
    """
    return [ball for ball in threat if isinstance(ball, Timed) and ball.active]


def refuse_timed(threat: Iterable[Ball]) -> None:
    """Raise `ValueError` for a budget in time: of a search that moves samples and pixels."""
    for ball in timed(threat):
        raise ValueError(
            f"expected a budget for samples or pixels, got one in time, {ball.budget}, inside which no perturbation lies. "
            "Use attacks.Misaligned."
        )


__all__ = ["Delay", "Outage"]
