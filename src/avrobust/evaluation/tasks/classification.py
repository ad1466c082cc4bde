"""One class per clip."""

import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from avrobust.evaluation.checks import check_logits, check_values, described
from avrobust.evaluation.measures import Accuracy, Measures
from avrobust.evaluation.tasks.base import Answers, Gallery, Task
from avrobust.objectives import Objective, correct, cross_entropy, margin, margins
from avrobust.types import Batch, InputError, Labels


@dataclass(frozen=True)
class Classification(Task):
    """One class per clip: labels are class numbers (b), the answer is logits (b k).  The attacker wants another class.

    >>> Classification().read([2, 0]), Classification().measures
    (tensor([2, 0]), Accuracy())
    """

    @property
    def objective(self) -> Objective:
        """Misclassification, by the margin."""
        return margin

    @property
    def raised(self) -> None:
        """Each attack's own choice: cross entropy, or the margin."""
        return

    @property
    def probed(self) -> tuple[Objective, Objective]:
        """The margin, and cross entropy."""
        return margin, cross_entropy

    @property
    def measures(self) -> Measures:
        """Clean and robust accuracy, and attack success."""
        return Accuracy()

    def read(self, label: Any) -> Labels:
        """Class numbers as int64, whatever whole numbers they came as."""
        if isinstance(label, numbers.Integral):
            label = [label]
        try:
            if isinstance(label, Tensor):
                check_values(label, "labels")
            plain = label.detach() if isinstance(label, Tensor) else np.asarray(label)
            if isinstance(plain, np.ndarray) and plain.dtype == object:
                plain = plain.astype(np.int64)
            found = torch.as_tensor(plain)
        except InputError:
            raise
        except (TypeError, ValueError, RuntimeError):
            raise InputError(
                f"labels should be class numbers shaped (b), got {described(label)}. "
                "Give numbers in the order of the model's classes: [classes.index(name) for name in labels]."
            ) from None
        if found.ndim == 2 and found.shape[1] == 1:
            found = found[:, 0]
        # NumPy and tables give 2.0 for 2.
        broken = found.is_complex() or (found.is_floating_point() and not torch.equal(found.round(), found))
        if found.ndim != 1 or broken:
            hint = (
                "Of a single clip, give wave[None], frames[None] and labels [k]."
                if found.ndim == 0
                else "Of one-hot rows, give labels.argmax(1)."
                if found.ndim == 2
                else "Number the classes from 0."
            )
            raise InputError(
                f"labels should be class numbers shaped (b), got {found.dtype} shaped {tuple(found.shape)}. {hint} Of a model "
                "that answers otherwise than with one class, say what it is for: evaluate(..., task=avr.tasks.MultiLabel()), "
                "Binary(), Regression(tolerance), Embedding(tolerance) or Retrieval()."
            )
        return found.long()

    def check(self, answer: Answers, batch: Batch) -> None:
        """Finite logits, no probabilities, of enough classes for the labels."""
        check_logits(answer, batch)

    def correct(self, answer: Answers, clean: Answers, y: Labels) -> Bool[Tensor, " b"]:
        """Whether the model classifies each clip correctly; of a tie the first class counts."""
        return correct(answer, y)

    def changed(self, before: Answers, after: Answers) -> Bool[Tensor, " b"]:
        """Whether the class is another."""
        return self.as_label(before) != self.as_label(after)

    def as_label(self, answer: Answers) -> Labels:
        """The class of the highest logit."""
        return answer.argmax(1)

    def columns(self, batch: Batch, clean: Answers, answer: Answers, gallery: Gallery) -> dict[str, Any]:
        """The predictions.  Logits that are not finite are no prediction: the class is then -1."""
        return prediction_columns(batch, clean, answer)

    def facts(self, answer: Answers) -> Mapping[str, int]:
        """How many classes the model tells apart."""
        return {"classes": answer.shape[1]}


def prediction_columns(batch: Batch, clean: Answers, logits: Answers) -> dict[str, Any]:
    """What rows state about predicted classes: for the clean clips of a batch, and for the clips at hand."""
    y, finite = batch.label, logits.isfinite().all(1)
    return {
        "clip": batch.ids, "label": y.tolist(), "status": "ok",
        "pred_clean": clean.argmax(1).tolist(), "pred": torch.where(finite, logits.argmax(1), -1).tolist(),
        "margin_clean": margins(clean, y).tolist(), "margin": margins(logits, y).tolist(),
        "correct_clean": correct(clean, y).tolist(), "correct": correct(logits, y).tolist(),
        "finite": finite.tolist(), "confidence": logits.softmax(1).amax(1).tolist(),
    }  # fmt: skip
