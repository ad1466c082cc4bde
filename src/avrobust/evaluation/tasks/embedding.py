"""Embeddings: how far an attacker moves them, and whether a clip's sound and picture still find each other."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avrobust.evaluation.checks import described
from avrobust.evaluation.measures import Distances, Measures, Recall
from avrobust.evaluation.tasks.base import Answers, Gallery, Task, rows_of
from avrobust.evaluation.tasks.regression import as_targets, check_targets, check_tolerance, check_width
from avrobust.objectives import EmbeddingShift, EmbeddingTowards, Loss, Need, Objective, needs_of, pair_apart
from avrobust.types import Batch, InputError, Labels, Output

ROUNDING = 1e-6  # of a cosine: nearer ones count as equal, on every kind of CPU


@dataclass(frozen=True)
class Embedding(Task):
    """One vector per clip, what the model returns (b d): the attacker wants it further than `tolerance` from where it was.

    With `targeted`, within `tolerance` of a target instead: labels are then embeddings (b d), of other clips for example.
    Otherwise labels are not read.  Distances are Euclidean.

    >>> Embedding(0.5).measures, Embedding(0.5, targeted=True).measures
    (Distances(targeted=False), Distances(targeted=True))
    """

    tolerance: float
    targeted: bool = False

    def __post_init__(self) -> None:
        check_tolerance(self.tolerance)

    @cached_property
    def objective(self) -> Objective:
        """A move beyond the tolerance, or into that of the target."""
        return EmbeddingTowards(self.tolerance) if self.targeted else EmbeddingShift(self.tolerance)

    @cached_property
    def raised(self) -> Objective:
        """The squared distance from the clean embedding, or minus that to the target, to the end."""
        name = "towards a target" if self.targeted else "embedding shift"
        return Loss(name, self.objective.value, needs=needs_of(self.objective), on_answer=True)

    @property
    def measures(self) -> Measures:
        """The mean distance, and attack success."""
        return Distances(self.targeted)

    def read(self, label: Any) -> Labels:
        """Targets of a targeted attack; otherwise nothing but how many clips there are."""
        return as_targets(label, "one embedding for each clip, shaped (b d)") if self.targeted else counted(label)

    def check_labels(self, batch: Batch) -> None:
        """Targets are finite."""
        if self.targeted:
            check_targets(batch)

    def check(self, answer: Answers, batch: Batch) -> None:
        """Finite embeddings, as wide as their targets."""
        super().check(answer, batch)
        if self.targeted:
            check_width(answer, batch, "number")

    def changed(self, before: Answers, after: Answers) -> Bool[Tensor, " b"]:
        """Whether the embedding moved beyond the tolerance."""
        far: Tensor = (after - before).square().sum(1) > self.tolerance**2
        return far

    def as_label(self, answer: Answers) -> Labels:
        """The embedding itself."""
        return answer

    def scores(
        self, batch: Batch, clean: Answers, answer: Answers, gallery: Gallery
    ) -> tuple[Float[Tensor, "b 1"], None]:
        """The distance from the clean embedding, or to the target."""
        return (answer - (batch.label if self.targeted else clean)).norm(dim=1, keepdim=True), None


@dataclass(frozen=True)
class Retrieval(Task):
    """The audio of a clip finds its own video among all clips of the evaluation, and its video the audio; by cosine.

    The model returns `AV(audio, visual)` of two embeddings of one width (b d), or an `Output` with such `features`.  Labels are
    not read.  A clip is ranked with its own signals attacked and all others clean, so one clip's result does not depend on
    attacks on others; in a tie the clip itself comes last.  Attacks lower the cosine between both embeddings of a clip; the
    attacker succeeds if, in either direction, another clip comes first.

    >>> Retrieval(k=(1, 5)).measures
    Recall(k=(1, 5))
    """

    k: tuple[int, ...] = (1, 5, 10)

    needs: ClassVar[tuple[Need, ...]] = ("features",)

    def __post_init__(self) -> None:
        if not self.k or any(not isinstance(k, int) or k < 1 for k in self.k):
            raise ValueError(f"k should be whole numbers from 1 on, got {self.k!r}. Give (1, 5, 10).")

    @property
    def objective(self) -> Objective:
        """The pair of embeddings driven apart."""
        return pair_apart

    @property
    def raised(self) -> Objective:
        """The same."""
        return pair_apart

    @property
    def measures(self) -> Measures:
        """recall@k in both directions, and attack success."""
        return Recall(self.k)

    def read(self, label: Any) -> Labels:
        """Nothing but how many clips there are."""
        return counted(label)

    def answer(self, out: Output, clips: int) -> Answers:
        """Both embeddings, each of length 1, the audio's first (b 2d)."""
        f = out.features
        if f is None or f.audio.ndim != 2 or f.audio.shape != f.visual.shape or len(f.audio) != clips:
            got = "none" if f is None else " and ".join(str(tuple(s.shape)) for s in f)
            raise InputError(
                f"the model should give two embeddings shaped ({clips}, d), got {got}. Return AV(audio=..., visual=...), or "
                "avrobust.types.Output(logits, features)."
            )
        return torch.cat([torch.nn.functional.normalize(s.float(), dim=1) for s in f], 1)

    def changed(self, before: Answers, after: Answers) -> Bool[Tensor, " b"]:
        """Whether an embedding turned away from where it was, by more than 45 degrees."""
        cosines = [(b * a).sum(1) for b, a in zip(before.chunk(2, 1), after.chunk(2, 1), strict=True)]
        turned: Tensor = torch.minimum(*cosines) < 0.5**0.5
        return turned

    def as_label(self, answer: Answers) -> Labels:
        """Nothing but how many clips there are."""
        return torch.zeros(len(answer))

    def columns(self, batch: Batch, clean: Answers, answer: Answers, gallery: Gallery) -> dict[str, Any]:
        """The ranks in both directions; a clip is correct if both are 1."""
        before, after = self.ranks(batch, clean, gallery), self.ranks(batch, answer, gallery)
        finite = answer.isfinite().all(1)
        return {
            "clip": batch.ids,
            "status": "ok",
            "correct_clean": (before == 1).all(1).tolist(),
            "correct": ((after == 1).all(1) & finite).tolist(),
            "finite": finite.tolist(),
            "scores": rows_of(after),
        }

    def ranks(self, batch: Batch, answer: Answers, gallery: Gallery) -> Float[Tensor, "b 2"]:
        """At which place each clip's own video comes for its audio, and its own audio for its video; 1 is first."""
        place = {id: i for i, id in enumerate(gallery.ids)}
        own = torch.tensor([place[id] for id in batch.ids], device=answer.device)
        audio, visual = answer.chunk(2, 1)
        others = gallery.answers.chunk(2, 1)
        self_similar, ranks = (audio * visual).sum(1), []
        for query, found in ((audio, others[1]), (visual, others[0])):
            # Whatever is not clearly further away: a model that gives all clips one answer finds none.
            ahead = ~(query @ found.T < self_similar[:, None] - ROUNDING)
            ahead[torch.arange(len(own), device=own.device), own] = False
            ranks.append(1 + ahead.sum(1))
        return torch.stack(ranks, 1).float()


def counted(label: Any) -> Tensor:
    """Labels that nobody reads: as many zeros."""
    try:
        return torch.zeros(len(label))
    except TypeError:
        raise InputError(
            f"expected one label for each clip, whatever it says, got {described(label)}. Give range(len(wave))."
        ) from None
