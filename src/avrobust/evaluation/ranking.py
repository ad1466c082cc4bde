"""Metrics of ranked clips: average precision and the area under the ROC curve, of clips that may count several times.

A bootstrap asks for the same metric of the same clips again and again, each clip counted as often as it was drawn.  So the
clips are sorted once, and all draws are computed together; with every clip counted once these are scikit-learn's
`average_precision_score` and `roc_auc_score`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

Times = Float[np.ndarray, "n draws"]  # how often each clip counts


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
    falls = np.flatnonzero(np.diff(score[order])) + 1
    return Ranked(order, positive[order], np.append(falls, len(order)))


def average_precision(clips: Ranked, times: Times) -> Float[np.ndarray, " draws"]:
    """The mean, over positive clips, of the precision among all clips that score at least as high; nan without any.

    >>> clips = ranked(np.array([0.9, 0.8, 0.3]), np.array([True, False, True]))
    >>> average_precision(clips, np.ones((3, 1))).round(3)
    array([0.833])
    """
    if not clips.positive.any():
        return np.full(times.shape[1], np.nan)
    # Only scores that a positive clip has count, so clips between two of them are added up at once.
    ends = clips.ends[np.unique(np.searchsorted(clips.ends, np.flatnonzero(clips.positive), side="right"))]
    starts = np.concatenate([[0], ends[:-1]])
    hits = _added(times[clips.order[clips.positive]], np.searchsorted(np.flatnonzero(clips.positive), starts))
    every = _added(times[clips.order[: ends[-1]]], starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(hits > 0, hits.cumsum(0) / every.cumsum(0), 0.0)
        return np.asarray((hits * precision).sum(0) / hits.sum(0))


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


def _added(counts: Times, starts: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m draws"]:
    """Sums of stretches of clips, each up to the start of the next."""
    return np.asarray(np.add.reduceat(counts, starts, axis=0))
