"""Missing modalities and gaps within a stream, at rates."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from avrobust.facts import AttackInfo
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Model, Signals

EMPTY = AV(audio=0.0, visual=0.5)  # silence, mid-grey


@dataclass(frozen=True)
class Missing:
    """In a share `rate` of the clips, drawn per seed and clip, the modality is missing: silence, mid-grey frames.

    Where the threat has budgets for both, each is drawn for itself.  A clip that misses its modality at one rate misses
    it at every higher one.

    >>> x = AV(audio=torch.ones(2, 4), visual=torch.ones(2, 1, 3, 2, 2))
    >>> gone = Missing(rate=1.0)(None, x, None, Threat.linf(audio=2.0), Seeds(0, ("a", "b")))
    >>> float(gone.audio.abs().max()), bool(torch.equal(gone.visual, x.visual))
    (0.0, True)
    """

    rate: float
    mode: ClassVar[str] = "missing"

    def __post_init__(self) -> None:
        _check("rate", self.rate)

    @property
    def name(self) -> str:
        """Display name."""
        return f"missing {100 * self.rate:g} %"

    @property
    def info(self) -> AttackInfo:
        """How many clips miss a modality, for rows."""
        return AttackInfo("missing", strength=self.rate)

    def __call__(self, model: Model | None, x: Signals, y: Tensor | None, threat: Threat, seeds: Seeds) -> Signals:
        """Signals shaped as `x`, some of them empty."""
        out = {}
        for (name, s), ball, empty in zip(x.items(), threat.map(lambda b: b), EMPTY, strict=True):
            lost = [
                ball.active and seeds.generator(i, "missing", name).random() < self.rate for i in range(len(seeds.ids))
            ]
            at = torch.tensor(lost, device=s.device).view(-1, *[1] * (s.ndim - 1))
            out[name] = torch.where(at, torch.full_like(s, empty), s)
        return AV(**out)


@dataclass(frozen=True)
class Gap:
    """One stretch of each clip, a `share` of its length, is lost: silence, black frames.  Where it lies is drawn per clip.

    The stretch is the same in both modalities where the threat has budgets for both (`together`), as when a
    transmission breaks; else each has its own.  Of frames, as many are lost as begin inside the stretch.
    """

    share: float
    together: bool = True
    mode: ClassVar[str] = "missing"

    def __post_init__(self) -> None:
        _check("share", self.share)

    @property
    def name(self) -> str:
        """Display name."""
        return f"gap {100 * self.share:g} %" + ("" if self.together else ", apart")

    @property
    def info(self) -> AttackInfo:
        """How much of a clip is lost, for rows."""
        return AttackInfo("gap", variant="" if self.together else "apart", strength=self.share)

    def __call__(self, model: Model | None, x: Signals, y: Tensor | None, threat: Threat, seeds: Seeds) -> Signals:
        """Signals shaped as `x`, each with a gap."""
        out = {}
        for (name, s), ball in zip(x.items(), threat.map(lambda b: b), strict=True):
            out[name] = s.clone() if ball.active else s
            for i in range(len(seeds.ids)) if ball.active else ():
                at = seeds.generator(i, "gap", *([] if self.together else [name])).random() * (1 - self.share)
                places = torch.arange(s.shape[1]) / s.shape[1]
                out[name][i, (places >= at) & (places < at + self.share)] = 0.0
        return AV(**out)


def _check(name: str, share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"{name} should be a share between 0 and 1, got {share!r}. Give 0.3 for 30 %.")
