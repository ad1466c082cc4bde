"""An attack on a smoothed model: its gradient is that of an expectation over copies, its success a vote over other copies."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

from avrobust import engine
from avrobust.attacks.base import check_settings, wrapped_info
from avrobust.certificates.base import FORWARD, Certificate, draws_of
from avrobust.engine.chunks import NUMBERS_ON_CPU, joined
from avrobust.facts import AttackInfo
from avrobust.objectives import Need, display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Attack, Labels, Model, Output, Signals

T = TypeVar("T")


@dataclass(frozen=True)
class Smoothed:
    """`attack` on the model that `certificate` smooths, within any threat: what it finds bounds the certificate from above.

    A vote has no gradient.  The attack raises its objective on the log of the mean softmax over `copies` of each clip (Salman
    et al., NeurIPS 2019), the same copies in every step, each tied to seed and clip.  Rows then hold the vote over `votes`
    other copies of what it found, which the attack has not seen.

    >>> from avrobust.attacks import PGD
    >>> from avrobust.certificates import Gaussian
    >>> Smoothed(PGD(steps=20), Gaussian(audio=0.02)).name
    'PGD-20 on Gaussian, audio 0.02'
    """

    attack: Attack
    certificate: Certificate
    copies: int = 16
    votes: int = 200

    mode: ClassVar[str] = "smoothed"

    def __post_init__(self) -> None:
        check_settings(copies=(self.copies, 1), votes=(self.votes, 1))

    @property
    def name(self) -> str:
        """Display name."""
        return f"{display_name(self.attack)} on {self.certificate.name}"

    @property
    def info(self) -> AttackInfo:
        """The facts of the attack."""
        return wrapped_info(self.attack, variant="smoothed")

    @property
    def steps(self) -> int:
        """Its cost per clip, in passes forth and back."""
        return getattr(self.attack, "steps", 1) * self.copies + round(FORWARD * self.votes)

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        victim = engine.as_victim(model, x.map(lambda s: s[:1])).without_cache()
        return self.attack(SmoothedVictim(victim, self.certificate, self.copies, seeds), x, y, threat, seeds)


@dataclass(frozen=True)
class SmoothedVictim(engine.Around):
    """The log of `victim`'s mean softmax over `copies` of each clip; `seeds` name the clips."""

    certificate: Certificate
    copies: int
    seeds: Seeds

    @property
    def rounding(self) -> float:
        """Twice that of logits: a logit and the sum over all of them."""
        return 2 * self.victim.rounding

    def inside(self, x: Signals) -> Signals:
        return joined(
            [
                self.certificate.copies(
                    x.map(lambda s, i=i: s[i : i + 1]), self.copies, draws_of(self.seeds, i, "attack")
                )
                for i in range(len(x.audio))
            ]
        )

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        shares = super().output(x).logits.float().softmax(1)
        return Output(shares.view(len(x.audio), self.copies, -1).mean(1).clamp_min(1e-12).log())

    def subset(self, clips: Any) -> "SmoothedVictim":
        return replace(self, seeds=self.seeds.subset(clips))

    def map_chunks(self, x: Signals, work: Callable[[slice], T]) -> list[T]:
        """As many clips at a time as their copies allow."""
        return engine.ChunkSize(NUMBERS_ON_CPU / self.copies).map(x, work)

    def fix_unattacked(self, x: Signals, threat: Threat, needs: Sequence[Need] = ()) -> "SmoothedVictim":
        return self

    def ways(self, x: Signals) -> tuple[engine.Way, ...]:
        return ()
