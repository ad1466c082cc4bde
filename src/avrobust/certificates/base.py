"""What a certificate is: how copies of a clip are randomised, and which perturbations a vote over them withstands."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from torch import Tensor

from avrobust.attacks.base import check_settings
from avrobust.attacks.controls import ANYTHING
from avrobust.certificates.bounds import lower, upper
from avrobust.config import check_choices
from avrobust.facts import AttackInfo
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Model, Signals

FORWARD = 1 / 3  # of a pass forth and back
Draws = AV[np.random.Generator]


@dataclass(frozen=True, kw_only=True)
class Certificate(ABC):
    """How a model is smoothed, and how its vote is counted (Cohen, Rosenfeld & Kolter, ICML 2019, CERTIFY).

    `select` copies choose the class, and as many other `draws` estimate how likely a copy gets it.  The guarantee of a clip
    is wrong with probability `alpha` at most: of n clips that are certified, alpha x n at most are expected to be certified
    wrongly.  For a guarantee of all n at once give alpha / n.

    `others` says what bounds the probability of every other class: "rest", all that is left, as the paper does; or
    "runner-up", the upper bounds of the counts of the others, each at half of alpha over their number.  Where nothing is
    certified, the smoothed model abstains, which is never correct.

    A certificate has the form of an attack that leaves the clips alone, so that `evaluate` gives its rows.  What two sizes of perturbation, one per modality, come to is one number, `distance`; what a vote
    guarantees is another, `reach`.  Every perturbation whose distance is below the reach is withstood.
    """

    select: int = 100
    draws: int = 1000
    alpha: float = 0.001
    others: Literal["rest", "runner-up"] = "rest"

    mode: ClassVar[str] = "smoothed"
    # What `distance` counts in, for the axis of a figure; the unit of a perturbation's size in either modality.
    axis: ClassVar[str]
    unit: ClassVar[str]

    def __post_init__(self) -> None:
        check_settings(select=(self.select, 1), draws=(self.draws, 1))
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha should be a probability, got {self.alpha!r}. Give 0.001, for one clip in 1000.")
        check_choices(self)

    @property
    @abstractmethod
    def name(self) -> str:
        """Display name."""

    @property
    @abstractmethod
    def subset(self) -> str:
        """The modalities that may be perturbed: "A", "V" or "AV"."""

    @abstractmethod
    def copies(self, clip: Signals, count: int, draws: Draws) -> Signals:
        """`count` randomised copies of one clip, shaped (1 ...); the next of each generator, whatever the count."""

    @abstractmethod
    def distance(self, audio: float = 0.0, visual: float = 0.0) -> float:
        """What perturbations of these sizes come to, together; inf for a modality that may not be perturbed."""

    @abstractmethod
    def reach(self, low: float, high: float) -> float:
        """Below which distance a class keeps its lead that is drawn with `low` or more, any other with `high` or less."""

    @abstractmethod
    def alone(self, reach: float) -> AV[float]:
        """The size of a perturbation of each modality alone that comes to this distance."""

    @abstractmethod
    def sizes(self, x: Signals, adversarial: Signals) -> AV[list[float]]:
        """The size of each clip's perturbation, per modality."""

    def bounds(self, counts: np.ndarray, chosen: int) -> tuple[float, float]:
        """The probability of the chosen class from below, and of any other class from above; `counts` are of `draws` copies."""
        most = int(max(np.delete(counts, chosen), default=0))
        if self.others == "rest" or len(counts) < 2:
            low = lower(int(counts[chosen]), self.draws, self.alpha)
            return low, 1 - low
        low = lower(int(counts[chosen]), self.draws, self.alpha / 2)
        return low, min(1 - low, upper(most, self.draws, self.alpha / 2 / (len(counts) - 1)))

    @property
    def certificate(self) -> "Certificate":
        """Itself: what smooths the model that rows are about."""
        return self

    @property
    def threat(self) -> Threat:
        """What it is about: any perturbation of the modalities in `subset`."""
        return ANYTHING.only(self.subset)

    @property
    def info(self) -> AttackInfo:
        """It is no attack."""
        return AttackInfo(variant="smoothed")

    @property
    def steps(self) -> int:
        """Its cost per clip, in passes forth and back: copies go forwards only."""
        return round(FORWARD * (self.select + self.draws))

    def __call__(self, model: Model | None, x: Signals, y: Tensor | None, threat: Threat, seeds: Seeds) -> Signals:
        """The clips themselves."""
        return x


def draws_of(seeds: Seeds, clip: int, *purpose: object) -> Draws:
    """The generators of one clip, one per modality."""
    return AV(*(seeds.generator(clip, "smoothing", *purpose, name) for name in ("audio", "visual")))
