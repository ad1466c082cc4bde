"""Chunks: a search holds many clips, and the network takes a few at a time, in full chunks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from avrobust.types import AV, Signals

T = TypeVar("T")
# On a CPU a step on so many samples and pixels in float32 runs nearly as fast as a larger one, in less memory; in bfloat16,
# which takes half of it, twice as many: docs/decisions/0010-chunk-size.md.
NUMBERS_ON_CPU = 2.0**20


@dataclass
class ChunkSize:
    """How many clips a network takes at a time: as many as hold `numbers` samples and pixels together, at least one.

    When a GPU runs out of memory, what the chunk held is given back, and the size is halved from then on.

    >>> ChunkSize(8).map(AV(torch.zeros(5, 3), torch.zeros(5, 1)), lambda on: on)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 6, None)]
    """

    numbers: float = math.inf

    def for_precision(self, before: torch.dtype, after: torch.dtype) -> "ChunkSize":
        """As much memory in another precision.

        >>> ChunkSize(8).for_precision(torch.float32, torch.bfloat16)
        ChunkSize(numbers=16.0)
        """
        return self if before == after else ChunkSize(self.numbers * before.itemsize / after.itemsize)

    def map(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        """The results of `work` on consecutive chunks of about equal length.  Raises `OutOfMemoryError` if one clip is too many."""
        count, size = len(x.audio), sum(s.shape[1:].numel() for s in x)
        while True:
            chunks = max(1, math.ceil(count / max(1, self.numbers // size))) if self.numbers < math.inf else 1
            clips = math.ceil(count / chunks)
            try:
                return [work(slice(k, k + clips)) for k in range(0, max(count, 1), max(clips, 1))]
            except torch.OutOfMemoryError:
                if clips <= 1:
                    raise
                self.numbers = clips // 2 * size
            if x.audio.is_cuda:  # blocks of the old size would stand between those of the new one
                torch.cuda.empty_cache()


def cat(parts: Sequence[Tensor]) -> Tensor:
    """All parts concatenated along the clips; no copy if there is one part."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def joined(parts: Sequence[AV[Tensor]]) -> AV[Tensor]:
    """`cat` for both modalities."""
    return AV(audio=cat([p.audio for p in parts]), visual=cat([p.visual for p in parts]))
