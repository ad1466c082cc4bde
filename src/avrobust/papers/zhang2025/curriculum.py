"""Adversarial training from easy to hard: masks on the clips, dropout on the features, and steps of the attack that grow.

The authors name the three and the schedulers constant, linear and cosine; where masks and dropout apply, and from which
number to which they go, we could not read.  Ours: training sees clips of which stretches are masked, the same in both
modalities, after the attack; features are dropped before the fusion; all three grow.
"""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from avrobust.attacks.base import wrapped_info
from avrobust.config import check_choices
from avrobust.defenses import Adversarial
from avrobust.engine import as_victim
from avrobust.facts import AttackInfo
from avrobust.models.network import Loss, Measured, Network, loss_at_progress
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Attack, Batch, Labels, Model, Signals


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `first` to `last` over the first `over` of training; "constant" is `last` from the start.

    >>> [Schedule(0.0, 1.0, shape).at(0.25) for shape in ("constant", "linear")], round(Schedule(0.0, 1.0, "cosine").at(0.25), 3)
    ([1.0, 0.25], 0.146)
    """

    first: float
    last: float
    shape: Literal["constant", "linear", "cosine"] = "linear"
    over: float = 1.0

    def __post_init__(self) -> None:
        check_choices(self)
        if not 0 < self.over <= 1:
            raise ValueError(f"over should be a share of training in (0, 1], got {self.over}. Give 1.0 for all of it.")

    def at(self, progress: float) -> float:
        """The number when this share of training is done."""
        share = min(1.0, progress / self.over)
        if self.shape == "constant":
            return self.last
        if self.shape == "cosine":
            share = (1 - math.cos(math.pi * share)) / 2
        return self.first + (self.last - self.first) * share


@dataclass(frozen=True)
class Curriculum:
    """`adversarial` training that gets harder: more `steps` of its attack, more of a clip masked, more features dropped.

    The attack needs a field `steps`.  Validation is on attacked clips as at the end, without masks and dropout.

    >>> from avrobust.attacks import MIM
    >>> from avrobust.training import cross_entropy
    >>> inner = Adversarial(cross_entropy, Threat.linf(audio=0.01).subsets(), MIM(keep="last"))
    >>> stage = Curriculum(inner, steps=Schedule(1, 5)).at_progress(0.5)
    >>> stage.adversarial.attack.steps, stage.mask, Curriculum(inner).name
    (3, 0.15, 'curriculum, adversarial, MIM-10')
    """

    adversarial: Adversarial
    steps: Schedule = Schedule(1, 4)
    mask: Schedule = Schedule(0.0, 0.3)
    dropout: Schedule = Schedule(0.0, 0.3)

    def __post_init__(self) -> None:
        if not isinstance(self.adversarial, Adversarial) or not hasattr(self.adversarial.attack, "steps"):
            raise ValueError(
                f"expected Adversarial with an attack that has a field `steps`, got {self.adversarial!r}. Give it MIM or TMA."
            )
        if min(self.steps.first, self.steps.last) < 1:
            raise ValueError(f"expected at least 1 step of the attack, got {self.steps}. Begin with 1.")
        for share in (self.mask, self.dropout):
            if not (min(share.first, share.last) >= 0 and max(share.first, share.last) < 1):
                raise ValueError(f"expected shares in [0, 1) to mask and drop, got {share}. Give 0.3 for 30 %.")

    @property
    def name(self) -> str:
        """Display name."""
        return f"curriculum, {display_name(self.adversarial)}"

    def at_progress(self, progress: float) -> "Stage":
        """The loss when this share of training is done."""
        inner = loss_at_progress(self.adversarial, progress)
        attack = replace(self.adversarial.attack, steps=round(self.steps.at(progress)))  # type: ignore[type-var]
        harder = replace(inner, attack=attack) if isinstance(inner, Adversarial) else inner  # before its ramp begins
        return Stage(harder, self.mask.at(progress), self.dropout.at(progress))

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss at the end of training, one number."""
        return self.at_progress(1.0)(net, batch, seeds)

    def training_batch(self, net: Network, batch: Batch, seeds: Seeds) -> Batch:
        """The batch attacked as at the end."""
        at_end = replace(self.adversarial.attack, steps=round(self.steps.last))  # type: ignore[type-var]
        return replace(self.adversarial, attack=at_end).training_batch(net, batch, seeds)


@dataclass(frozen=True)
class Stage:
    """One stage of a curriculum: `adversarial` training on clips masked by a share, with a share of features dropped."""

    adversarial: Loss
    mask: float
    dropout: float

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch, one number."""
        if not isinstance(self.adversarial, Adversarial):
            return self._harder(self.adversarial, net, batch, seeds)
        return self._harder(self.adversarial.loss, net, self.adversarial.training_batch(net, batch, seeds), seeds)

    def _harder(self, loss: Loss, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        with dropped(net, self.dropout, seeds):
            return loss(net, Batch(masked(batch.x, self.mask, seeds), batch.label, batch.ids), seeds)


def masked(x: Signals, share: float, seeds: Seeds) -> Signals:
    """Clips of which each stretch of one frame's length is black and silent with this probability, both modalities alike.

    >>> x = AV(torch.ones(1, 8), torch.ones(1, 4, 3, 1, 1))
    >>> masked(x, 0.5, Seeds(0, ("a",))).map(lambda s: s.flatten(2).mean(2).tolist() if s.ndim > 2 else s.tolist())
    AV(audio=[[1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]], visual=[[1.0, 0.0, 1.0, 1.0]])
    """
    if not share:
        return x
    frames = x.visual.shape[1]
    gone = seeds.uniform(x.visual.new_empty(len(x.visual), frames), "mask") < 2 * share - 1
    places = torch.arange(x.audio.shape[1], device=gone.device) * frames // x.audio.shape[1]
    return AV(
        audio=x.audio.masked_fill(gone[:, places], 0.0),
        visual=x.visual.masked_fill(gone.view(*gone.shape, 1, 1, 1), 0.0),
    )


@contextmanager
def dropped(net: Network, share: float, seeds: Seeds) -> Iterator[None]:
    """Inside, a share of the features of each encoder is 0, and the others are larger by as much: dropout tied to the clips."""
    if share and net.encoders is None:
        raise ValueError(
            "expected a network with `encoders` for a curriculum, which drops a share of their features, got one that does not "
            "show them. Give it that attribute, an AV or a ModuleDict of both, or dropout=Schedule(0.0, 0.0)."
        )
    with ExitStack() as hooks:
        for name, encoder in net.encoders.items() if net.encoders else ():
            if share:

                def drop(_: Any, __: Any, f: Tensor, name: str = name) -> Tensor:
                    kept = seeds.uniform(f.detach().float(), "dropout", name) >= 2 * share - 1
                    return f * kept / (1 - share)

                # What a feature defense measures is no feature, and its wrapper is another one in each run.
                inner = encoder.encoder if isinstance(encoder, Measured) else encoder
                hooks.callback(inner.register_forward_hook(drop).remove)
        yield


@dataclass(frozen=True)
class PartialFrames:
    """`attack` on a `share` of the frames; each other frame gets the perturbation of the nearest of these.

    The paper's way to make perturbations cheaply.  Audio is attacked whole.  One frame at least.

    >>> from avrobust.attacks import MIM
    >>> PartialFrames(MIM(), 0.25).name
    'MIM-10, 25 % of frames'
    """

    attack: Attack
    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share should lie in (0, 1], got {self.share}. Give 0.25 for every fourth frame.")

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return wrapped_info(self.attack, variant="partial frames")

    @property
    def name(self) -> str:
        """Display name."""
        return f"{display_name(self.attack)}, {100 * self.share:g} % of frames"

    @property
    def steps(self) -> int:
        """Its cost in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        frames = x.visual.shape[1]
        count = max(1, round(self.share * frames))
        if not threat.visual.active or count == frames:
            return self.attack(model, x, y, threat, seeds)
        at = ((torch.arange(count) + 0.5) * frames / count).long()
        nearest = (torch.arange(frames)[:, None] - at).abs().argmin(1)
        fewer = AV(audio=x.audio, visual=x.visual[:, at])
        victim = as_victim(model, fewer.map(lambda s: s[:1])).without_cache()
        found = self.attack(victim, fewer, y, threat, seeds)
        shared = AV(audio=found.audio - x.audio, visual=(found.visual - fewer.visual)[:, nearest])
        kept = threat.map(Ball.project, shared, x)
        return threat.replaced(x, by=x.map(torch.add, kept))
