"""Adversarial training on every pair of clean and attacked streams."""

from dataclasses import dataclass, replace
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from avrobust.attacks.base import at_rate
from avrobust.defenses.adversarial import FAST, Adversarial, grown
from avrobust.models.network import Loss, Network
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Batch


@dataclass(frozen=True)
class Recombined:
    """Cross entropy, mean over the four pairs of clean or attacked audio with clean or attacked video of each clip.

    One attack on both modalities within `threat` makes the attacked streams.  Each encoder embeds both of its forms once, and
    what follows the encoders decides from all four pairs: clean, audio attacked, video attacked, both attacked.
    `Adversarial` on `threat.subsets()` shows a clip one of these at a time.  Gradients go through a feature defense, such as a gate.

    `alone` is the weight of the cross entropy of either attacked stream by itself, with the mean of the batch for the other's
    features, as a `Gate` leaves it: both learn, also where one is enough for most clips (modality-balanced training), and what
    decides from one stream is an expert that shares its weights.

    `agreement` is the weight of the divergence of the three attacked pairs' answers from the clean pair's, mean of
    KL(clean || attacked), beside the cross entropy of all four (TRADES-like; Zhang et al., ICML 2019, have it in place of the cross
    entropy of attacked clips, and attack it; we attack the cross entropy).

    `ramp` and validation are those of `Adversarial`: on clips each attacked within one of the subsets.  A step takes about
    1.3 times as long as one of `Adversarial` with the same attack.

    >>> loss = Recombined(Threat.linf(audio=0.01, visual="4/255"), ramp=0.5)
    >>> loss.name, round(loss.at_progress(0.25).threat.audio.eps, 4)
    ('adversarial, recombined, PGD-1', 0.005)
    """

    threat: Threat
    attack: Attack = FAST
    ramp: float = 0.0
    alone: float = 0.5
    agreement: float = 0.0

    def __post_init__(self) -> None:
        if self.threat.subset != "AV":
            raise ValueError(
                f"expected a threat with budgets of both modalities, got {self.threat}. Give Threat.linf(audio=..., visual=...)."
            )
        if not min(self.alone, self.agreement) >= 0:
            raise ValueError(
                f"expected weights of 0 or more, got alone={self.alone}, agreement={self.agreement}. Give 0 to leave one out."
            )
        self._attacking(self.threat)  # which checks the ramp

    @property
    def name(self) -> str:
        """How a table calls it."""
        return f"adversarial, recombined, {getattr(self.attack, 'name', self.attack)}"

    def at_rate(self, rate: int) -> "Recombined":
        """The same for clips of this sampling rate, in Hz, which `training.train` fills in."""
        return replace(self, threat=at_rate(self.threat, rate), attack=at_rate(self.attack, rate))

    def at_progress(self, progress: float) -> Loss:
        """The loss when this share of training is done, with the budgets of that time."""
        if self.ramp and progress == 0:
            return _clean
        return replace(self, threat=grown(self.threat, self.ramp, progress), ramp=0.0)

    def training_batch(self, net: Network, batch: Batch, seeds: Seeds) -> Batch:
        """The batch with each clip attacked within one of the subsets of the threat, which it drew."""
        return self._attacking(*self.threat.subsets()).training_batch(net, batch, seeds)

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch, one number."""
        attacked = self._attacking(self.threat).training_batch(net, batch, seeds)
        f = net.embed(batch.x.map(lambda clean, a: torch.cat([clean, a]), attacked.x))
        audio, visual = f.audio.chunk(2), f.visual.chunk(2)
        pairs = [*product(audio, visual)]
        if self.alone:
            absent = f.map(lambda s: s.detach().mean(0, keepdim=True).expand(len(batch), -1))
            pairs += [(audio[1], absent.visual), (absent.audio, visual[1])]
        logits = net.decide(net.feature_defense(AV(*(torch.cat(streams) for streams in zip(*pairs, strict=True)))))
        losses = F.cross_entropy(logits, batch.label.repeat(len(pairs)), reduction="none").view(len(pairs), -1).mean(1)
        total = losses[:4].mean() + self.alone * losses[4:].sum()
        if not self.agreement:
            return total
        says = logits.float().log_softmax(1).view(len(pairs), len(batch), -1)[:4]
        apart = F.kl_div(says[1:], says[:1].expand_as(says[1:]), reduction="none", log_target=True).sum(2)
        return total + self.agreement * apart.mean()

    def _attacking(self, *threats: Threat) -> Adversarial:
        return Adversarial(self, threats, self.attack, self.ramp)


def _clean(net: Network, batch: Batch, seeds: Seeds) -> Tensor:
    """What there is to train on before budgets begin to grow."""
    return F.cross_entropy(net(batch.x), batch.label)
