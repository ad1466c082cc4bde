"""An attack that changes a few elements of each stream, as far as it likes: what an ablation certificate is about."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks import PGD
from avrobust.attacks.base import check_settings, wrapped_info
from avrobust.certificates.ablation import Ablation
from avrobust.facts import AttackInfo
from avrobust.objectives import as_objective, cross_entropy, display_name
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Labels, Model, Signals

SEARCH = PGD()


@dataclass(frozen=True)
class Elements:
    """`attack` on the `audio` segments and `visual` patches of each clip at which the loss rises most; the others stay.

    The elements are those of `ablation`.  They are chosen once, by the sum of the absolute gradient over each element at
    the clean clip, so that another choice may do more: what it leaves correct is an upper bound.  Use it inside
    `attacks.ANYTHING`, on a smoothed model: `Smoothed(Elements(ablation, audio=1, visual=2), ablation)`.

    >>> Elements(Ablation(), audio=1, visual=2).name
    'PGD-10 of 1 segment and 2 patches'
    """

    ablation: Ablation
    audio: int = 1
    visual: int = 1
    attack: Attack = SEARCH

    mode: ClassVar[str] = "corrected"

    def __post_init__(self) -> None:
        check_settings(audio=(self.audio, 0), visual=(self.visual, 0))
        segments, patches = self.ablation.segments, self.ablation.grid**2
        if self.audio > segments or self.visual > patches:
            raise ValueError(
                f"expected at most the {segments} segments and {patches} patches of the ablation, got {self.audio} and "
                f"{self.visual}. Attack fewer, or give an Ablation of more."
            )

    @property
    def name(self) -> str:
        """Display name."""
        parts = [f"{n} {word}{ending * (n != 1)}" for n, word, ending in ((self.audio, "segment", "s"), (self.visual, "patch", "es")) if n]  # fmt: skip
        return f"{display_name(self.attack)} of {' and '.join(parts) or 'nothing'}"

    @property
    def info(self) -> AttackInfo:
        """The facts of the attack."""
        return wrapped_info(self.attack, variant="elements")

    @property
    def steps(self) -> int:
        """Those of the attack, and one to choose elements."""
        return 1 + int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`, which differ in the chosen elements only."""
        victim = engine.as_victim(model, x.map(lambda s: s[:1]))
        chosen = self._chosen(victim, x, y, threat)
        made = []
        for i in steps(len(y), "clip"):
            one, free = (part.map(lambda s, i=i: s[i : i + 1]) for part in (x, chosen))
            restored = partial(_restored, one, free)
            search = engine.Behind(victim.subset([i]), restored)
            found: Any = self.attack(search, one, y[i : i + 1], threat, seeds.subset([i]))
            made.append(restored(found))
        return AV(*(torch.cat([m[k] for m in map(list, made)]) for k in (0, 1)))

    def _chosen(self, victim: engine.Victim, x: Signals, y: Labels, threat: Threat) -> Signals:
        """Masks of the samples (b n) and pixels (b 1 1 h w) that may change."""
        grads = engine.raw_gradient(victim, as_objective(cross_entropy), x, y, threat)

        def most(g: Tensor, at: Tensor, count: int) -> Tensor:
            slopes = g.abs().reshape(len(g), -1, at.numel()).sum(1)
            sums = slopes.new_zeros(len(g), int(at.max()) + 1).index_add_(1, at.flatten(), slopes)
            free = torch.zeros_like(sums, dtype=torch.bool).scatter_(1, sums.topk(count, 1).indices, True)
            return free[:, at].view(len(g), *[1] * (g.ndim - 1 - at.ndim), *at.shape)

        return grads.map(most, self.ablation.places(x), AV(self.audio, self.visual))


def _restored(clean: Signals, free: Signals, x: Signals) -> Signals:
    return x.map(lambda s, c, f: torch.where(f, s, c), clean, free)
