"""Misalignment: a stream delayed against the other, or an outage of it; the worst place for each clip, by trying them."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from avrobust import engine
from avrobust.attacks.base import check_settings, chosen, goal, search_info
from avrobust.attacks.search import ActiveSet
from avrobust.config import concise
from avrobust.facts import AttackInfo
from avrobust.objectives import Objective, Raised, as_objective, margin
from avrobust.progress import steps
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.timing import Timed, timed
from avrobust.types import Labels, Model, Signals


@dataclass(frozen=True, repr=False)
class Misaligned:
    """All delays, or places of an outage, `every_ms` milliseconds apart are tried: each clip keeps the one that is best by the objective.

    The threat is a `timing.Delay` or `timing.Outage` of one modality; 0 tries every sample and every frame, which makes the
    worst case exact.  The clean clip is among what is tried, and the delays of a smaller budget are among those of a larger
    one: a larger budget is never weaker.  Nothing is drawn.  `objective` None is the margin.  Raises `ValueError` for budgets
    of samples and pixels, and for two at once: only the delay between the modalities counts.

    >>> from avrobust.timing import Delay
    >>> from avrobust.types import AV
    >>> threat = Threat(Delay(2.0, rate=1000), Threat.linf().visual)
    >>> x = AV(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.zeros(1, 1, 3, 2, 2))
    >>> Misaligned(every_ms=0)(lambda s: s.audio, x, torch.tensor([0]), threat, Seeds(0, ("a",))).audio
    tensor([[0., 1., 0., 0.]])
    """

    every_ms: float = 5.0
    objective: Objective | Raised | None = None

    numbers: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        check_settings(self.objective)
        if not self.every_ms >= 0:
            raise ValueError(f"every_ms should be 0 or more, got {self.every_ms}. 0 tries every sample.")

    def __repr__(self) -> str:
        return concise(self)

    @property
    def info(self) -> AttackInfo:
        """Its facts."""
        return search_info("Misaligned", 0, self.objective, search="queries", usual=margin)

    @property
    def name(self) -> str:
        """Display name."""
        every = f", every {self.every_ms:g} ms" if self.every_ms else ", every sample"
        return f"Misaligned{every}{goal(self.objective, usual=margin)}"

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        if threat.subset == "clean":
            return x
        (name, stream, ball), objective = self._one(threat, x), as_objective(chosen(self.objective, margin))
        active = ActiveSet.of(model, x, y, threat, seeds, objective)
        untouched = x.map(torch.zeros_like)
        most = active.value(objective, untouched)[0]
        best, kept = torch.zeros(len(y), dtype=torch.long, device=y.device), torch.zeros_like(most, dtype=torch.bool)
        places = ball.places(stream.shape[1], self.every_ms)
        for number in steps(len(places)):
            place = torch.full_like(best, places[number])
            there = replace(active, x=replace(x, **{name: ball.moved(stream, place)}))
            value = there.value(objective, untouched)[0]
            better = value > most
            best, most, kept = torch.where(better, place, best), torch.where(better, value, most), kept | better
        moved = ball.moved(stream, best)
        return replace(x, **{name: torch.where(engine.per_clip(kept, stream), moved, stream)})

    def _one(self, threat: Threat, x: Signals) -> tuple[str, torch.Tensor, Timed]:
        """The modality that is attacked, its stream and its budget."""
        found = [(name, getattr(x, name), ball) for name, ball in threat.items() if ball.active]
        if len(found) > 1 or not timed(threat):
            raise ValueError(
                f"expected one budget in time, got {threat}. Give Threat(Delay(40, rate=16_000), Threat.linf().visual), with "
                "avrobust.timing.Delay: only the delay between both modalities counts."
            )
        name, stream, ball = found[0]
        assert isinstance(ball, Timed)
        return name, stream, ball
