"""Controls: which modality does a model rely on?  Another clip's audio, silence, noise, a grey frame.

They have the form of attacks inside a budget that allows anything (`ANYTHING`), so that the same evaluation measures them.
`mode` "control" keeps them out of the tables of attacks.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch

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
        empty = AV(audio=0.0, visual=0.5)
        return threat.map(lambda ball, s, v: torch.full_like(s, v) if ball.active else s, x, empty)


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
        return threat.map(lambda ball, s, n: n if ball.active else s, x, noise)


class Swap:
    """The audio (or frames) of another clip, drawn per seed and clip from `pool`, clips of the same shape.

    Never the clip itself; perhaps a clip of the same class.  Raises `ValueError` for fewer than two clips.
    """

    name = "swapped"
    mode = "control"

    def __init__(self, pool: list[Batch]) -> None:
        if sum(len(b) for b in pool) < 2:
            raise ValueError("expected at least two clips to swap between, got fewer. Give all test clips.")
        self._ids = [id for b in pool for id in b.ids]
        self._label = [
            k for b in pool for k in b.label.tolist()
        ]  # numbers of classes, or a list of 0 and 1 for each class
        self._x = AV(*(torch.cat(parts) for parts in zip(*(tuple(b.x) for b in pool), strict=True)))

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """The clips with the modalities that have a budget taken from other clips."""
        partners = [self._partner(seeds, i, y[i].tolist()) for i in range(len(seeds.ids))]
        return threat.map(lambda ball, s, pool: pool[partners].to(s) if ball.active else s, x, self._x)

    def _partner(self, seeds: Seeds, i: int, label: object) -> int:
        own = self._ids.index(seeds.ids[i]) if seeds.ids[i] in self._ids else -1
        drawn = int(seeds.generator(i, "partner").integers(len(self._ids) - (own >= 0)))
        return drawn + (0 <= own <= drawn)


class Elsewhere(Swap):
    """`Swap` from clips of other classes only: the sounding object is not in the frames."""

    name = "elsewhere"

    def __init__(self, pool: list[Batch]) -> None:
        super().__init__(pool)
        if all(k == self._label[0] for k in self._label):
            raise ValueError("expected clips of at least two classes, got one. Give all test clips.")

    def _partner(self, seeds: Seeds, i: int, label: object) -> int:
        others = [j for j, k in enumerate(self._label) if k != label]
        return others[int(seeds.generator(i, "partner elsewhere").integers(len(others)))]
