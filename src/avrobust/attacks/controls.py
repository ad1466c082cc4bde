"""Controls: which modality does a model rely on?  Another clip's audio, silence, noise, a grey frame.

They have the form of attacks inside a budget that allows anything (`ANYTHING`), so that the same evaluation measures them.
`mode` "control" keeps them out of the tables of attacks.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Batch, InputError, Labels, Model, Signals

# Full scale: samples from -1 to 1, pixels from 0 to 1.
ANYTHING = Threat.linf(audio=2.0, visual=1.0)


@dataclass(frozen=True)
class Mute:
    """Silence for audio, mid-grey frames for video, in the modalities that the threat allows."""

    name: ClassVar[str] = "muted"
    mode: ClassVar[str] = "control"

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """The clips with the modalities that have a budget muted."""
        return threat.replaced(x, by=x.map(torch.full_like, AV(audio=0.0, visual=0.5)))


@dataclass(frozen=True)
class Noise:
    """White noise of the audio's own level, frames of random pixels, in the modalities that the threat allows."""

    name: ClassVar[str] = "noise"
    mode: ClassVar[str] = "control"

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """The clips with the modalities that have a budget replaced by noise."""
        loud = x.audio.square().mean(1, keepdim=True).sqrt() * 3**0.5  # uniform noise: a third of its peak's power
        noise = AV(
            audio=(loud * seeds.uniform(x.audio, "white noise")).clamp(-1, 1),
            visual=0.5 + 0.5 * seeds.uniform(x.visual, "pixels"),
        )
        return threat.replaced(x, by=noise)


@runtime_checkable
class Pool(Protocol):
    """Clips of which some can be read without the others: a `training.StoredBatches`, or any object with these three."""

    @property
    def ids(self) -> Sequence[str]: ...
    @property
    def labels(self) -> Sequence[Any]: ...
    def pick(self, numbers: Sequence[int]) -> Batch: ...


class _Listed:
    """Batches in memory as a pool; clips without ids are called by their places among all, as an evaluation calls them."""

    def __init__(self, pool: Any) -> None:
        every = [pool] if _is_batch(pool) or not isinstance(pool, Iterable) else pool
        # A loader may fill the same memory again with the next batch.
        batches = [_batch(item) if isinstance(every, Sequence) else _own(_batch(item)) for item in every]
        self._at = [(batch, i) for batch in batches for i in range(len(batch))]
        self.ids = [str(batch.ids[i] if batch.named else place) for place, (batch, i) in enumerate(self._at)]
        self.labels = [_plain(label) for batch in batches for label in batch.label]

    def pick(self, numbers: Sequence[int]) -> Batch:
        return Batch.join(batch.subset([i]) for batch, i in (self._at[number] for number in numbers))


def _is_batch(given: Any) -> bool:
    arrays = isinstance(given, tuple | list) and len(given) in (3, 4)
    return isinstance(given, Batch) or (arrays and all(isinstance(s, Tensor | np.ndarray) for s in given[:2]))


def _batch(item: Any) -> Batch:
    if isinstance(item, Batch):
        return item
    if not _is_batch(item):
        raise InputError(
            f"expected batches to take other clips from, got {type(item).__name__}. Give the batches that are evaluated, as "
            "Batch(AV(wave, frames), labels, ids) or tuples (wave, frames, labels); of a loader of dicts, avr.batches(loader, ...)."
        )
    wave, frames, labels, *ids = item
    names = (of.tolist() if isinstance(of, Tensor | np.ndarray) else of for of in ids if of is not None)
    x = AV(torch.as_tensor(wave), torch.as_tensor(frames))
    return Batch(x, torch.as_tensor(labels), *(tuple(map(str, of)) for of in names))


def _own(batch: Batch) -> Batch:
    return replace(batch, x=batch.x.map(torch.clone), label=batch.label.clone(), ids=batch.ids if batch.named else ())


class Swap:
    """The audio (or frames) of another clip, drawn per seed and clip from `pool`, clips of the same shape.

    A pool is a batch, a list or a loader of them, or a `Pool`, of which only the clips that are needed are read.  Its order does
    not matter.  Never the clip itself, as far as its id tells; perhaps a clip of the same class.  Raises `ValueError` for fewer
    than two clips, and for two of one id.
    """

    name = "swapped"
    mode = "control"

    def __init__(self, pool: Any) -> None:
        self._pool: Pool = pool if isinstance(pool, Pool) else _Listed(pool)
        ids = self._pool.ids
        if len(ids) < 2:
            raise ValueError("expected at least two clips to swap between, got fewer. Give all test clips.")
        self._order = np.array(sorted(range(len(ids)), key=ids.__getitem__))
        self._rank = {ids[number]: rank for rank, number in enumerate(self._order)}
        if len(self._rank) < len(ids):
            twice = Counter(ids).most_common(1)[0][0]
            raise InputError(f"clip id '{twice}' stands twice in the pool. Give each clip once, with an id of its own.")

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """The clips with the modalities that have a budget taken from other clips."""
        partners = [int(self._order[self._partner(seeds, i, _plain(y[i]))]) for i in range(len(seeds.ids))]
        return threat.replaced(x, by=self._pool.pick(partners).x.map(Tensor.to, x))

    def _partner(self, seeds: Seeds, i: int, label: Any) -> int:
        """The rank of another clip, in the order of ids."""
        own = self._rank.get(seeds.ids[i], -1)
        drawn = int(seeds.generator(i, "partner").integers(len(self._order) - (own >= 0)))
        return drawn + (0 <= own <= drawn)


class Elsewhere(Swap):
    """`Swap` from clips of other classes only: the sounding object is not in the frames."""

    name = "elsewhere"

    def __init__(self, pool: Any) -> None:
        super().__init__(pool)
        self._classes = {label: k for k, label in enumerate(dict.fromkeys(self._pool.labels))}
        if len(self._classes) < 2:
            raise ValueError("expected clips of at least two classes, got one. Give all test clips.")
        self._class = np.array([self._classes[label] for label in self._pool.labels])[self._order]

    def _partner(self, seeds: Seeds, i: int, label: Any) -> int:
        others = np.flatnonzero(self._class != self._classes.get(label, -1))
        return int(others[seeds.generator(i, "partner elsewhere").integers(len(others))])


def _plain(label: Tensor) -> Any:
    """A class number, or the numbers of a multi-label clip."""
    return tuple(label.tolist()) if label.ndim else label.item()
