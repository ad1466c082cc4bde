"""Adversarial training of audio-visual models: a loss on clips that are attacked during training (Madry et al. 2018)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from avrobust import engine
from avrobust.attacks import PGD
from avrobust.attacks.base import at_rate
from avrobust.budget_check import check
from avrobust.models.network import Loss, Network, loss_at_progress
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Attack, Batch, Signals

# The steps sum to 2.5 budgets.  The last iterate, because keeping the best would cost half a step more.
THREE_STEPS = PGD(steps=3, keep="last")
# A single step from a random start, longer than the budget (Wong et al. 2020).
FAST = PGD(steps=1, step=1.25, keep="last")


@dataclass(frozen=True)
class Adversarial:
    """`loss` on adversarial clips: each clip of a batch is attacked inside one of `threats`, against the current network.

    The threat is drawn by seed and clip, so audio, video and both are attacked in turn, each with its own budgets
    (`threat.subsets()` are those of one threat); `Threat.linf()` among them leaves its share of clips clean.  Clips are
    attacked in evaluation mode, so that none depends on its batch, and trained on in training mode.  Over the first
    `ramp` of training (a share in [0, 1)) the budgets grow from 0.

    Training keeps the weights that are best on validation clips attacked in the same way, at the full budgets: clean
    validation clips would favour epochs with little robustness (Rice et al. 2020, on early stopping).

    On the orchestra, in the standard study (`FAST`, three epochs from a finished network; one seed), PGD-10 at the
    budgets of Table 1, times four for video, accuracy in % of 120 clips: clean 80.8 [73, 87], audio attacked 65.8
    [57, 74], video 66.7 [58, 75], both 68.3 [60, 76].  The undefended network, trained for the same number of extra
    epochs: 85.8 [78, 91], 35.0 [27, 44], 67.5 [59, 75], 53.3 [44, 62].  So it helps where audio is attacked, and costs
    clean accuracy.  A step took 1.9 times as long as a plain one; with PGD-3, 2.8 times.

    >>> from avrobust.defenses import MIN_SIM
    >>> threat = Threat.linf(audio=0.01, visual="4/255")
    >>> Adversarial(MIN_SIM, threat.subsets()).name
    'adversarial MinSim, PGD-3'
    >>> loss = Adversarial(MIN_SIM, (threat,), attack=FAST, ramp=0.5)
    >>> [round(loss.at_progress(progress).threats[0].audio.eps, 4) for progress in (0.05, 0.25, 0.5, 0.75)]
    [0.001, 0.005, 0.01, 0.01]
    """

    loss: Loss
    threats: tuple[Threat, ...]
    attack: Attack = THREE_STEPS
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if all(threat.subset == "clean" for threat in self.threats):
            raise ValueError(
                f"expected threats with a budget, got {self.threats}. Give Threat.linf(audio=..., visual=...).subsets()."
            )
        if not 0 <= self.ramp < 1:
            raise ValueError(f"expected a ramp in [0, 1), got {self.ramp}. It is the share of training that it takes.")

    @property
    def name(self) -> str:
        """How a table calls it."""
        inner = display_name(self.loss)
        kind = "" if inner == "cross_entropy" else f" {inner}"
        return f"adversarial{kind}, {getattr(self.attack, 'name', self.attack)}"

    def __call__(self, net: Network, batch: Batch, seeds: Seeds) -> Tensor:
        """The loss of the batch, one number."""
        return self.loss(net, self.training_batch(net, batch, seeds), seeds)

    def at_rate(self, rate: int) -> "Adversarial":
        """The same for clips of this sampling rate, in Hz, which `training.train` fills in."""
        threats = tuple(at_rate(threat, rate) for threat in self.threats)
        return replace(self, loss=at_rate(self.loss, rate), threats=threats, attack=at_rate(self.attack, rate))

    def at_progress(self, progress: float) -> Loss:
        """The loss when this share of training is done, with the budgets and the inner loss of that time."""
        inner = loss_at_progress(self.loss, progress)
        if self.ramp and progress == 0:
            return inner
        return replace(self, loss=inner, threats=tuple(grown(t, self.ramp, progress) for t in self.threats), ramp=0.0)

    def training_batch(self, net: Network, batch: Batch, seeds: Seeds) -> Batch:
        """The batch with each clip attacked inside the threat that it drew, at the full budgets."""
        x = batch.x.map(torch.clone)
        with _held(net):
            victim = _as_trained(net, batch.x)
            for threat, clips in self._drawn(seeds):
                mine = torch.tensor(clips, device=batch.label.device)
                own, names = batch.x.map(lambda s, mine=mine: s[mine]), seeds.subset(clips)
                # One call per threat, so that the stream that it does not attack is computed once.
                found = self.attack(victim, own, batch.label[mine], threat, names)
                check(threat, own, found, names.ids, self.name)
                for whole, part in zip(x, found, strict=True):
                    whole[mine] = part
        return Batch(x, batch.label, batch.ids)

    def _drawn(self, seeds: Seeds) -> Iterator[tuple[Threat, list[int]]]:
        """Each threat with a budget, with the indices of the clips that drew it."""
        draws = [int(seeds.generator(i, "threat").integers(len(self.threats))) for i in range(len(seeds.ids))]
        for k, threat in enumerate(self.threats):
            if threat.subset != "clean" and k in draws:
                yield threat, [i for i, draw in enumerate(draws) if draw == k]


def grown(threat: Threat, ramp: float, progress: float) -> Threat:
    """The threat when this share of training is done, its budgets growing from 0 over the first `ramp` of it."""
    share = min(1.0, progress / ramp) if ramp else 1.0
    return Threat(*threat.map(lambda ball: ball.scaled(share)))


@contextmanager
def _held(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode and its weights without gradients; both are restored afterwards."""
    training = {module: module.training for module in net.modules()}
    learning = [p for p in net.parameters() if p.requires_grad]
    # Without gradients: an autocast that casts a weight while nobody records would keep that cast for training.
    net.eval().requires_grad_(False)
    try:
        yield
    finally:
        for module, mode in training.items():
            module.training = mode
        for p in learning:
            p.requires_grad_(True)


def _as_trained(net: Network, x: Signals) -> engine.Victim:
    """The network as a victim, in the arithmetic of training; no cheaper copy, which one step would not repay."""
    device = x.audio.device.type
    low = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.bfloat16
    victim = engine.as_victim(net, x.map(lambda s: s[:1]))
    return victim.in_precision(torch.bfloat16) if low else victim
