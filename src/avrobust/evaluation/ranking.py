"""Metrics of ranked clips: average precision, ROC and risk-coverage curves, of clips that may count several times.

A bootstrap asks for the same metric of the same clips again and again, each clip counted as often as it was drawn.  So the
clips are sorted once, and all draws are computed together; with every clip counted once these are scikit-learn's
`average_precision_score` and `roc_auc_score`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array

Times = Float[np.ndarray, "n draws"]  # how often each clip counts
Sums = Float[np.ndarray, "s draws"]
# What is computed at once stays in a core's cache: so many draws of so many sums.
DRAWS, STRETCHES = 32, 4096


class Ranked(NamedTuple):
    """Clips from the highest score to the lowest: their numbers and which are positive, and where a tie ends.

    `ends` are the places after the last clip of each score.
    """

    order: Int[np.ndarray, " n"]
    positive: Bool[np.ndarray, " n"]
    ends: Int[np.ndarray, " scores"]


def ranked(score: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> Ranked:
    """Clips in the order of their scores."""
    order = np.argsort(-score, kind="stable")
    falls = np.flatnonzero(score[order[1:]] != score[order[:-1]]) + 1  # no difference: of two infinities there is none
    return Ranked(order, positive[order], np.append(falls, len(order)))


def average_precision(labels: Sequence[Ranked], times: Times) -> Float[np.ndarray, "k draws"]:
    """Of each label the mean, over its clips, of the precision among all clips that score at least as high; nan without any.

    >>> clips = ranked(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]))
    >>> average_precision([clips], np.ones((3, 1))).round(3)
    array([[0.833]])
    """
    found = np.full((len(labels), times.shape[1]), np.nan)
    group: dict[int, tuple[Stretches, Stretches]] = {}
    for k, clips in enumerate(labels):
        if clips.positive.any():
            group[k] = _stretches(clips)
        if group and (k + 1 == len(labels) or sum(len(own.ends) for _, own in group.values()) >= STRETCHES):
            found[[*group]] = _mean_precision([*group.values()], times)
            group = {}
    return found


class Stretches(NamedTuple):
    """Clips from the highest score to the lowest, and the places at which stretches of them end."""

    clips: Int[np.ndarray, " m"]
    ends: Int[np.ndarray, " s"]


def _stretches(label: Ranked) -> tuple[Stretches, Stretches]:
    """All clips and a label's own, each up to the next score that one of its own has: only there precision counts."""
    places = np.flatnonzero(label.positive)
    ends = label.ends[np.unique(np.searchsorted(label.ends, places, side="right"))]
    return Stretches(label.order[: ends[-1]], ends), Stretches(label.order[places], np.searchsorted(places, ends))


def _mean_precision(labels: Sequence[tuple[Stretches, Stretches]], times: Times) -> Float[np.ndarray, "k draws"]:
    """Average precision of labels that have clips: stretches are added up by products with sparse matrices."""
    every, own = (_adding(parts, len(times)) for parts in zip(*labels, strict=True))
    first = np.cumsum([0, *(len(each.ends) for each, _ in labels[:-1])])
    # Counts are whole numbers, which float32 holds up to 16 million.
    exact = np.float32 if len(labels) * times.sum(0).max() < 2**24 else np.float64
    found = np.empty((len(labels), times.shape[1]))
    for start in range(0, times.shape[1], DRAWS):
        here = slice(start, start + DRAWS)
        counts = np.ascontiguousarray(times[:, here], dtype=exact)
        hits = own @ counts
        weighed = hits * _running(hits, first)
        weighed /= np.maximum(_running(every @ counts, first), 1)  # 0 only where no clip was drawn yet
        with np.errstate(invalid="ignore"):
            found[:, here] = np.add.reduceat(weighed, first, dtype=float) / np.add.reduceat(hits, first, dtype=float)
    return found


def _adding(labels: Sequence[Stretches], n: int) -> csr_array:
    """The matrix that adds up what clips count, stretch by stretch."""
    clips = np.concatenate([each.clips for each in labels])
    before = np.cumsum([0, *(len(each.clips) for each in labels[:-1])])
    ends = np.concatenate([each.ends + start for each, start in zip(labels, before, strict=True)])
    return csr_array((np.ones(len(clips), np.float32), clips, np.append(0, ends)), shape=(len(ends), n))


def _running(sums: Sums, first: Int[np.ndarray, " k"]) -> Sums:
    """Running sums that begin anew at the first stretch of each label."""
    added = sums.cumsum(0)
    before = added[first - 1]
    before[0] = 0
    return np.asarray(added - np.repeat(before, np.diff([*first, len(sums)]), axis=0) if len(first) > 1 else added)


def area_under_curve(clips: Ranked, times: Times) -> Float[np.ndarray, " draws"]:
    """How often a positive clip scores higher than a negative one, ties counted half; nan without either.

    >>> clips = ranked(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]))
    >>> area_under_curve(clips, np.ones((3, 1)))
    array([0.5])
    """
    counts, starts = times[clips.order], np.concatenate([[0], clips.ends[:-1]])
    hits = _added(counts * clips.positive[:, None], starts)
    misses = _added(counts * ~clips.positive[:, None], starts)
    ahead = misses.cumsum(0) - misses / 2  # negatives that score higher, and half of those that score the same
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (hits * ahead).sum(0) / (hits.sum(0) * misses.sum(0)))


def risk_coverage(clips: Ranked, times: Times) -> tuple[Float[np.ndarray, "m draws"], Float[np.ndarray, "m draws"]]:
    """The share of clips that a model answers, and of these the share of positive ones, at the end of each score.

    Positive clips are wrong answers, scores how far an answer is trusted: the model abstains from the last ones.

    >>> clips = ranked(np.array([0.9, 0.8, 0.3]), np.array([False, True, False]))
    >>> coverage, risk = risk_coverage(clips, np.ones((3, 1)))
    >>> coverage[:, 0].round(2), risk[:, 0].round(2)
    (array([0.33, 0.67, 1.  ]), array([0.  , 0.5 , 0.33]))
    """
    counts, starts = times[clips.order], np.concatenate([[0], clips.ends[:-1]])
    answered = _added(counts, starts).cumsum(0)
    wrong = _added(counts * clips.positive[:, None], starts).cumsum(0)
    return answered / np.maximum(answered[-1], 1), wrong / np.maximum(answered, 1)


def area_under_risk_coverage(clips: Ranked, times: Times) -> Float[np.ndarray, " draws"]:
    """AURC: the risk, averaged over coverages (Geifman et al., ICLR 2019); lower is better.

    >>> area_under_risk_coverage(ranked(np.array([0.9, 0.8]), np.array([False, True])), np.ones((2, 1)))
    array([0.25])
    """
    coverage, risk = risk_coverage(clips, times)
    return np.asarray((np.diff(coverage, axis=0, prepend=0) * risk).sum(0))


def roc(clips: Ranked) -> tuple[Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:
    """False and true positive rates of each threshold, from (0, 0) to (1, 1); nan without negatives, or positives.

    >>> roc(ranked(np.array([0.9, 0.8, 0.3]), np.array([True, False, True])))
    (array([0., 0., 1., 1.]), array([0. , 0.5, 0.5, 1. ]))
    """
    hits, misses = clips.positive.cumsum()[clips.ends - 1], (~clips.positive).cumsum()[clips.ends - 1]
    with np.errstate(invalid="ignore"):
        return np.append(0, misses) / misses[-1], np.append(0, hits) / hits[-1]


def _added(counts: Times, starts: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m draws"]:
    """Sums of stretches of clips, each up to the start of the next."""
    return np.asarray(np.add.reduceat(counts, starts, axis=0))
