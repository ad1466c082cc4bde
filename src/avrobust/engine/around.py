"""Victims around another one: behind a channel, which clips pass before the model sees them; watched; given a few clips at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor

from avrobust.engine.chunks import ChunkSize, cat
from avrobust.engine.victim import Victim, Way
from avrobust.objectives import Need
from avrobust.threat import Threat
from avrobust.types import Channel, Output, Signals

T = TypeVar("T")


@dataclass(frozen=True)
class Around(Victim):
    """Another victim, inside: the answers are that one's, to what `inside` makes of the clips.

    A subclass says what that is, or what becomes of the answers.  What is cached of clips is cached of what is inside.
    """

    victim: Victim

    def inside(self, x: Signals) -> Signals:
        """What the victim inside is given of the clips `x`, each by itself."""
        return x

    @property
    def precision(self) -> torch.dtype:
        return self.victim.precision

    @property
    def rounding(self) -> float:
        return self.victim.rounding

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        return self.victim.output(self.inside(x), needs)

    def subset(self, clips: Any) -> "Around":
        return replace(self, victim=self.victim.subset(clips))

    def fix_unattacked(self, x: Signals, threat: Threat, needs: Sequence[Need] = ()) -> "Around":
        return replace(self, victim=self.victim.fix_unattacked(self.inside(x), threat, needs))

    def in_precision(self, precision: torch.dtype, rounding: float = 0.0) -> "Around":
        return replace(self, victim=self.victim.in_precision(precision, rounding))

    def averaged(self, draws: int) -> "Around":
        return replace(self, victim=self.victim.averaged(draws))

    def ways(self, x: Signals) -> tuple[Way, ...]:
        return tuple(partial(_inside, way) for way in self.victim.ways(self.inside(x)))

    def map_chunks(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        return self.victim.map_chunks(x, work)


def _inside(way: Way, around: Around) -> Around:
    return replace(around, victim=way(around.victim))


@dataclass(frozen=True)
class Behind(Around):
    """A victim that is given what `channel` leaves of clips; gradients pass the channel straight through.

    Straight-through, as Bengio et al. 2013 pass a threshold and Athalye et al. 2018 a defense.  The channel treats each clip
    and each modality by itself.

    >>> from avrobust.engine.blackbox import BlackBox
    >>> from avrobust.types import AV
    >>> victim = Behind(BlackBox(lambda x: x.audio), lambda x: x.map(torch.round))
    >>> victim(AV(torch.tensor([[0.6]]), torch.zeros(1, 1, 3, 1, 1)))
    tensor([[1.]])
    """

    channel: Channel

    def inside(self, x: Signals) -> Signals:
        """What the channel leaves, with the gradient of what went in."""
        left = self.channel(x.map(Tensor.detach))
        return x.map(lambda s, c: s + (c - s.detach()), left)


@dataclass(frozen=True)
class Watched(Around):
    """A victim whose answers somebody watches: `told` gets each of them, and ends a search by raising an exception.

    >>> from avrobust.engine.blackbox import BlackBox
    >>> from avrobust.types import AV
    >>> seen: list[Output] = []
    >>> watched = Watched(BlackBox(lambda x: x.audio), seen.append)
    >>> watched(AV(torch.ones(1, 2), torch.zeros(1, 1, 3, 1, 1))), len(seen)
    (tensor([[1., 1.]]), 1)
    """

    told: Callable[[Output], Any]

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        out = super().output(x, needs)
        self.told(out)
        return out


@dataclass(frozen=True)
class FewAtOnce(Around):
    """A victim that is given at most `clips` at a time, as many as fit into memory.

    >>> from avrobust.engine.blackbox import BlackBox
    >>> from avrobust.types import AV
    >>> few = FewAtOnce(BlackBox(lambda x: torch.full((len(x.audio), 1), len(x.audio))), clips=2)
    >>> few(AV(torch.zeros(3, 8), torch.zeros(3, 1, 3, 1, 1))).flatten()
    tensor([2, 2, 1])
    """

    clips: int

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        inside = super().output
        first, *others = self.map_chunks(x, lambda on: inside(x.map(lambda s: s[on]), needs))
        return first.map(lambda *parts: cat(parts), *others)

    def map_chunks(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        return ChunkSize(self.clips * sum(s.shape[1:].numel() for s in x)).map(x, work)
