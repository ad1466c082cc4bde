"""Two models, or two attacks, on the same clips: their difference, its interval, and whether it could be chance.

Shapes and intervals as in `stats`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool
from scipy import stats

from avrobust.evaluation.stats import Scores, Z


@dataclass(frozen=True)
class Paired:
    """Two sets of predictions on the same clips: `difference` is the first's accuracy minus the second's.

    `better`: clips that only the first classifies correctly; `worse`: only the second.  `p`: how often chance alone
    would give a difference at least as large, if neither were better.  `centre` and `error` are the middle of the
    interval before it is cut off at ±1, and its standard error.
    """

    n: int
    better: int
    worse: int
    difference: float
    low: float
    high: float
    p: float
    seeds: int = 1
    centre: float = np.nan
    error: float = np.nan

    def as_one_of(self, m: int, margin: float = 0.0) -> "Paired":
        """The same, as one of `m` comparisons that answer one family of questions: interval and p adjusted alike.

        Bonferroni: the interval is that of 95 % for all `m` at once, and p is that of its own normal test, times `m`, so
        that p < 0.05 exactly where the interval leaves `-margin` out.  (Holm's p values have no such intervals.)

        >>> one = mcnemar(np.array([True] * 90 + [False] * 10), np.array([True] * 80 + [False] * 20))
        >>> print(one.as_one_of(1)), print(one.as_one_of(5))
        +10.0 points [+3.4, +16.2], p = 0.003, n = 100
        +10.0 points [+1.4, +18.2], p = 0.013, n = 100
        (None, None)
        """
        if not self.n:
            return self
        half = float(stats.norm.isf(0.025 / max(m, 1))) * self.error
        p = min(1.0, max(m, 1) * 2 * float(stats.norm.sf(abs(self.centre + margin) / self.error)))
        return replace(self, low=max(-1.0, self.centre - half), high=min(1.0, self.centre + half), p=p)

    def __str__(self) -> str:
        if np.isnan(self.difference):
            return "—"
        low, high = f"{100 * self.low:+.1f}", f"{100 * self.high:+.1f}"
        return f"{100 * self.difference:+.1f} points [{low}, {high}], p {p_value(self.p)}, n = {self.n}"


def p_value(p: float) -> str:
    """A p value as people write it.

    >>> p_value(0.0312), p_value(1e-9)
    ('= 0.031', '< 0.001')
    """
    return "< 0.001" if p < 0.001 else f"= {p:.3f}"


def mcnemar(correct1: Bool[np.ndarray, " n"], correct2: Bool[np.ndarray, " n"]) -> Paired:
    """Do two models differ on the same clips?  Exact McNemar test: only the clips they disagree on can tell.

    The interval of the difference is Bonett & Price's (2012): Wald after one more disagreement of either kind.

    >>> print(mcnemar(np.array([True] * 90 + [False] * 10), np.array([True] * 75 + [False] * 25)))
    +15.0 points [+7.3, +22.1], p < 0.001, n = 100
    """
    return paired(correct1[None], correct2[None])


def paired(correct1: Scores, correct2: Scores) -> Paired:
    """`mcnemar` for (seeds, clips); seed i of the first is compared with seed i of the second.

    Scores may also be shares in [0, 1], such as the mean over three attacks.  For those, and for several seeds, the test
    is normal, with the interval's variance: that between clips, plus that between seeds.

    >>> same = np.random.default_rng(0).random((3, 300)) < 0.5
    >>> paired(same, same).p
    1.0
    """
    gap = correct1.astype(float) - correct2
    seeds, n = gap.shape
    if gap.size == 0:
        return Paired(0, 0, 0, np.nan, np.nan, np.nan, np.nan)
    better, worse = int((gap > 0).sum()), int((gap < 0).sum())
    # Two clips more, one for either side: identical answers are no proof of identical models.
    by_clip = np.append(gap.mean(0), [1.0, -1.0])
    variance = by_clip.var() / len(by_clip)
    if seeds > 1:
        variance += gap.mean(1).var(ddof=1) / seeds
    centre, error = float(by_clip.mean()), float(np.sqrt(variance))
    if seeds == 1 and np.isin(gap, (-1, 0, 1)).all():
        p = min(1.0, 2 * float(stats.binom.cdf(min(better, worse), better + worse, 0.5)))
    else:
        p = float(2 * stats.norm.sf(abs(centre) / error))
    low, high = max(-1.0, centre - Z * error), min(1.0, centre + Z * error)
    return Paired(n, better, worse, float(gap.mean()), low, high, p, seeds, centre, error)


def clips_needed(gap: Scores, points: float = 0.03, power: float = 0.8, m: int = 1) -> int:
    """How many clips a paired test needs to see a true difference of `points` (0.03 is 3 points) with this power.

    `gap` are the differences that were seen, (seeds, clips); what counts of them is how much they vary from clip to
    clip, about the share of clips on which the two disagree, one more of either kind counted as in `paired`.
    Two-sided at 5 % for all `m` comparisons of a family (`Paired.as_one_of`); `points` is where the mean would lie.

    >>> clips_needed(np.array([[1.0] * 12 + [-1.0] * 8 + [0.0] * 80]))
    1868
    """
    variance = np.append(gap.mean(0), [1.0, -1.0]).var()
    needed = (float(stats.norm.isf(0.025 / m)) + float(stats.norm.ppf(power))) ** 2 * float(variance) / points**2
    return max(1, math.ceil(needed))


def holm(ps: Sequence[float]) -> list[float]:
    """p values made fair to their number (Holm 1979): those of a page full of tests, in their order.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(ps)
    adjusted = np.empty(len(ps))
    scaled = np.asarray(ps, dtype=float)[order] * np.arange(len(ps), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return [float(p) for p in adjusted]
