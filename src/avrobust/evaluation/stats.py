"""Numbers from right and wrong answers, each with how far it can be trusted.  Pure: arrays in, numbers out.

Fractions lie in [0, 1] everywhere here; pages multiply by 100.  Every interval is meant to hold the truth in
95 of 100 repetitions.  `correct` arrays are (seeds, clips): True where the model answered right.  Clips stand
for others of their kind, so clips (and seeds, when there are several) are what the intervals range over.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

Z = float(stats.norm.ppf(0.975))  # 95 %, two-sided
Correct = Bool[np.ndarray, "s n"]
Scores = Correct | Float[np.ndarray, "s n"]


def wilson(k: float, n: float) -> tuple[float, float]:
    """Where the true fraction lies when `k` of `n` were right (Wilson 1927, eq. of the score interval).

    `k` and `n` may be fractional: `estimate` passes effective counts.  (nan, nan) when n is 0.

    >>> [round(x, 3) for x in wilson(0.0, 20.0)]
    [0.0, 0.161]
    """
    if n == 0:
        return np.nan, np.nan
    p = k / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; a dash when there is none.

    >>> percent(0.4104), percent(float("nan"))
    ('41.0', '—')
    """
    return "—" if np.isnan(value) else f"{100 * value:.1f}"


@dataclass(frozen=True)
class Proportion:
    """`k` right of `n`, with its Wilson interval.

    >>> print(Proportion(165, 402))
    41.0 % of 402 [36.3, 45.9]
    """

    k: int
    n: int

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n:
            raise ValueError(f"expected 0 <= k <= n, got {self.k} of {self.n}. Count each clip once.")

    @property
    def value(self) -> float:
        return self.k / self.n if self.n else np.nan

    @property
    def low(self) -> float:
        return wilson(float(self.k), float(self.n))[0]

    @property
    def high(self) -> float:
        return wilson(float(self.k), float(self.n))[1]

    def __str__(self) -> str:
        return str(Estimate(self.value, self.low, self.high, self.n))


@dataclass(frozen=True)
class Estimate:
    """A number from `n` clips (times `seeds` trained models) with its interval; nan when there is none."""

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "—"
        count = f"{self.n}" if self.seeds == 1 else f"{self.n} × {self.seeds} seeds"
        return f"{percent(self.value)} % of {count} [{percent(self.low)}, {percent(self.high)}]"


MISSING = Estimate(np.nan, np.nan, np.nan, 0)


# Which mean the word "Avg" meant: the paper's tables use one header for two quantities.


def avg_attacked(a: Any, v: Any, av: Any) -> Any:
    """Mean of the three attacked accuracies: the "Avg" of Tables 1 and 3, and of RI (numbers or arrays).

    >>> round(avg_attacked(51.92, 45.19, 15.38), 2)
    37.5
    """
    return (a + v + av) / 3


def avg_all(clean: Any, a: Any, v: Any, av: Any) -> Any:
    """Mean of the clean and the three attacked accuracies: the "Avg" of Table 2 (numbers or arrays).

    >>> round(avg_all(88.46, 51.92, 45.19, 15.38), 2)
    50.24
    """
    return (clean + a + v + av) / 4


def relative_improvement(clean: Any, avg: Any, base_clean: Any, base_avg: Any) -> Any:
    """RI: what a defence wins over its base, clean and attacked together; `avg` is `avg_attacked`.

    RI = (clean + avg) - (base_clean + base_avg), Section 4.6 of Tian & Xu 2021.

    >>> round(relative_improvement(90.38, 56.41, 88.46, 37.50), 2)
    20.83
    """
    return (clean + avg) - (base_clean + base_avg)


# One number and its interval


def estimate(values: Float[np.ndarray, "s n"] | Correct) -> Estimate:
    """The mean of a (seeds, clips) table of values in [0, 1], with a Wilson interval.

    With one seed and right-or-wrong values this is `Proportion`.  Otherwise the count in Wilson's formula is
    the effective one, p (1 - p) / variance of the mean, where the variance is that between clips (each averaged
    over seeds) plus that between seeds: their overlap is counted twice, so it is wide rather than narrow.
    Where nothing varies (all right, all wrong) each clip counts once, however many seeds saw it.
    Two or three seeds say little about seeds: where models differed by 5 points (standard deviation) at 200
    clips, the simulated interval held the truth in 88 (two), 92 (three) and 94 (five) of 100 repetitions.

    >>> print(estimate(np.array([[True] * 165 + [False] * 237])))
    41.0 % of 402 [36.3, 45.9]
    """
    seeds, n = values.shape
    if seeds == 0 or n == 0:
        return MISSING
    values = values.astype(float)
    p = float(values.mean())
    variance = values.mean(0).var() / n
    if seeds > 1:
        variance += values.mean(1).var(ddof=1) / seeds
    count = float(p * (1 - p) / variance) if variance > 0 else float(n)
    return Estimate(p, *wilson(p * count, count), n, seeds)


def bootstrap(
    correct: Bool[np.ndarray, "s n c"],
    statistic: Callable[..., Any],
    *,
    seed: int = 0,
    draws: int = 4000,
) -> Estimate:
    """A statistic of several accuracies on the same clips, with its percentile bootstrap interval.

    `correct` is (seeds, clips, columns); `statistic` gets the accuracy of each column, in order, as numbers or
    as arrays over draws.  Clips are drawn with replacement, and seeds too; a drawn clip keeps all its columns, so
    what is paired stays paired.  `seed` makes the draw repeatable: pass `digest(...)` to tie it to a name.
    Near 0 and 1 the interval is too narrow (it is empty if all clips agree): for a plain mean use `estimate`.

    >>> columns = np.random.default_rng(0).random((1, 200, 4)) < [0.9, 0.5, 0.4, 0.2]
    >>> print(bootstrap(columns, lambda clean, *attacked: avg_attacked(*attacked)))
    35.3 % of 200 [31.7, 39.0]
    """
    seeds, n, _ = correct.shape
    if seeds == 0 or n == 0:
        return MISSING
    rng = np.random.default_rng(seed)
    by_clip = rng.multinomial(n, np.full(n, 1 / n), draws) / n
    by_seed = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    means = np.einsum("ds,dn,snc->cd", by_seed, by_clip, correct.astype(float), optimize=True)
    low, high = np.quantile(statistic(*means), [0.025, 0.975])
    return Estimate(float(statistic(*correct.mean((0, 1)))), float(low), float(high), n, seeds)


# Two numbers and their difference


@dataclass(frozen=True)
class Paired:
    """Two sets of answers to the same clips: `difference` is the first's accuracy minus the second's.

    `better`: answers that only the first has right; `worse`: only the second.  `p`: how often chance alone
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


def among(those: Bool[np.ndarray, "s n"], of: Bool[np.ndarray, "s n"]) -> Estimate:
    """The share of `those` among some (seeds, clips); in the interval a clip counts once, however many seeds it is of.

    >>> of = np.ones((3, 50), bool)
    >>> print(among(of & (np.arange(50) < 10), of))
    20.0 % of 150 [11.2, 33.0]
    """
    n, clips = int(of.sum()), float(of.any(0).sum())
    if not n:
        return MISSING
    p = float((those & of).sum()) / n
    return Estimate(p, *wilson(p * clips, clips), n)


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
