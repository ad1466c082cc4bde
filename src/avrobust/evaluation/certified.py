"""Certified accuracy over the size of a perturbation, beside what attacks on the same smoothed model leave correct."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

from avrobust.config import ConfigError, from_plain
from avrobust.evaluation.conditions import Condition, Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, columns, estimate

if TYPE_CHECKING:  # whose modules load torch
    from avrobust.certificates import Certificate

Table = Mapping[Condition, Predictions]
DASH = "—"


@dataclass(frozen=True)
class UnderAttack:
    """An attack on a smoothed model: the share of clips certified against all that is no further than this attack went, and
    the share that it left correct.  The first is a lower bound, the second an upper bound of robust accuracy.

    `distance` is the furthest of any clip.  `broken` are the clips on which the attack surely succeeded although a
    perturbation of its size is certified to change nothing.
    """

    condition: Condition
    distance: float
    certified: Estimate
    correct: Estimate
    broken: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Certified:
    """A model smoothed by one certificate: `here` are the predictions on clean clips, with what is certified of each.

    `told` is the certificate as plain data; `attacks` are in the order of their distance.
    """

    here: Predictions
    told: str
    base: Estimate
    attacks: tuple[UnderAttack, ...]

    @property
    def model(self) -> str:
        """The model that is smoothed."""
        return self.here.condition.model

    @property
    def name(self) -> str:
        """The certificate's display name."""
        return self.here.condition.attack

    @property
    def title(self) -> str:
        """The smoothed model, which is another one than the model: what raises doubt in one says nothing of the other."""
        return f"{self.model}, {self.name}"

    @property
    def certificate(self) -> "Certificate":
        """The certificate.  Raises `ValueError` for one of a module that the program has not imported."""
        try:
            made: Certificate = from_plain(json.loads(self.told))
        except ConfigError as error:
            raise ValueError(
                f"expected a certificate of this package for {self.model}, {error}. Import the module of yours first."
            ) from None
        return made

    @property
    def alpha(self) -> float:
        """The probability with which the guarantee of a clip is wrong."""
        return float(json.loads(self.told)["alpha"])

    @property
    def reach(self) -> Float[np.ndarray, "s n"]:
        """Below which distance the label is certified; 0 where another class is, or none."""
        return np.where(self.here["correct"], self.here["reach"].astype(float), 0.0)

    @property
    def abstained(self) -> Estimate:
        """The share of clips of which the smoothed model says nothing."""
        return estimate(self.here["reach"].astype(float) <= 0)

    def accuracy(self, distance: float = 0.0) -> Estimate:
        """Certified accuracy: the share of clips with the right class whatever is no further than this."""
        return estimate(self.reach > distance)


def certified(every: Table, clean: Table) -> list[Certified]:
    """One per model and certificate, of predictions of mode "smoothed"; `clean` has those of the models themselves.

    The clips are those that the certificate's rows have, and those attacked among them.
    """
    bases = {c.model: p for c, p in clean.items() if c.subset == "clean"}
    made: dict[tuple[str, str], Certified] = {}
    for c, p in every.items():
        told = str(p["certificate"][0][0]) if p["certificate"].size else ""
        if not told or (c.model, told) in made or np.isnan(p["reach"].astype(float)).any():
            continue
        against = [o for d, o in every.items() if d.model == c.model and _attacks(o, told)]
        base = bases.get(c.model)
        made[c.model, told] = Certified(
            p,
            told,
            MISSING if base is None else estimate(shared(base, p)[0]["correct"]),
            tuple(sorted((_under_attack(p, a, told) for a in against), key=lambda a: a.distance)),
        )
    return list(made.values())


def _attacks(p: Predictions, told: str) -> bool:
    """Whether these are attacks on a model that this certificate smooths."""
    return bool(
        p["certificate"].size and p["certificate"][0][0] == told and np.isfinite(p["distance"].astype(float)).all()
    )


def _under_attack(here: Predictions, attacked: Predictions, told: str) -> UnderAttack:
    here, attacked = shared(here, attacked)
    distance, reach = attacked["distance"].astype(float), np.where(here["correct"], here["reach"].astype(float), 0.0)
    within = reach > distance
    furthest = float(distance.max(initial=0.0))
    # A vote that a likelier label would lose so often once in all clips that are tried.
    limit = json.loads(told)["alpha"] / max(int(within.sum()), 1)
    votes, label = (attacked[name].astype(int) for name in ("votes", "votes_label"))
    lost = within & ~attacked["correct"] & (stats.binom.cdf(label, votes + label, 0.5) < limit)
    return UnderAttack(
        attacked.condition,
        furthest,
        estimate(reach > furthest),
        estimate(attacked["correct"]),
        _named(attacked, lost),
    )


def overclaimed(found: Certified) -> tuple[str, ...]:
    """The clips whose bound lies above what their votes allow at the certificate's own alpha."""
    votes, draws = (found.here[name].astype(float) for name in ("votes", "draws"))
    allowed = np.where(votes > 0, stats.beta.ppf(found.alpha, votes, draws - votes + 1), 0.0)
    return _named(found.here, found.here["p_low"].astype(float) > allowed * (1 + 1e-9) + 1e-12)


def _named(here: Predictions, which: Bool[np.ndarray, "s n"]) -> tuple[str, ...]:
    """The clips of which this holds with any seed."""
    return tuple(clip for clip, any_seed in zip(here.clips, np.any(which, axis=0), strict=True) if any_seed)


def certified_lines(every: Sequence[Certified]) -> list[str]:
    """What a table prints of smoothed models: their accuracy, certified at distance 0, and beside each attack what is certified at its distance and what it leaves correct."""
    lines = [("model", "smoothed by", "attack", "distance", "certified accuracy", "correct", "abstained")]
    for found in every:
        lines.append((found.model, found.name, "none", "0", str(found.accuracy()), DASH, str(found.abstained)))
        for attack in found.attacks:
            budget = attack.condition.budget.attacked
            lines.append(
                (
                    found.model,
                    found.name,
                    budget,
                    f"{attack.distance:.3g}",
                    str(attack.certified),
                    str(attack.correct),
                    DASH,
                )
            )
    return ["", *columns(lines)] if every else []


def listed(clips: Sequence[str], most: int = 3) -> str:
    """The first clips by name, and how many there are."""
    named = ", ".join(f"'{clip}'" for clip in clips[:most])
    return named if len(clips) <= most else f"{named} and {len(clips) - most} more"
