"""The same draws of torch, again and again: what a random model answers can then be compared."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

GPUS = ("cuda", "xpu")  # whose random state can be read and put back, one by one


@contextmanager
def same_draws(device: torch.device) -> Iterator[None]:
    """Inside, torch draws the same numbers each time, here and on `device`; afterwards it goes on as if nothing had been drawn.

    On no other device: each that is merely asked for its state would be set up, at the cost of its memory.  Apple's MPS
    cannot be asked like the others: it goes on from the seed.

    >>> with same_draws(torch.device("cpu")):
    ...     first = torch.rand(2)
    >>> with same_draws(torch.device("cpu")):
    ...     bool((torch.rand(2) == first).all())
    True
    """
    with torch.random.fork_rng([device] if device.type in GPUS else [], device_type=device.type):
        torch.default_generator.manual_seed(0)  # `torch.manual_seed` would seed every GPU, and only one is put back
        if device.type in GPUS:
            with getattr(torch, device.type).device(device):
                getattr(torch, device.type).manual_seed(0)
        elif device.type == "mps":
            torch.mps.manual_seed(0)
        yield
