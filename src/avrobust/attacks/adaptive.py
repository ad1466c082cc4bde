"""Ways around a defense: what to take gradients of, where the model's own are of no use.

A defense may hide gradients (a code that jumps), weaken them (a feature replaced by its reconstruction) or make them
noisy (random preprocessing).  An attack that adapts takes them of something else and judges by the model itself:
straight through the defense, past it, or of the mean over its draws (Athalye et al. 2018; Tramer et al. 2020).
"""

from functools import partial

import torch

from avrobust import engine
from avrobust.types import Model, Signals

DRAWS = 8  # of a random model, for one gradient


def ways(victim: engine.Victim, x: Signals) -> tuple[engine.Way, ...]:
    """What to take gradients of when attacking `victim` at the clips `x`: itself first, then what leads around a defense.

    For a two-stream network with a feature defense: straight through the feature defense, and bypassing it.  For any model
    with a method `ways`: the models that it returns.  Where two runs on the same clips differ, each is averaged over draws.

    >>> from avrobust.types import AV
    >>> len(ways(engine.BlackBox(lambda s: s.audio), AV(torch.zeros(2, 3), torch.zeros(2, 3))))
    1
    """
    found = (_itself, *victim.ways(x))
    return tuple(partial(_averaged, way) for way in found) if is_random(victim, x) else found


@torch.no_grad()
def is_random(model: Model, x: Signals) -> bool:
    """Whether the model answers the same clips differently when it is asked again."""
    first, again = model(x), model(x)
    return not torch.allclose(first, again, rtol=1e-3, atol=1e-3 * float(first.abs().max()))


def _itself(victim: engine.Victim) -> engine.Victim:
    return victim


def _averaged(way: engine.Way, victim: engine.Victim) -> engine.Victim:
    return way(victim).averaged(DRAWS)
