"""What a task is: how its labels are read, what an answer is, when the attacker has succeeded, and what rows say of a clip."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avrobust.evaluation.checks import check_answer_finite, check_shape
from avrobust.evaluation.measures import Measures
from avrobust.objectives import Loss, Need, Objective
from avrobust.types import Batch, InputError, Labels, Output, PerClip

Answers = Float[Tensor, "b m"]  # what a task takes of the model's output: logits, predictions, an embedding


@dataclass(frozen=True, eq=False)
class Gallery:
    """All clips of an evaluation, clean: their names, and the answers to them in the same order."""

    ids: tuple[str, ...]
    answers: Answers


class Task(ABC):
    """What a model is for.  A task of your own is a frozen dataclass with these methods.

    `objective` says when the attacker has succeeded on a clip, from an `Output` whose `clean` is the answer to the clean clip,
    and how near it is.  `raised` is what attacks raise that were given no objective; None leaves the choice to each attack.
    Metrics that count how far an answer moved (mAP, AUC, an error) would look better than they are if a search left a clip
    at its first success, so what is raised does not say when it has succeeded.  `measures` are the numbers that rows of the
    task give; `needs`, what an answer takes of the output besides its logits.
    """

    needs: ClassVar[tuple[Need, ...]] = ()

    @property
    @abstractmethod
    def objective(self) -> Objective:
        """When the attacker has succeeded."""

    @property
    @abstractmethod
    def raised(self) -> Objective | None:
        """What attacks raise that were given no objective."""

    @property
    def probed(self) -> tuple[Objective, Objective | None]:
        """Objectives whose gradients `probe` compares: one that does not saturate, and one that may."""
        return Loss("answer", self._mixed, needs=self.needs), None

    def _mixed(self, out: Output, y: Labels) -> PerClip:
        """All numbers of an answer in one: it depends on whatever they depend on."""
        answer = self.answer(out, len(y)).float()
        mixed: Tensor = (answer * torch.arange(answer.shape[1], device=answer.device).cos()).sum(1)
        return mixed

    @property
    @abstractmethod
    def measures(self) -> Measures:
        """The numbers that rows of the task give."""

    @abstractmethod
    def read(self, label: Any) -> Labels:
        """Labels as a tensor, the clips first, of what a loader gives: a tensor, an array, a list.

        Raises `InputError` for what are no labels of this task.
        """

    def check_labels(self, batch: Batch) -> None:
        """Raise `InputError` that names the clip whose label has a wrong value; here any number is right."""
        return

    def answer(self, out: Output, clips: int) -> Answers:
        """What counts of the model's output.  Raises `InputError` for another shape."""
        return check_shape(out.logits, clips)

    def check(self, answer: Answers, batch: Batch) -> None:
        """Raise `InputError` where the answers to clean clips cannot be measured."""
        check_answer_finite(answer, batch)

    def correct(self, answer: Answers, clean: Answers, y: Labels) -> Bool[Tensor, " b"]:
        """On which clips the attacker has not succeeded; answers that are not finite are never correct."""
        return ~(self.lead(answer, clean, y) > 0) & answer.isfinite().all(1)

    def lead(self, answer: Answers, clean: Answers, y: Labels) -> Float[Tensor, " b"]:
        """How far beyond success the attacker is, in the units of the answer; inf or -inf where only the sign is known."""
        success = self.objective.success(Output(answer, clean=Output(clean)), y)
        if success is None:
            raise InputError(
                f"the objective of a task should say when it has succeeded, got {self.objective!r}, which does not. Give it a "
                "method success(out, labels)."
            )
        if success.dtype == torch.bool:
            return torch.where(success, torch.inf, -torch.inf)
        return success.float()

    def changed(self, before: Answers, after: Answers) -> Bool[Tensor, " b"]:
        """Whether two answers to a clip say different things: more than the attacker would need, whatever the label."""
        return self.lead(after, before, self.as_label(before)) > 0

    @abstractmethod
    def as_label(self, answer: Answers) -> Labels:
        """The labels with which these answers would be right."""

    def columns(self, batch: Batch, clean: Answers, answer: Answers, gallery: Gallery) -> dict[str, Any]:
        """What rows say about the answers to a batch: for its clean clips, and for the clips at hand.

        `gallery` are the answers to all clean clips of the evaluation, of which the batch is a part.
        """
        y = batch.label
        scores, targets = self.scores(batch, clean, answer, gallery)
        return {
            "clip": batch.ids,
            "status": "ok",
            "margin_clean": self.lead(clean, clean, y).tolist(),
            "margin": self.lead(answer, clean, y).tolist(),
            "correct_clean": self.correct(clean, clean, y).tolist(),
            "correct": self.correct(answer, clean, y).tolist(),
            "finite": answer.isfinite().all(1).tolist(),
            "scores": rows_of(scores),
            "targets": None if targets is None else rows_of(targets),
        }

    def scores(
        self, batch: Batch, clean: Answers, answer: Answers, gallery: Gallery
    ) -> tuple[Float[Tensor, "b m"], Float[Tensor, "b m"] | None]:
        """What the measures read of each clip, and what it should have been."""
        return answer, batch.label.reshape(len(batch), -1)

    def facts(self, answer: Answers) -> Mapping[str, int]:
        """What the rows cannot state about the model: its number of `classes`, if it has any."""
        return {}


def rows_of(values: Float[Tensor, "b m"]) -> list[np.ndarray]:
    """One array per clip."""
    return list(values.detach().cpu().float().numpy())


def as_numbers(label: Any, form: str) -> Tensor:
    """Labels as a tensor of numbers, as they came: nothing is rounded or rescaled.  Raises `InputError` for anything else.

    `form` says what they should be.
    """
    if isinstance(label, Tensor):
        if label.is_meta or label.is_complex():
            raise InputError(
                f"labels should be {form}, got a tensor of {label.dtype} on {label.device}. Give real numbers."
            )
        return label.detach()
    try:
        plain = np.asarray(label)
        plain = plain.astype(np.float64) if plain.dtype == object else plain
        if plain.dtype.kind not in "biuf":
            raise TypeError
        return torch.from_numpy(np.array(plain))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"labels should be {form}, got {type(label).__name__}. Give one row of numbers for each clip, all equally long."
        ) from None
