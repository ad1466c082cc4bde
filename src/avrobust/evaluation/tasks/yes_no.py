"""Yes or no: for several labels per clip, or for a single one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from avrobust.evaluation.checks import check_probabilities, check_shape, first_of
from avrobust.evaluation.measures import Detection, LabelRanking, Measures
from avrobust.evaluation.tasks.base import Answers, Gallery, Task, as_numbers
from avrobust.objectives import BinaryCrossEntropy, Loss, Objective
from avrobust.types import Batch, InputError, Labels, Output


class _YesNo(Task):
    """What both have in common: labels are 0 or 1, answers are logits, and a logit above `threshold` says yes."""

    threshold: float

    @cached_property
    def raised(self) -> Objective:
        """Binary cross entropy, to the end."""
        return Loss(self._goal.name, self._goal.value, on_answer=True)

    @property
    def probed(self) -> tuple[Objective, Objective]:
        """The answer, and binary cross entropy."""
        return super().probed[0], self.raised

    @property
    def objective(self) -> Objective:
        """A wrong answer where the one to the clean clip was right."""
        return self._goal

    @cached_property
    def _goal(self) -> BinaryCrossEntropy:
        return BinaryCrossEntropy(getattr(self, "label", None), self.threshold)

    def check_labels(self, batch: Batch) -> None:
        """Labels are 0 or 1."""
        y = batch.label
        odd = ~((y == 0) | (y == 1))
        if bool(odd.any()):
            raise InputError(
                f"labels should be 0 or 1, got {float(y[odd][0]):g} on clip '{first_of(batch, odd.any(1))}' ({int(odd.any(1).sum())} "
                f"of {len(batch)} clips). Give 1 where the label applies, 0 elsewhere; leave out clips of which it is not known."
            )

    def check(self, answer: Answers, batch: Batch) -> None:
        """Finite logits, no probabilities, as many as labels."""
        super().check(answer, batch)
        if answer.shape[1] != batch.label.shape[1]:
            raise InputError(
                f"the model should answer with one logit for each of the {batch.label.shape[1]} labels, got {answer.shape[1]}. "
                "Give labels and logits in the same order, a 0 for each label that a clip does not have."
            )
        check_probabilities(answer)

    def as_label(self, answer: Answers) -> Labels:
        """1 where the answer is yes."""
        return (answer > self.threshold).float()


@dataclass(frozen=True)
class MultiLabel(_YesNo):
    """Any number of labels per clip: labels are 0 or 1 (b k), the answer is logits (b k); AudioSet, for example.

    Attacks raise the mean binary cross entropy.  The attacker succeeds on a label that was right on the clean clip and is
    wrong now, and on a clip if it does on any label; with `label`, on that label alone.  An answer is yes above `threshold`, in
    the units of the logits.  `of` is the number of labels, for lists of label numbers: [[0, 4], []].

    >>> MultiLabel().read([[1, 0, 1], [0, 0, 0]]).tolist() == MultiLabel(of=3).read([[0, 2], []]).tolist()
    True
    """

    label: int | None = None
    threshold: float = 0.0
    of: int | None = None

    @property
    def measures(self) -> Measures:
        """mAP, and attack success per clip and per label."""
        return LabelRanking(self.label, self.threshold)

    def read(self, label: Any) -> Float[Tensor, "b k"]:
        """0 and 1 of each clip and label, or with `of` the numbers of each clip's labels."""
        form = "0 or 1 for each clip and label, shaped (b k)"
        nested = isinstance(label, Sequence) and all(isinstance(row, Sequence | set | frozenset) for row in label)
        if nested and self.of is not None and not self._are_rows(label):
            return self._numbered([list(row) for row in label])
        if nested and len({len(row) for row in label}) > 1:
            raise InputError(
                f"labels should be {form}, got lists of {min(map(len, label))} to {max(map(len, label))} numbers. If these are the "
                "numbers of each clip's labels, say how many labels there are: MultiLabel(of=527)."
            )
        found = as_numbers(label, form)
        if found.ndim != 2:
            hint = " Of a single label per clip, use Binary()." if found.ndim == 1 else ""
            raise InputError(f"labels should be {form}, got {tuple(found.shape)}.{hint} Give one row for each clip.")
        if self.of is not None and found.shape[1] != self.of:
            raise InputError(
                f"labels should be {form}, of {self.of} labels, got {found.shape[1]}. Give a number for each."
            )
        return found.float()

    def _are_rows(self, lists: Sequence[Any]) -> bool:
        """Whether lists are 0 and 1 of each label; lists of numbers as long would repeat themselves, but for two labels."""
        rows = all(len(row) == self.of and all(v in (0, 1) for v in row) for row in lists)
        if rows and self.of == 2 and any(sorted(row) == [0, 1] for row in lists):
            raise InputError(
                "labels should be either 0 and 1 of each label or label numbers, got lists of two labels that may be both. "
                "Give 0 and 1 as a tensor: torch.tensor(labels)."
            )
        return rows

    def _numbered(self, lists: list[list[Any]]) -> Float[Tensor, "b k"]:
        found = torch.zeros(len(lists), self.of or 0)
        for clip, row in enumerate(lists):
            for number in row:
                if isinstance(number, float | str) or not 0 <= int(number) < found.shape[1]:
                    raise InputError(
                        f"labels should be numbers from 0 to {found.shape[1] - 1}, got {number!r} on clip number {clip} of a batch. "
                        "Number the labels in the order of the model's logits."
                    )
                found[clip, int(number)] = 1.0
        return found


@dataclass(frozen=True)
class Binary(_YesNo):
    """One yes or no per clip, answered by a single logit: fake or real, for example.  Labels are 0 or 1 (b).

    Attacks raise the binary cross entropy; the attacker wants the other answer.  It is yes above `threshold`, in the units of
    the logit.

    >>> Binary().read([1, 0])
    tensor([[1.],
            [0.]])
    """

    threshold: float = 0.0

    @property
    def measures(self) -> Measures:
        """AUC, rates of true and false positives, and attack success."""
        return Detection(self.threshold)

    def read(self, label: Any) -> Float[Tensor, "b 1"]:
        """0 or 1 of each clip."""
        found = as_numbers(label, "0 or 1 for each clip, shaped (b)")
        if found.ndim not in (1, 2) or (found.ndim == 2 and found.shape[1] != 1):
            raise InputError(
                f"labels should be 0 or 1 for each clip, shaped (b), got {tuple(found.shape)}. Of several labels per clip, use "
                "MultiLabel()."
            )
        return found.reshape(-1, 1).float()

    def answer(self, out: Output, clips: int) -> Answers:
        """The logit, which may be shaped (b)."""
        logits = out.logits
        if logits.ndim == 1 and len(logits) == clips and logits.is_floating_point():
            return logits[:, None]
        if logits.ndim == 2 and logits.shape[1] == 2:
            raise InputError(
                "a binary model should answer with one logit, got two. Give that of yes against that of no: "
                "lambda x: (z := net(x))[:, 1:] - z[:, :1]; or evaluate its two classes without a task."
            )
        return check_shape(logits, clips)

    def correct(self, answer: Answers, clean: Answers, y: Labels) -> Bool[Tensor, " b"]:
        """Whether the answer is right."""
        right: Tensor = (self.as_label(answer) == y).all(1) & answer.isfinite().all(1)
        return right

    def lead(self, answer: Answers, clean: Answers, y: Labels) -> Float[Tensor, " b"]:
        """How far the logit lies on the wrong side of the threshold; positive means wrong."""
        return ((1 - 2 * y) * (answer - self.threshold))[:, 0]

    def columns(self, batch: Batch, clean: Answers, answer: Answers, gallery: Gallery) -> dict[str, Any]:
        """With the class, 0 or 1; -1 where the logit is not finite."""
        finite = answer.isfinite().all(1)
        return super().columns(batch, clean, answer, gallery) | {
            "label": batch.label[:, 0].long().tolist(),
            "pred_clean": self.as_label(clean)[:, 0].long().tolist(),
            "pred": torch.where(finite, self.as_label(answer)[:, 0].long(), -1).tolist(),
        }

    def facts(self, answer: Answers) -> Mapping[str, int]:
        """Nothing: how often guessing is right depends on how many clips are of each class."""
        return {}
