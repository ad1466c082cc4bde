"""What rows of a task measure: numbers by name, each with its count and interval.  Reads columns of rows, and no tensors.

Rows of any task say per clip whether the attacker failed (`correct`), so that worst cases, comparisons and flags hold for all
of them.  What else a task counts it reads from `scores` and `targets`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Bool, Float

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.ranking import Ranked, Times, area_under_curve, average_precision, ranked
from avrobust.evaluation.stats import MISSING, Estimate, among, estimate, resampled

Numbers = Mapping[str, Estimate]
CLIP_LOST, LABEL_LOST = "attack success per clip", "attack success per label"


class Measures(ABC):
    """The numbers of a task: a frozen dataclass of what they depend on, so that rows can say which they are.

    `surviving` names the share of clips whose `correct` is true, under an attack; `chance`: whether guessing among the
    classes bounds it.
    """

    surviving: ClassVar[str]
    chance: ClassVar[bool] = False

    @abstractmethod
    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """The numbers of the clips under one condition; `clean` are those of the same models on clean clips."""

    def notes(self, here: Predictions) -> tuple[str, ...]:
        """What the numbers leave out, in sentences."""
        return ()


@dataclass(frozen=True)
class Accuracy(Measures):
    """Of one class per clip: robust accuracy, and attack success."""

    surviving: ClassVar[str] = "robust accuracy"
    chance: ClassVar[bool] = True

    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """Of clean clips, the clean accuracy."""
        return {"robust accuracy": estimate(here["correct"]), "attack success": success(here)}


@dataclass(frozen=True)
class LabelRanking(Measures):
    """Of several labels per clip: mean average precision, and attack success per clip and per label.

    mAP is the mean over labels of the average precision (`sklearn.metrics.average_precision_score`); a label that is on no
    clip has none and is left out.  An attack succeeds on a label that was right on the clean clip and is wrong
    now, an answer being yes above `threshold`; on a clip if it does on any.  `label`: only that label counts as attacked.
    """

    label: int | None = None
    threshold: float = 0.0

    surviving: ClassVar[str] = "share of clips that keep every label"

    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """mAP, and attack success where clean clips are known."""
        found = {"mAP": self.mean_average_precision(here), CLIP_LOST: success(here), LABEL_LOST: MISSING}
        if clean is not None and here.condition.subset != "clean":
            found[LABEL_LOST] = self.lost(here, clean)
        return found

    def mean_average_precision(self, here: Predictions) -> Estimate:
        """The mean over the labels that can be ranked."""
        scores, targets = scored(here)
        if not scores.size:
            return MISSING
        on = _ranks(targets[0])
        every = [_by_label(s[:, on], t[:, on]) for s, t in zip(scores, targets, strict=True)]
        cost = max(1, int(on.sum()))
        return resampled([partial(_mean_precision, labels) for labels in every], len(here.clips), cost=cost)

    def lost(self, here: Predictions, clean: Predictions) -> Estimate:
        """Of the clips and labels that are right when clean, the share that is wrong now; a clip counts once in the interval."""
        here, clean = shared(here, clean)
        right, now = self._right(clean), self._right(here)
        pairs = (len(right) * right.shape[-1], len(here.clips))
        return among((right & ~now).transpose(0, 2, 1).reshape(pairs), right.transpose(0, 2, 1).reshape(pairs))

    def per_label(self, here: Predictions) -> Float[np.ndarray, " k"]:
        """Each label's average precision, the mean over models; nan where it has none."""
        scores, targets = scored(here)
        once = np.ones((len(here.clips), 1))
        found = [average_precision(_by_label(s, t), once)[:, 0] for s, t in zip(scores, targets, strict=True)]
        return np.asarray(np.mean(found, axis=0))

    def notes(self, here: Predictions) -> tuple[str, ...]:
        """The labels that have no average precision."""
        targets = stacked(here, "targets") > 0.5
        ranks = _ranks(targets[0]) if targets.size else np.empty(0, bool)
        if ranks.all():
            return ()
        return (f"mAP is over {ranks.sum()} of {len(ranks)} labels: the others are on no clip.",)

    def _right(self, here: Predictions) -> Bool[np.ndarray, "s n k"]:
        scores, targets = scored(here)
        right: np.ndarray = (scores > self.threshold) == targets
        return right if self.label is None else right[..., self.label : self.label + 1]


@dataclass(frozen=True)
class Detection(Measures):
    """Of one yes-or-no answer per clip, as detectors give: AUC, and rates where an answer is yes above `threshold`."""

    threshold: float = 0.0

    surviving: ClassVar[str] = "robust accuracy"

    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """AUC, the rates of true and false positives, and attack success."""
        scores, yes = (column[..., 0] for column in scored(here))
        called = scores > self.threshold
        return {
            "AUC": self._area(scores, yes),
            "true positive rate": among(called, yes),
            "false positive rate": among(called, ~yes),
            "attack success": success(here),
        }

    def _area(self, scores: Float[np.ndarray, "s n"], yes: Bool[np.ndarray, "s n"]) -> Estimate:
        every = [ranked(s, y) for s, y in zip(scores, yes, strict=True)] if scores.size else []
        return resampled([partial(area_under_curve, clips) for clips in every], scores.shape[1])

    def notes(self, here: Predictions) -> tuple[str, ...]:
        """That there is no AUC of clips of one class."""
        yes = stacked(here, "targets")[..., 0] > 0.5
        if not yes.size or (yes.any() and not yes.all()):
            return ()
        return (f"AUC needs clips of both classes, and all {len(here.clips)} are of class {int(yes.all())}.",)


@dataclass(frozen=True)
class Errors(Measures):
    """Of predicted numbers: the mean absolute error, and the share of clips within `tolerance` of their target."""

    tolerance: float

    surviving: ClassVar[str] = "share of clips within the tolerance"

    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """A clip's error is the mean over the numbers predicted for it."""
        errors = np.abs(stacked(here, "scores") - stacked(here, "targets")).mean(-1)
        return {
            "mean absolute error": average(errors),
            "within tolerance": estimate(here["correct"]),
            "attack success": success(here),
        }


@dataclass(frozen=True)
class Distances(Measures):
    """Of embeddings: how far the clips' lie from where they were, or from their target, and on how many it matters."""

    targeted: bool = False

    surviving: ClassVar[str] = "share of clips that the attacker did not move far enough"

    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """The mean Euclidean distance, and attack success."""
        name = "distance to target" if self.targeted else "distance moved"
        return {name: average(stacked(here, "scores")[..., 0]), "attack success": success(here)}


@dataclass(frozen=True)
class Recall(Measures):
    """Of retrieval: on how many clips the other modality of the clip itself is among the first `k`, in both directions."""

    k: tuple[int, ...] = (1, 5, 10)

    surviving: ClassVar[str] = "share of clips found first in both directions"

    def numbers(self, here: Predictions, clean: Predictions | None) -> Numbers:
        """recall@k from audio to visual and from visual to audio, and attack success."""
        ranks = stacked(here, "scores")
        found = {
            f"{way} recall@{k}": estimate(ranks[..., side] <= k)
            for side, way in enumerate(("A→V", "V→A"))
            for k in self.k
        }
        return found | {"attack success": success(here)}


def success(here: Predictions) -> Estimate:
    """The attack success rate: of the clips that are correct when clean, the share that is not any more."""
    if here.condition.subset == "clean":
        return MISSING
    return among(~here["correct"], here["correct_clean"])


def average(values: Float[np.ndarray, "s n"]) -> Estimate:
    """The mean of numbers that are no shares, with its bootstrap interval."""
    return resampled([partial(_weighted, v) for v in values], values.shape[1], share=False)


def scored(here: Predictions) -> tuple[Float[np.ndarray, "s n k"], Bool[np.ndarray, "s n k"]]:
    """Scores, and where yes would be right.  On clips whose scores are not finite all lie at the wrong end: these are never right."""
    scores, yes = stacked(here, "scores"), stacked(here, "targets") > 0.5
    return np.where(here["finite"][..., None], scores, np.where(yes, -np.inf, np.inf)), yes


def stacked(here: Predictions, column: str) -> Float[np.ndarray, "s n m"]:
    """A column of lists as one array."""
    lists = here[column]
    if not lists.size:
        return np.zeros((*lists.shape, 1))
    return np.stack([np.stack(list(of_model)) for of_model in lists]).astype(float)


def _ranks(targets: Bool[np.ndarray, "n k"]) -> Bool[np.ndarray, " k"]:
    """Which labels have an average precision: those that are on any clip."""
    return np.asarray(targets.any(0))


def _weighted(values: Float[np.ndarray, " n"], times: Times) -> Float[np.ndarray, " draws"]:
    return np.asarray(values @ times / times.sum(0))


def _by_label(scores: Float[np.ndarray, "n k"], targets: Bool[np.ndarray, "n k"]) -> list[Ranked]:
    """The clips in the order of their scores for each label."""
    return [ranked(s, t) for s, t in zip(scores.T, targets.T, strict=True)]


def _mean_precision(labels: Sequence[Ranked], times: Times) -> Float[np.ndarray, " draws"]:
    """The mean over labels; a draw may leave a label without clips."""
    values = average_precision(labels, times)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, values, 0.0).sum(0) / known.sum(0))
