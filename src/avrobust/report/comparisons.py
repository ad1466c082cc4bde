"""Claims as comparisons: what is said to be larger, by how much it is, and whether these clips can tell."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from avrobust.evaluation.answers import Answers, Budget, shared
from avrobust.evaluation.flags import SIGNIFICANT
from avrobust.evaluation.metrics import Estimate, Paired, avg_attacked, estimate, paired
from avrobust.report.read import SUBSETS
from avrobust.report.words import picture, sound

NAME = {"A": "sound", "V": "picture"}
Verdict = Literal["holds", "does not hold", "undecided", "not tested"]


@dataclass(frozen=True)
class Comparison:
    """`low` is claimed to be right less often than `high`; `p` is corrected for the page.

    With a `margin`, the claim is only that `high` lies no further than that below `low`.
    """

    low_name: str
    high_name: str
    low: Estimate
    high: Estimate
    gap: Paired  # high minus low
    p: float
    margin: float = 0.0

    @property
    def sign(self) -> int:
        """1: as claimed; -1: the other way round; 0: these clips cannot tell."""
        if self.p >= SIGNIFICANT:
            return 0
        return 1 if self.gap.centre > -self.margin else -1


@dataclass(frozen=True)
class Claim:
    """What the paper says, its evidence, and what this run's answers say.  `every`: all comparisons must agree."""

    name: str
    text: str
    paper: str
    comparisons: tuple[Comparison, ...]
    every: bool = True
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        signs = [c.sign for c in self.comparisons]
        if not signs:
            return "not tested"
        if -1 in signs:
            return "does not hold"
        met = all(signs) if self.every else any(signs)
        return "holds" if met else "undecided"


def compare(
    low_name: str,
    low: Answers | None,
    high_name: str,
    high: Answers | None,
    *,
    column: str = "correct",
    margin: float = 0.0,
) -> list[Comparison]:
    """One comparison, paired clip by clip; none when either side is missing or they share no clip with a value."""
    if low is None or high is None or column not in low.columns or column not in high.columns:
        return []
    a, b = (answers[column].astype(float) for answers in shared(low, high))
    known = ~np.isnan(a + b).any(0)
    a, b = a[:, known], b[:, known]
    gap = paired(b, a)
    if not gap.n:
        return []
    return [Comparison(low_name, high_name, estimate(a), estimate(b), gap, _p(gap, margin), margin)]


def mean_attacked(answers: Sequence[Answers | None]) -> Answers | None:
    """The mean of answers under attacks on A, V and AV as one value per clip; None where one of them is missing."""
    found = [a for a in answers if a is not None]
    if len(found) < len(SUBSETS):
        return None
    same = shared(*found)
    mean = avg_attacked(*(a["correct"].astype(float) for a in same))
    return replace(same[0], columns=dict(same[0].columns) | {"correct": mean})


def _p(gap: Paired, margin: float) -> float:
    """How often chance alone would be as far from a gap of -margin; without a margin, the test's own."""
    return gap.p if not margin else float(2 * stats.norm.sf(abs(gap.centre + margin) / gap.error))


def at(subset: str, budget: Budget) -> str:
    """A budget as the reader meets it."""
    parts = {"A": sound(budget.eps_audio, budget.audio), "V": picture(budget.eps_visual, budget.visual)}
    return " and ".join(parts[s] for s in subset)
