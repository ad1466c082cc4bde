"""Predicted numbers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jaxtyping import Float
from torch import Tensor

from avrobust.evaluation.checks import check_shape, first_of
from avrobust.evaluation.measures import Errors, Measures
from avrobust.evaluation.tasks.base import Answers, Task, as_numbers
from avrobust.objectives import Deviation, Loss, Objective
from avrobust.types import Batch, InputError, Labels, Output


@dataclass(frozen=True)
class Regression(Task):
    """Numbers per clip, (b) or (b d): the attacker wants one of them further than `tolerance` from its target.

    Attacks raise the largest absolute deviation; `tolerance` is in the units of the prediction.

    >>> Regression(0.5).read([1, 2.5])
    tensor([[1.0000],
            [2.5000]])
    """

    tolerance: float

    def __post_init__(self) -> None:
        check_tolerance(self.tolerance)

    @property
    def objective(self) -> Objective:
        """A deviation beyond the tolerance."""
        return Deviation(self.tolerance)

    @cached_property
    def raised(self) -> Objective:
        """The deviation, to the end."""
        return Loss("deviation", Deviation(self.tolerance).value, on_answer=True)

    @property
    def measures(self) -> Measures:
        """The mean absolute error, and the share of clips within the tolerance."""
        return Errors(self.tolerance)

    def read(self, label: Any) -> Float[Tensor, "b d"]:
        """Targets, one number or several per clip."""
        return as_targets(label, "one number or several for each clip, shaped (b) or (b d)")

    def check_labels(self, batch: Batch) -> None:
        """Targets are finite."""
        check_targets(batch)

    def answer(self, out: Output, clips: int) -> Answers:
        """The predictions, (b) or (b d)."""
        one = out.logits.ndim == 1 and len(out.logits) == clips
        return check_shape(out.logits[:, None] if one else out.logits, clips)

    def check(self, answer: Answers, batch: Batch) -> None:
        """Finite predictions, as many as targets."""
        super().check(answer, batch)
        check_width(answer, batch, "number")

    def as_label(self, answer: Answers) -> Labels:
        """The predictions themselves."""
        return answer


def as_targets(label: Any, form: str) -> Float[Tensor, "b d"]:
    """Targets as floats (b d), of numbers shaped (b) or (b d)."""
    found = as_numbers(label, form)
    if found.ndim not in (1, 2):
        raise InputError(f"targets should be {form}, got {tuple(found.shape)}. Give one row for each clip.")
    return found.reshape(len(found), -1).float()


def check_targets(batch: Batch) -> None:
    """Raise `InputError` that names the clip whose target is not finite."""
    bad = ~batch.label.isfinite().all(1)
    if bool(bad.any()):
        raise InputError(
            f"targets should be finite, got {float(batch.label[bad].sum()):g} on clip '{first_of(batch, bad)}' ({int(bad.sum())} of "
            f"{len(batch)} clips). Leave out clips without a target."
        )


def check_width(answer: Answers, batch: Batch, what: str) -> None:
    """Raise `InputError` unless there is one target for each number of an answer."""
    if answer.shape != batch.label.shape:
        raise InputError(
            f"targets should be shaped as the model's answers, {tuple(answer.shape)}, got {tuple(batch.label.shape)}. "
            f"Give one target for each {what} that the model returns."
        )


def check_tolerance(tolerance: float) -> None:
    """Raise `ValueError` unless it is above 0."""
    if not 0 < tolerance < float("inf"):
        raise ValueError(
            f"tolerance should be above 0, got {tolerance}. Give the distance beyond which an answer counts as wrong."
        )
