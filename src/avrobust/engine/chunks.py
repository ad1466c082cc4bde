"""A batch of many clips, a few at a time: memory is that of a few, and batches are full to the end."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from avrobust.types import AV, Signals

T = TypeVar("T")
# On a CPU a step on so many samples and pixels runs nearly as fast as a larger one, in less memory:
# docs/decisions/0010-chunk-size.md.
HALF_A_MILLION = 2.0**19


@dataclass
class ChunkSize:
    """How many clips a network takes at a time: those that hold `numbers` samples and pixels, one at least.

    Where a GPU's memory does not suffice for that many, half as many from then on.
    """

    numbers: float = math.inf

    def map(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        """What `work` makes of stretches of the clips, about equally long."""
        count, size = len(x.audio), sum(s.shape[1:].numel() for s in x)
        while True:
            pieces = max(1, math.ceil(count / max(1, self.numbers // size))) if self.numbers < math.inf else 1
            clips = math.ceil(count / pieces)
            try:
                return [work(slice(k, k + clips)) for k in range(0, max(count, 1), max(clips, 1))]
            except torch.OutOfMemoryError:
                if clips <= 1:
                    raise
                self.numbers = clips // 2 * size


def cat(parts: Sequence[Tensor]) -> Tensor:
    """The clips of all parts, in their order; of one, no copy."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def joined(parts: Sequence[AV[Tensor]]) -> AV[Tensor]:
    """The same of both modalities."""
    return AV(audio=cat([p.audio for p in parts]), visual=cat([p.visual for p in parts]))
