"""The attacks as the published code of Tian & Xu 2021 runs them, kept apart from what we consider right.

They differ from the papers that they implement, and from `avrobust.attacks.gradient`, in these ways:
- pixels are perturbed in ImageNet-normalised space, so a budget of 0.006 is a third of a grey level;
- every iterative attack takes 10 steps of eps / 8, without a random start, and keeps the last iterate;
- FGSM clamps the frames to [0, 1] and leaves the audio unclamped;
- MIM divides its gradient by the L1 norm of the whole batch, so clips depend on their neighbours;
- MIM steps first and takes its bounds, v - eps to v + eps, around the *stepped* value v, so that they never bind.  The
  lower one is floored at -1 for audio and at 0 for *normalised* pixels, which is the channel mean: a pixel darker than
  it is raised by eps after each step, whatever the gradient says, until it is there.  Ten steps go up to 1.25 times
  the budget, and up to 11.25 times where a pixel is dark.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks.base import check_settings, goal, search_info
from avrobust.config import check_choices, concise
from avrobust.facts import IMAGENET_MEAN, IMAGENET_STD, AttackInfo
from avrobust.objectives import Objective, Raised, cross_entropy, needs_of
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, RANGE, Labels, Model, Signals

FLOOR = AV(audio=-1.0, visual=0.0)  # of MIM's lower bound, in the space of the attack


@dataclass(frozen=True, repr=False)
class Published:
    """FGSM, PGD or MIM with the behaviour of the paper's code.

    `may_leave_budget`: its MIM does.  The harness then measures the excess and reports it instead of refusing.

    >>> Published("MIM").name
    'MIM-10 published'
    """

    method: Literal["FGSM", "PGD", "MIM"]
    steps: int = 10
    objective: Objective | Raised = cross_entropy

    mode: ClassVar[str] = "published"

    def __post_init__(self) -> None:
        check_settings(self.objective, steps=(self.steps, 1))
        check_choices(self)

    def __repr__(self) -> str:
        return concise(self)

    @property
    def name(self) -> str:
        """Display name."""
        return f"{self.method}{'' if self.method == 'FGSM' else f'-{self.steps}'} published{goal(self.objective)}"

    @property
    def info(self) -> AttackInfo:
        """Its facts: a search of the family that it is named after."""
        return search_info(self.method, 1 if self.method == "FGSM" else self.steps, self.objective)

    @property
    def may_leave_budget(self) -> bool:
        """Whether leaving the budget is part of the behaviour that is reproduced."""
        return self.method == "MIM"

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals; `seeds` are not used, nothing here is random."""
        expected = AV(audio=(1.0,), visual=IMAGENET_STD)
        if any(
            ball.norm != "linf" or (ball.active and ball.scale != scale)
            for ball, scale in threat.map(lambda *p: p, expected)
        ):
            raise ValueError(
                f"the published attacks know linf budgets in normalised pixels only, got {threat}. Use papers.tian2021.budgets.threat, or PGD and MIM."
            )
        victim = engine.as_victim(model, x.map(lambda s: s[:1])).fix_unattacked(x, threat, needs_of(self.objective))
        eps = threat.map(lambda ball: ball.eps)
        origin, unit = _normalisation(x)

        def signals(u: Signals) -> Signals:
            # An untouched modality is the clean tensor itself: normalising and back would change its last bits.
            return threat.map(lambda ball, s, v, o, w: v * w + o if ball.active else s, x, u, origin, unit)

        clean = x.map(lambda s, o, w: (s - o) / w, origin, unit)
        low, high = RANGE.map(min), RANGE.map(max)
        low_u, high_u = (
            low.map(lambda v, o, w: (v - o) / w, origin, unit),
            high.map(lambda v, o, w: (v - o) / w, origin, unit),
        )
        u, momentum = clean, x.map(torch.zeros_like)
        for _ in steps(1 if self.method == "FGSM" else self.steps):
            at = x if u is clean else signals(u)  # there and back is x but for its last bits
            _, grad = engine.gradient(victim, self.objective, at, y, threat, seeds.ids)
            grad = grad.map(lambda g, w: g * w, unit)
            if self.method == "FGSM":
                u = u.map(lambda v, e, g: v + e * g.sign(), eps, grad)
                u = AV(audio=u.audio, visual=u.visual.clamp(low_u.visual, high_u.visual))
            elif self.method == "PGD":
                u = u.map(lambda v, e, g: v + e / 8 * g.sign(), eps, grad)
                u = u.map(lambda v, c, e: torch.minimum(torch.maximum(v, c - e), c + e), clean, eps)
                u = u.map(torch.clamp, low_u, high_u)
            else:
                momentum = momentum.map(lambda m, g: m + g / g.abs().sum().clamp_min(1e-30), grad)
                u = u.map(lambda v, e, m: v + e / 8 * m.sign(), eps, momentum)
                u = u.map(_within_published_bounds, eps, FLOOR)
                u = u.map(torch.clamp, low_u, high_u)
        # Our addition, against rounding: the result lies in the signals' range again (except FGSM's audio).
        adversarial = signals(u)
        clamp = AV(audio=self.method != "FGSM", visual=True)
        return adversarial.map(lambda s, r, on: s.clamp(*r) if on else s, RANGE, clamp)


def _within_published_bounds(v: Tensor, eps: float, floor: float) -> Tensor:
    """`v` between max(v - eps, floor) and v + eps, as the published code has it; where they cross, the upper one wins."""
    return torch.minimum(torch.maximum(v, (v - eps).clamp_min(floor)), v + eps)


def _normalisation(x: Signals) -> tuple[Signals, Signals]:
    """(origin, unit) per modality of the space in which the published code attacks: audio is not normalised."""
    one = x.audio.new_tensor(1.0)
    return (
        AV(audio=one * 0, visual=x.visual.new_tensor(IMAGENET_MEAN).view(-1, 1, 1)),
        AV(audio=one, visual=x.visual.new_tensor(IMAGENET_STD).view(-1, 1, 1)),
    )
