"""Claims as comparisons: what is claimed to be larger, by how much it is, and whether these clips can tell.

A claim is a function of a run and the budgets of a table: `report.sections.claims` has those about integration, a
paper brings its own (`report.paper.Paper`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from avrobust.evaluation.comparison import Paired, paired
from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.flags import SIGNIFICANT
from avrobust.evaluation.stats import Estimate, avg_attacked, estimate
from avrobust.report.formatting import ATTACKED, at, listing
from avrobust.report.run import SUBSETS, Level, Run

Verdict = Literal["holds", "holds in part", "does not hold", "undecided", "not tested"]
Family = Literal[
    "integration",
    "transfer",
    "masking",
    "attacks",
    "visual",
    "localisation",
    "fusions and defenses",
    "natural",
    "gates",
    "clean accuracy",
]


@dataclass(frozen=True)
class Comparison:
    """`low` is claimed to be correct less often than `high`; `p` and the interval of `gap` are adjusted alike.

    With a `margin`, the claim is only that `high` lies no further than that below `low`.  Both sides are of the clips
    that they share; `low_whole` and `high_whole` are of all clips, where a clean side has more of them.
    """

    low_name: str
    high_name: str
    low: Estimate
    high: Estimate
    gap: Paired  # high minus low
    p: float
    margin: float = 0.0
    low_whole: Estimate | None = None
    high_whole: Estimate | None = None

    def as_one_of(self, m: int) -> "Comparison":
        """As one of the `m` comparisons of its family."""
        gap = self.gap.as_one_of(m, self.margin)
        return replace(self, gap=gap, p=gap.p)

    @property
    def sign(self) -> int:
        """1: as claimed; -1: the other way round; 0: these clips cannot tell."""
        if self.p >= SIGNIFICANT:
            return 0
        return 1 if self.gap.centre > -self.margin else -1


@dataclass(frozen=True)
class Claim:
    """What is claimed, and what this run's predictions say; `printed` is the evidence that a paper prints for it.

    `every`: all comparisons must agree; else the claim holds in part where some do.
    """

    name: str
    text: str
    comparisons: tuple[Comparison, ...]
    every: bool = True
    note: str = ""
    family: Family = "integration"
    printed: str = ""

    @property
    def verdict(self) -> Verdict:
        signs = [c.sign for c in self.comparisons]
        if not signs:
            return "not tested"
        if -1 in signs:
            return "does not hold"
        if all(signs):
            return "holds"
        return "holds in part" if any(signs) and not self.every else "undecided"


def compare(
    low_name: str,
    low: Predictions | None,
    high_name: str,
    high: Predictions | None,
    *,
    column: str = "correct",
    margin: float = 0.0,
) -> list[Comparison]:
    """One comparison, paired clip by clip; none when either side is missing or they share no clip with a value."""
    if low is None or high is None or column not in low.columns or column not in high.columns:
        return []
    a, b = (predictions[column].astype(float) for predictions in shared(low, high))
    known = ~np.isnan(a + b).any(0)
    a, b = a[:, known], b[:, known]
    if not a.size:
        return []
    gap = paired(b, a).as_one_of(1, margin)
    wholes = (_whole(predictions, column, gap.n) for predictions in (low, high))
    return [Comparison(low_name, high_name, estimate(a), estimate(b), gap, gap.p, margin, *wholes)]


def _whole(predictions: Predictions, column: str, n: int) -> Estimate | None:
    """Of all clips, where these are more than `n`."""
    values = predictions[column].astype(float)
    values = values[:, ~np.isnan(values).any(0)]
    return estimate(values) if values.shape[1] > n else None


def versus(run: Run, level: Level, subset: str, strong: str, weak: str) -> list[Comparison]:
    """One attack against another on the first audio-visual model, claimed to leave less."""
    model, budget = run.model("AV"), level[subset]
    return compare(
        f"{strong}, {ATTACKED[subset].lower()} at {at(subset, budget)}",
        run.attacked(model, strong, subset, budget),
        weak,
        run.attacked(model, weak, subset, budget),
    )


def over(attacks: Sequence[str]) -> str:
    """What the worst case is taken over, as a sentence."""
    return f"Worst case over {listing(attacks)}." if attacks else ""


def mean_attacked(predictions: Sequence[Predictions | None]) -> Predictions | None:
    """The mean over attacks on A, V and AV as one value per clip; None where one of them is missing."""
    found = [p for p in predictions if p is not None]
    if len(found) < len(SUBSETS):
        return None
    same = shared(*found)
    mean = avg_attacked(*(p["correct"].astype(float) for p in same))
    return replace(same[0], columns=dict(same[0].columns) | {"correct": mean})


def fullest(make: Callable[[Run, Level], Claim], run: Run, levels: Sequence[Level]) -> Claim:
    """The claim at the largest of these budgets that has most of what it compares."""
    return max((make(run, level) for level in [*reversed(levels), {}]), key=lambda claim: len(claim.comparisons))


def families(claims: Sequence[Claim]) -> dict[str, int]:
    """How many comparisons each family has."""
    sizes: dict[str, int] = {claim.family: 0 for claim in claims}
    for claim in claims:
        sizes[claim.family] += len(claim.comparisons)
    return sizes
