"""Adaptive attacks: what to take gradients of, where the model's own gradients are useless.

A defense may hide gradients (a sparse code that jumps), weaken them (a feature replaced by its reconstruction) or make
them noisy (random preprocessing).  An adaptive attack takes gradients straight through the defense, bypasses it, or
averages over its randomness, and judges success by the model itself (Athalye et al. 2018; Tramer et al. 2020).
"""

from functools import partial

import torch

from avrobust import engine
from avrobust.engine.recognise import agree
from avrobust.types import Model, Signals

DRAWS = 8  # runs of a random model for one gradient


def ways(victim: engine.Victim, x: Signals) -> tuple[engine.Way, ...]:
    """What to take gradients of when attacking `victim` at the clips `x`: the victim itself first, then ways around a defense.

    For a two-stream network with a feature defense: straight through the defense, and bypassing it.  For any model with a
    method `ways`: the models that it returns.  If two runs on the same clips differ, each way is averaged over draws.

    >>> from avrobust.types import AV
    >>> len(ways(engine.BlackBox(lambda s: s.audio), AV(torch.zeros(2, 3), torch.zeros(2, 3))))
    1
    """
    found = (_itself, *victim.ways(x))
    return tuple(partial(_averaged, way) for way in found) if is_random(victim, x) else found


@torch.no_grad()
def is_random(model: Model, x: Signals) -> bool:
    """Whether two runs of the model on the same clips differ, on one of them at least by its own logits."""
    return not agree(list(model(x)), list(model(x)))


def _itself(victim: engine.Victim) -> engine.Victim:
    return victim


def _averaged(way: engine.Way, victim: engine.Victim) -> engine.Victim:
    return way(victim).averaged(DRAWS)
