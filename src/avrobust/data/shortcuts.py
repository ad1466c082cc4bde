"""Finds shortcuts: simple properties of a clip that predict its class, so that a model could learn them instead.

Silence at a clip's ends, duration, loudness, codecs, sizes and rates show how clips were made.  Each property is tested
alone: a clip's class is predicted from the clips with the nearest value, without those of its own recording.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact

from avrobust.data.entry import Entry, Label
from avrobust.data.examine import Properties
from avrobust.seeds import stable_hash

SAMPLE = 300  # clips that are measured at most: some 20 s of computing
ENOUGH = 8  # clips with a property
# How good a prediction is a shortcut: the share of the way from always guessing the largest class to being always right;
# for one class, the rate of hits minus the rate of false alarms.
ALL, ONE = 0.5, 0.75
CHANCE = 1e-3  # probability of any finding in a dataset without shortcuts


@dataclass(frozen=True)
class Shortcut:
    """A property that predicts the class, or with `label` whether a clip is of that class.

    >>> print(Shortcut("loudness", None, 58, 60))
    loudness alone predicts the class: 58 of 60 clips
    """

    name: str  # of the property
    label: str | None
    correct: int  # clips predicted correctly
    clips: int

    def __str__(self) -> str:
        what = "the class" if self.label is None else f"which clips are '{self.label}'"
        return f"{self.name} alone predicts {what}: {self.correct} of {self.clips} clips"


def sample(entries: Sequence[Entry], most: int = SAMPLE) -> list[Entry]:
    """At most `most` clips, equally many of each class, chosen by their names."""
    classes: dict[Label, list[Entry]] = defaultdict(list)
    for e in sorted(entries, key=lambda e: stable_hash(0, e.id, "shortcut")):
        classes[e.label].append(e)
    turns = [(turn, e) for of in classes.values() for turn, e in enumerate(of)]
    return [e for _, e in sorted(turns, key=lambda pair: pair[0])[:most]]


def _is_known(value: float | str | None) -> bool:
    return isinstance(value, str) or (value is not None and isfinite(value))


def shortcuts(clips: Iterable[tuple[Entry, Properties]]) -> tuple[Shortcut, ...]:
    """The shortcuts in these clips, the most accurate first."""
    clips = list(clips)
    names = sorted({name for _, known in clips for name in known})
    found: list[Shortcut] = []
    for name in names:
        having = [(e, known[name]) for e, known in clips if _is_known(known.get(name))]
        if len(having) >= ENOUGH and len({e.label for e, _ in having}) > 1 and len({value for _, value in having}) > 1:
            found += _tested(name, [e for e, _ in having], [value for _, value in having], CHANCE / len(names))
    return tuple(sorted(found, key=lambda s: (s.label is not None, -s.correct / s.clips, s.name)))


def _tested(name: str, entries: Sequence[Entry], values: Sequence[float | str], chance: float) -> list[Shortcut]:
    classes = sorted({label for e in entries for label in e.labels})
    labels = np.array([classes.index(e.labels[0]) for e in entries])
    votes, prior = _votes(values, labels, np.array([e.source for e in entries]), len(classes))
    count, largest = len(labels), np.bincount(labels).max() / len(labels)
    correct = int((votes.argmax(axis=1) == labels).sum())
    significant = binomtest(correct, count, largest, "greater").pvalue < chance
    if significant and correct / count - largest >= ALL * (1 - largest):
        return [Shortcut(name, None, correct, count)]
    found = []
    for k, label in enumerate(classes):
        predicted, actual = votes[:, k] > prior[:, k], labels == k
        table = [
            [int((predicted & actual).sum()), int((~predicted & actual).sum())],
            [int((predicted & ~actual).sum()), int((~predicted & ~actual).sum())],
        ]
        gain = predicted[actual].mean() - predicted[~actual].mean()
        if gain >= ONE and fisher_exact(table, "greater").pvalue < chance / len(classes):
            found.append(Shortcut(name, label, table[0][0] + table[1][1], count))
    return found


def _votes(
    values: Sequence[float | str], labels: NDArray[np.int64], sources: NDArray[Any], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The share of each class, (clip, class), among the clips with the nearest values and among all, without the clip's
    own recording."""
    members = np.eye(classes)[labels]
    near = 2 * round(sqrt(len(labels)) / 2) + 1
    votes, prior = np.zeros((2, len(labels), classes))
    known: NDArray[Any] = np.array(values)
    for i in range(len(labels)):
        others = np.flatnonzero(sources != sources[i])
        if not len(others):
            continue
        if known.dtype.kind == "f":
            apart = np.abs(known[others] - known[i])
            nearest = others[apart <= np.sort(apart)[min(near, len(apart)) - 1]]
        else:
            nearest = others[known[others] == known[i]]
        prior[i] = members[others].mean(axis=0)
        votes[i] = members[nearest].mean(axis=0) if len(nearest) else prior[i]
    return votes, prior
