"""Batches that an evaluation reads several times: checked, joined where the model takes any batch, the same each time."""

from collections.abc import Callable, Iterable, Iterator

import torch

from avrobust.allocator import give_back
from avrobust.evaluation.checks import (
    Fingerprints,
    check_again,
    check_batch,
    check_ids,
    fingerprints,
    own_copy,
)
from avrobust.types import AV, Batch, Signals


class CheckedBatches:
    """Batches that passed the checks of the input, joined as long as they hold no more numbers than `limit(example)`.

    They are read anew in each pass, for they may come from a disk, and must then be the same.  `largest` is the number
    of clips in the largest batch that was given.
    """

    def __init__(self, batches: Iterable[Batch], limit: Callable[[Signals], int]) -> None:
        self._batches, self._limit = batches, limit
        self._first: Fingerprints = []  # of the clips of the first whole pass
        self.largest = 0

    def __iter__(self) -> Iterator[Batch]:
        now: Fingerprints = []
        for number, batch in enumerate(self._joined()):
            if number:
                give_back()  # or the heap grows with every batch
            here = fingerprints(batch)
            if self._first:
                check_again(here, self._first[len(now) : len(now) + len(here)], at=len(now))
            now += here
            yield batch
        if self._first:
            check_again([], self._first[len(now) :], at=len(now))
        else:
            check_ids([clip[0] for clip in now])
        self._first = now

    def _joined(self) -> Iterator[Batch]:
        held: list[Batch] = []
        limit: int | None = None
        for batch in self._batches:
            check_batch(batch)
            self.largest = max(self.largest, len(batch))
            limit = self._limit(batch.x.map(lambda s: s[:1])) if limit is None else limit
            same = held and forms(held[0].x) == forms(batch.x)
            if held and not (same and sum(s.numel() for b in (*held, batch) for s in b.x) <= limit):
                yield Batch.join(held)
                held = []
            held.append(own_copy(batch))  # a loader may fill the same memory again with the next batch
        if held:
            yield Batch.join(held)


def forms(x: Signals) -> AV[torch.Size]:
    """The shapes of a clip, which those in one batch share."""
    return x.map(lambda s: s.shape[1:])
