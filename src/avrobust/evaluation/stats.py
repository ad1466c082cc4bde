"""Numbers from correct and wrong predictions, each with its 95 % interval.  Pure: arrays in, numbers out.

Fractions lie in [0, 1] everywhere here; pages multiply by 100.  Every interval should contain the truth in 95 of 100
repetitions.  `correct` arrays are (seeds, clips): True where the model classified correctly.  Clips are a sample of
their kind, so intervals cover the choice of clips (and of seeds, where there are several).  `comparison` compares two
models or attacks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

Z = float(stats.norm.ppf(0.975))  # 95 %, two-sided
# A bootstrap draws so many numbers in all, but so many draws at least, and so many numbers at once.
DRAWN, FEWEST_DRAWS, AT_ONCE = 10**9, 200, 4 * 10**6
Correct = Bool[np.ndarray, "s n"]
Scores = Correct | Float[np.ndarray, "s n"]


def wilson(k: float, n: float) -> tuple[float, float]:
    """The interval of a fraction of which `k` of `n` were observed (Wilson 1927, score interval).

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


def columns(rows: Sequence[Sequence[str]], *, right: bool = False) -> list[str]:
    """Rows of text as lines, their columns aligned to the left; with `right`, all but the first to the right.

    >>> print(*columns([("attack", "A"), ("PGD", "31.3")], right=True), sep="\\n")
    attack     A
    PGD     31.3
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            v.rjust(w) if right and i else v.ljust(w) for i, (v, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal; a dash when there is none.

    >>> percent(0.4104), percent(float("nan"))
    ('41.0', '—')
    """
    return "—" if np.isnan(value) else f"{100 * value:.1f}"


@dataclass(frozen=True)
class Estimate:
    """A number from `n` clips (times `seeds` trained models) with its interval; nan when there is none.

    `share`: it is a fraction, and printed in per cent; otherwise it has a unit of its own.
    """

    value: float
    low: float
    high: float
    n: int
    seeds: int = 1
    share: bool = True

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "—"
        count = f"{self.n}" if self.seeds == 1 else f"{self.n} × {self.seeds} seeds"
        return (
            f"{self.shown(self.value)}{' %' * self.share} of {count} [{self.shown(self.low)}, {self.shown(self.high)}]"
        )

    def shown(self, value: float) -> str:
        """One of its numbers, without a unit; a dash when there is none."""
        return percent(value) if self.share else "—" if np.isnan(value) else f"{value:.3g}"


MISSING = Estimate(np.nan, np.nan, np.nan, 0)


def proportion(k: int, n: int) -> Estimate:
    """`k` of `n` clips, with the Wilson interval of the share.  Raises `ValueError` for more than all of them.

    >>> print(proportion(165, 402))
    41.0 % of 402 [36.3, 45.9]
    """
    if not 0 <= k <= n:
        raise ValueError(f"expected 0 <= k <= n, got {k} of {n}. Count each clip once.")
    return Estimate(k / n, *wilson(float(k), float(n)), n) if n else MISSING


# Tables of the field use one header, "Avg", for two quantities.


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
    """RI: what a defense gains over its baseline, clean and attacked together; `avg` is `avg_attacked`.

    RI = (clean + avg) - (base_clean + base_avg), Section 4.6 of Tian & Xu 2021.

    >>> round(relative_improvement(90.38, 56.41, 88.46, 37.50), 2)
    20.83
    """
    return (clean + avg) - (base_clean + base_avg)


# One number and its interval


def estimate(values: Float[np.ndarray, "s n"] | Correct) -> Estimate:
    """The mean of a (seeds, clips) table of values in [0, 1], with a Wilson interval.

    With one seed and right-or-wrong values this is `proportion`.  Otherwise the count in Wilson's formula is
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
    return Estimate(float(statistic(*correct.mean((0, 1)))), *_middle(np.asarray(statistic(*means))), n, seeds)


def resampled(
    statistics: Sequence[Callable[[Float[np.ndarray, "n draws"]], Float[np.ndarray, " draws"]]],
    n: int,
    *,
    cost: int = 1,
    share: bool = True,
) -> Estimate:
    """A statistic of `n` clips that is no mean over them, with its bootstrap interval.

    `statistics` has one function per trained model; each gets how often every clip counts in every draw, and returns one
    number per draw, nan where the draw has none.  The number is the mean over models; clips are drawn with replacement, and
    models too.  The draws are the same in each process and for all statistics of as many clips: 1000, fewer where clips times
    `cost`, the numbers that a clip has, are many.

    The interval is the basic one (Davison & Hinkley 1997, section 5.2): the draws reflected about the number, widened to hold
    it.  Draws repeat clips, which raises an average precision; of mAP over ten labels and 400 clips, the interval held the truth
    in 93 to 100 of 100 repetitions, and that of the draws' percentiles in 13 to 91.  It is empty if all draws agree.

    >>> values = np.random.default_rng(0).normal(10, 2, 400)
    >>> print(resampled([lambda times: values @ times / times.sum(0)], 400, share=False))
    9.93 of 400 [9.75, 10.1]
    """
    whole = np.array([statistic(np.ones((n, 1)))[0] for statistic in statistics]) if n else np.empty(0)
    if not whole.size or np.isnan(whole).all():
        return MISSING
    draws = int(np.clip(DRAWN / (n * cost), FEWEST_DRAWS, 1000))
    rng = np.random.default_rng(0)
    by_model = rng.multinomial(len(whole), np.full(len(whole), 1 / len(whole)), draws) / len(whole)
    found, step = [], max(1, AT_ONCE // n)
    for start in range(0, draws, step):
        part = by_model[start : start + step]
        times = np.ascontiguousarray(rng.multinomial(n, np.full(n, 1 / n), len(part)).T, dtype=float)
        found.append((part * np.stack([statistic(times) for statistic in statistics], 1)).sum(1))
    every = np.concatenate(found)
    low, high = _middle(every)
    value = float(whole.mean())
    ends = min(value, 2 * value - high), max(value, 2 * value - low)
    low, high = (max(0.0, ends[0]), min(1.0, ends[1])) if share else ends
    return Estimate(value, low, high, n, len(whole), share)


def _middle(draws: Float[np.ndarray, " draws"]) -> tuple[float, float]:
    """Where 95 % of the draws lie that have a number."""
    there = draws[~np.isnan(draws)]
    low, high = np.quantile(there, [0.025, 0.975]) if there.size else (np.nan, np.nan)
    return float(low), float(high)


def among(those: Bool[np.ndarray, "s n"], of: Bool[np.ndarray, "s n"]) -> Estimate:
    """The share of `those` among some (seeds, clips); in the interval a clip counts once, however many seeds it is of.

    Clips that count unequally tell less than as many equal ones (Kish 1965: the square of their sum, by the sum of squares).

    >>> of = np.ones((3, 50), bool)
    >>> print(among(of & (np.arange(50) < 10), of))
    20.0 % of 150 [11.2, 33.0]
    """
    n, each = int(of.sum()), of.sum(0)
    if not n:
        return MISSING
    clips = float(n**2 / (each**2).sum())
    p = float((those & of).sum()) / n
    return Estimate(p, *wilson(p * clips, clips), n)
