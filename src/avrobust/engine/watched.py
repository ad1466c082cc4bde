"""A victim whose answers somebody watches: how a search goes, step by step, whatever search it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from avrobust.engine.behind import Behind
from avrobust.engine.victim import Victim
from avrobust.objectives import Need
from avrobust.types import Output, Signals


@dataclass(frozen=True)
class Watched(Behind):
    """`victim`, unchanged; `told` gets each of its answers, and ends the search by raising an exception.

    >>> from avrobust.engine.blackbox import BlackBox
    >>> from avrobust.types import AV; import torch
    >>> seen: list[Output] = []
    >>> watched = Watched.by(seen.append, BlackBox(lambda x: x.audio))
    >>> watched(AV(torch.ones(1, 2), torch.zeros(1, 1, 3, 1, 1))), len(seen)
    (tensor([[1., 1.]]), 1)
    """

    told: Callable[[Output], Any]

    @classmethod
    def by(cls, told: Callable[[Output], Any], victim: Victim) -> "Watched":
        """The victim, watched."""
        return cls(lambda x: x, victim, told)

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        out = self.victim.output(x, needs)
        self.told(out)
        return out

    def _left(self, x: Signals) -> Signals:
        return x  # itself: nothing to pass gradients through
