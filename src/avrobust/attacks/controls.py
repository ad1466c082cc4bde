"""Controls: which modality does a model rely on?  Another clip's audio, silence, noise, a grey frame.

They have the form of attacks inside a budget that allows anything (`ANYTHING`), so that the same evaluation measures them.
`mode` "control" keeps them out of the tables of attacks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Batch, Labels, Model, Signals

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
    """Batches in memory as a pool."""

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = list(batches)
        self._at = [(batch, i) for batch in self._batches for i in range(len(batch))]
        self.ids = [id for batch in self._batches for id in batch.ids]
        self.labels = [_plain(label) for batch in self._batches for label in batch.label]

    def pick(self, numbers: Sequence[int]) -> Batch:
        return Batch.join(batch.subset([i]) for batch, i in (self._at[number] for number in numbers))


class Swap:
    """The audio (or frames) of another clip, drawn per seed and clip from `pool`, clips of the same shape.

    A pool is a list of batches, or a `Pool`, of which only the clips that are needed are read.  Never the clip itself;
    perhaps a clip of the same class.  Raises `ValueError` for fewer than two clips.
    """

    name = "swapped"
    mode = "control"

    def __init__(self, pool: Iterable[Batch] | Pool) -> None:
        self._pool = pool if isinstance(pool, Pool) else _Listed(pool)
        if len(self._pool.ids) < 2:
            raise ValueError("expected at least two clips to swap between, got fewer. Give all test clips.")
        self._number = {id: i for i, id in enumerate(self._pool.ids)}

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """The clips with the modalities that have a budget taken from other clips."""
        partners = [self._partner(seeds, i, _plain(y[i])) for i in range(len(seeds.ids))]
        return threat.replaced(x, by=self._pool.pick(partners).x.map(Tensor.to, x))

    def _partner(self, seeds: Seeds, i: int, label: Any) -> int:
        own = self._number.get(seeds.ids[i], -1)
        drawn = int(seeds.generator(i, "partner").integers(len(self._pool.ids) - (own >= 0)))
        return drawn + (0 <= own <= drawn)


class Elsewhere(Swap):
    """`Swap` from clips of other classes only: the sounding object is not in the frames."""

    name = "elsewhere"

    def __init__(self, pool: Iterable[Batch] | Pool) -> None:
        super().__init__(pool)
        self._classes = {label: k for k, label in enumerate(dict.fromkeys(self._pool.labels))}
        if len(self._classes) < 2:
            raise ValueError("expected clips of at least two classes, got one. Give all test clips.")
        self._class = np.array([self._classes[label] for label in self._pool.labels])

    def _partner(self, seeds: Seeds, i: int, label: Any) -> int:
        others = np.flatnonzero(self._class != self._classes.get(label, -1))
        return int(others[seeds.generator(i, "partner elsewhere").integers(len(others))])


def _plain(label: Tensor) -> Any:
    """A class number, or the numbers of a multi-label clip."""
    return tuple(label.tolist()) if label.ndim else label.item()
