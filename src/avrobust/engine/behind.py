"""A victim behind a channel: what storing or sending does to clips happens before the model sees them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from avrobust.engine.victim import Victim, Way
from avrobust.objectives import Need
from avrobust.threat import Threat
from avrobust.types import Channel, Output, Signals

T = TypeVar("T")


@dataclass(frozen=True)
class Behind(Victim):
    """`victim`, given what `channel` leaves of clips; gradients pass the channel straight through.

    Straight-through, as Bengio et al. 2013 pass a threshold and Athalye et al. 2018 a defense.  The channel treats each clip
    and each modality by itself.

    >>> from avrobust.engine.blackbox import BlackBox
    >>> from avrobust.types import AV
    >>> victim = Behind(lambda x: x.map(torch.round), BlackBox(lambda x: x.audio))
    >>> victim(AV(torch.tensor([[0.6]]), torch.zeros(1, 1, 3, 1, 1)))
    tensor([[1.]])
    """

    channel: Channel
    victim: Victim

    @property
    def precision(self) -> torch.dtype:
        return self.victim.precision

    @property
    def rounding(self) -> float:
        return self.victim.rounding

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        return self.victim.output(self._left(x), needs)

    def subset(self, clips: Any) -> "Behind":
        return replace(self, victim=self.victim.subset(clips))

    def fix_unattacked(self, x: Signals, threat: Threat, needs: Sequence[Need] = ()) -> "Behind":
        return replace(self, victim=self.victim.fix_unattacked(self._left(x), threat, needs))

    def in_precision(self, precision: torch.dtype, rounding: float = 0.0) -> "Behind":
        return replace(self, victim=self.victim.in_precision(precision, rounding))

    def averaged(self, draws: int) -> "Behind":
        return replace(self, victim=self.victim.averaged(draws))

    def ways(self, x: Signals) -> tuple[Way, ...]:
        return tuple(partial(_inside, way) for way in self.victim.ways(self._left(x)))

    def map_chunks(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        return self.victim.map_chunks(x, work)

    def _left(self, x: Signals) -> Signals:
        """What the channel leaves, with the gradient of what went in."""
        left = self.channel(x.map(Tensor.detach))
        return x.map(lambda s, c: s + (c - s.detach()), left)


def _inside(way: Way, behind: Behind) -> Behind:
    return replace(behind, victim=way(behind.victim))
