"""Kinds of budgets compared where they fool as many clips, and where they are perceived as much.

A ladder is one attack on one model within growing budgets of one kind.  Each rung has an attack success rate and a median
perceptual distance over clips; between rungs both are interpolated along straight lines.  Intervals draw clips with
replacement, the same clips for both ladders.  Reads columns of rows, and no tensors.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float

from avrobust.evaluation.conditions import Condition, Predictions, curves, shared
from avrobust.evaluation.ranking import Times
from avrobust.evaluation.stats import MISSING, Estimate, resampled
from avrobust.facts import Budget

Draws = Float[np.ndarray, " draws"]
EVEN = "linf"  # the kind of budget in which every sample, or pixel, moves as far
# What is perceived of a modality: the column, its name, and the sign that makes more of it more perceptible.
HEARD = (
    ("nmr_db", "noise-to-mask ratio, dB", 1.0),
    ("mask_db", "above the masking threshold, dB", 1.0),
    ("segsnr_db", "segmental SNR, dB", -1.0),
)
SEEN = (("delta_e", "colour difference, delta E", 1.0), ("ssim", "SSIM", -1.0), ("psnr_db", "PSNR, dB", -1.0))


@dataclass(frozen=True)
class Matched:
    """Two kinds of budgets, the second against the first, by one perceptual measure.

    `success` is the rate at which both were compared; `first` and `second` are their distances there, `difference` second
    less first.  `distance` is where both were compared the other way round, `gain` the difference of success rates there.
    Missing where the ladders do not overlap, or those of a seed do not reach that place.
    """

    measure: str
    success: float
    first: float
    second: float
    difference: Estimate
    distance: float
    gain: Estimate


@dataclass(frozen=True, eq=False)
class Ladder:
    """One attack within growing budgets of one kind, on the same clips and seeds."""

    rungs: tuple[Predictions, ...]

    @property
    def kind(self) -> str:
        """The kind of budget, in words."""
        return kind(self.rungs[0].condition.budget)

    def rates(self, seed: int, times: Times) -> Float[np.ndarray, "rungs draws"]:
        """Attack success, by rung."""
        found = []
        for p in self.rungs:
            right = p["correct_clean"][seed]
            with np.errstate(invalid="ignore"):
                found.append(((right & ~p["correct"][seed]) @ times) / (right @ times))
        return np.array(found)

    def distances(self, column: str, seed: int, times: Times) -> Float[np.ndarray, "rungs draws"]:
        """The median over clips of a perceptual measure, by rung."""
        return np.array([weighted_median(p[column][seed].astype(float), times) for p in self.rungs])


def kind(budget: Budget) -> str:
    """What budgets that differ in size only have in common, in words.

    >>> from avrobust.facts import ModalityBudget
    >>> kind(Budget(ModalityBudget(0.5, "masking", "masking threshold"), ModalityBudget(2.0, "linf", "delta E")))
    'masking threshold and delta E'
    >>> kind(Budget(ModalityBudget(0.01, "linf", "linear")))
    'linf'
    """
    parts = [b.norm if b.unit == "linear" else b.unit for b in (budget.audio, budget.visual) if b.eps]
    return " and ".join(dict.fromkeys(parts))


def ladders(table: Mapping[Condition, Predictions], model: str, subset: str) -> dict[str, list[Ladder]]:
    """By attack, its ladders of at least two rungs with `subset` attacked; those within even linf budgets first."""
    found: dict[str, list[Ladder]] = {}
    for curve in curves(c for c in table if (c.model, c.subset) == (model, subset)):
        if len(curve) > 1:
            found.setdefault(curve[0].attack, []).append(Ladder(shared(*(table[c] for c in curve))))
    return {attack: sorted(every, key=lambda ladder: ladder.kind != EVEN) for attack, every in found.items()}


def matched(first: Ladder, second: Ladder, measure: tuple[str, str, float]) -> Matched:
    """`second` against `first`, by one of `HEARD` or `SEEN`; where they are compared lies in the middle of what both reach."""
    column, name, sign = measure
    rungs = shared(*first.rungs, *second.rungs)
    both = Ladder(rungs[: len(first.rungs)]), Ladder(rungs[len(first.rungs) :])
    n, seeds = len(rungs[0].clips), range(len(rungs[0].seeds))
    once = np.ones((n, 1))

    def curve(ladder: Ladder, seed: int, times: Times) -> tuple[np.ndarray, np.ndarray]:
        return ladder.rates(seed, times), sign * ladder.distances(column, seed, times)

    at_once = [tuple(np.mean([curve(ladder, s, once)[i][:, 0] for s in seeds], 0) for i in (0, 1)) for ladder in both]
    rate, distance = (_middle(*(points[i] for points in at_once)) for i in (0, 1))

    def difference(seed: int, times: Times) -> Draws:
        one, two = (curve(ladder, seed, times) for ladder in both)
        return np.asarray(sign * (along(rate, *two) - along(rate, *one)))

    def gain(seed: int, times: Times) -> Draws:
        one, two = (curve(ladder, seed, times)[::-1] for ladder in both)
        return np.asarray(along(distance, *two) - along(distance, *one))

    def over_clips(f: Callable[[int, Times], Draws], share: bool) -> Estimate:
        return _signed([partial(f, seed) for seed in seeds], n, share)

    ends = [
        sign * float(along(rate, *(v[:, None] for v in points))[0]) if rate == rate else np.nan for points in at_once
    ]
    return Matched(
        name, rate, ends[0], ends[1], over_clips(difference, False) if rate == rate else MISSING,
        sign * distance, over_clips(gain, True) if distance == distance else MISSING,
    )  # fmt: skip


def _signed(statistics: Sequence[partial[Draws]], n: int, share: bool) -> Estimate:
    """As `resampled`, of a difference: an interval may go below 0.  Missing where a seed has none."""
    found = resampled(statistics, n, share=False)
    if not found.n or math.isnan(found.value):
        return MISSING
    return Estimate(found.value, found.low, found.high, found.n, found.seeds, share)


def weighted_median(values: Float[np.ndarray, " n"], times: Times) -> Draws:
    """The median over clips that count so many times each; missing values are left out.

    >>> weighted_median(np.array([3.0, 1.0, 2.0, np.nan]), np.ones((4, 1)))
    array([2.])
    """
    known = ~np.isnan(values)
    if not known.any():
        return np.full(times.shape[1], np.nan)
    order = np.argsort(values[known], kind="stable")
    weight = times[known][order].cumsum(0)
    place = (weight >= weight[-1] / 2).argmax(0)
    return np.asarray(values[known][order][place])


def along(x: float, at: Float[np.ndarray, "rungs draws"], values: Float[np.ndarray, "rungs draws"]) -> Draws:
    """`values` where `at` is `x`, along straight lines between rungs; nan beyond the ends.  `at` is made to rise."""
    rising = np.maximum.accumulate(at, 0)
    found = [np.interp(x, a, v, left=np.nan, right=np.nan) for a, v in zip(rising.T, values.T, strict=True)]
    return np.array(found)


def _middle(*ranges: Float[np.ndarray, " rungs"]) -> float:
    """The middle of what all of these reach; nan where they do not overlap."""
    low, high = max(r.min() for r in ranges), min(r.max() for r in ranges)
    return float((low + high) / 2) if np.isfinite(low + high) and low < high else float("nan")


def pairs(every: Sequence[Ladder]) -> Iterator[tuple[Ladder, Ladder]]:
    """Each other kind of budget beside linf."""
    base = next((ladder for ladder in every if ladder.kind == EVEN), None)
    if base is not None:
        yield from ((base, other) for other in every if other is not base)
