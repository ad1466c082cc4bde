"""TIA, MMA and TMA: MIM on the paper's objectives, as settings.

The paper compares with MI-FGSM and gives no step size, budget or weights that we could read; ours are those of `MIM`, and
the weights of a sweep (`avrobust study temporal`).  Where the names are not the paper's, they say so.
"""

from dataclasses import dataclass
from typing import Literal

from avrobust.attacks import MIM, Consecutive, Variation
from avrobust.papers.zhang2025.objectives import TemporalAndModality

# One changed copy a step: as many gradients as MI-FGSM takes.  The mean over several is another reading.
CHANGED = (Consecutive(),)


@dataclass(frozen=True, repr=False)
class _Attack(MIM):
    """MIM with an objective and variations of its own; the last iterate, as transfer attacks keep it."""

    keep: Literal["best", "last"] = "last"

    @property
    def name(self) -> str:
        """Display name; with its objective where that is not the usual one of its kind."""
        usual = type(self)()
        shown = "" if self.objective == usual.objective else f" ({self._shown})"
        variant = "" if self.variations == usual.variations else f", {self._variant or 'unchanged clips'}"
        return f"{type(self).__name__}-{self.steps}{shown}{variant}{', NI' if self.look_ahead else ''}"

    @property
    def _shown(self) -> str:
        return str(getattr(self.objective, "name", self.objective))


@dataclass(frozen=True, repr=False)
class TIA(_Attack):
    """The temporal invariance attack: raise the loss and lower temporal variation, through changed consecutive segments.

    >>> TIA().name, TIA(objective=TemporalAndModality(temporal=-1.0)).name
    ('TIA-10', 'TIA-10 (CE + L_T)')
    """

    objective: TemporalAndModality | None = TemporalAndModality(temporal=1.0)  # noqa: RUF009, frozen
    variations: tuple[Variation, ...] = CHANGED

    info = MIM.info  # a class states its own


@dataclass(frozen=True, repr=False)
class MMA(_Attack):
    """The modality misalignment attack: raise the loss and lower the agreement of both modalities.

    The same objective as `WithSimilarity(-1)`, and the opposite of what the attacker of Tian & Xu 2021 raises.

    >>> MMA(objective=TemporalAndModality(modality=1.0, level="predictions")).name
    'MMA-10 (CE − L_M of predictions)'
    """

    objective: TemporalAndModality | None = TemporalAndModality(modality=1.0)  # noqa: RUF009, frozen

    info = MIM.info  # a class states its own


@dataclass(frozen=True, repr=False)
class TMA(_Attack):
    """Both: equation 4.

    >>> TMA().info.objective
    'CE − L_T − L_M'
    """

    objective: TemporalAndModality | None = TemporalAndModality(temporal=1.0, modality=1.0)  # noqa: RUF009, frozen
    variations: tuple[Variation, ...] = CHANGED

    info = MIM.info  # a class states its own
