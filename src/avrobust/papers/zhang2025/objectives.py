"""What TIA, MMA and TMA raise: cross entropy, less temporal variation, less agreement of the two modalities."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from avrobust.config import check_choices
from avrobust.objectives import Need, cosine, misclassified
from avrobust.objectives.classification import negative_log_likelihood
from avrobust.types import InputError, Labels, Output, PerClip

Form = Literal["differences", "variance"]
Level = Literal["features", "predictions", "as quoted"]


def temporal_variation(segments: Tensor, form: Form = "differences", *, relative: bool = True) -> PerClip:
    """L_T, how much the features of consecutive segments (b s d) vary: 0 for one segment.

    "differences" is the mean of ||z_{t+1} - z_t||^2, "variance" that of ||z_t - mean||^2; which of them equation 2 is, is not
    known to us.  With `relative`, as a share of the mean of ||z_t||^2, so that a weight means the same for every network.

    >>> z = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
    >>> temporal_variation(z), temporal_variation(z, "variance")
    (tensor([2.]), tensor([0.5000]))
    """
    if segments.shape[1] < 2:
        return segments.sum((1, 2)) * 0.0
    moved = segments.diff(dim=1) if form == "differences" else segments - segments.mean(1, keepdim=True)
    variation: Tensor = moved.square().sum(-1).mean(1)
    if not relative:
        return variation
    return variation / segments.square().sum(-1).mean(1).clamp_min(1e-12)


def misalignment(out: Output, level: Level = "features") -> PerClip:
    """L_M, how well both modalities agree.

    "features": the cosine of both features.  "predictions": the inner product of the probabilities that each modality alone
    gives, as in the authors' figure 3.  "as quoted": equation 3 as a review quotes it, f_a . f_v / ||f_a . f_v||^2, which is
    1 / (f_a . f_v) for a dot product: to lower it *raises* agreement where that is positive, so it is kept for comparison.
    """
    if level == "predictions":
        if out.alone is None:
            raise _lacks("what each modality alone predicts", "alone")
        audio, visual = out.alone.map(lambda z: z.float().softmax(1))
        agreement: Tensor = (audio * visual).sum(1)
        return agreement
    if out.features is None:
        raise _lacks("its two features", "features")
    if level == "features":
        return cosine(out.features)
    product = (out.features.audio * out.features.visual).sum(1)
    return 1 / torch.where(product.abs() < 1e-6, 1e-6, product)


@dataclass(frozen=True)
class TemporalAndModality:
    """Cross entropy - `temporal` L_T - `modality` L_M: equation 4, of which TIA and MMA are the halves.

    A negative `temporal` raises the variation instead, as in the authors' answer to a reviewer.  L_T is the mean over the
    modalities of which there are two segments or more, and 0 without any: an attack on a single frame has none to change.

    >>> from avrobust.types import AV
    >>> out = Output(torch.zeros(1, 2), segments=AV(torch.ones(1, 3, 4), torch.ones(1, 3, 4)))
    >>> TemporalAndModality(temporal=1.0).value(out, torch.tensor([0]))
    tensor([0.6931])
    """

    temporal: float = 0.0
    modality: float = 0.0
    form: Form = "differences"
    relative: bool = True
    level: Level = "features"

    on_answer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def name(self) -> str:
        """Display name."""
        forms = "" if self.form == "differences" else f" {self.form}"
        forms += "" if self.relative else " absolute"
        levels = (
            "" if self.level == "features" else f" of {self.level}" if self.level == "predictions" else " as quoted"
        )
        return "CE" + _term(self.temporal, "L_T" + forms) + _term(self.modality, "L_M" + levels)

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the terms that count read."""
        temporal: tuple[Need, ...] = ("segments",) if self.temporal else ()
        modality: tuple[Need, ...] = ("alone",) if self.level == "predictions" else ("features",)
        return temporal + (modality if self.modality else ())

    def value(self, out: Output, y: Labels) -> PerClip:
        """The weighted sum.  Raises `InputError` where the model does not show what a term needs."""
        total = negative_log_likelihood(out, y)
        if self.temporal:
            if out.segments is None:
                raise _lacks("the features of consecutive segments", "segments")
            parts = [z.float() for z in out.segments if z.shape[1] > 1 and z.shape[2]]
            terms = [temporal_variation(z, self.form, relative=self.relative) for z in parts]
            total = total - self.temporal * sum(terms) / max(1, len(terms))
        return total - self.modality * misalignment(out, self.level) if self.modality else total

    def success(self, out: Output, y: Labels) -> Tensor:
        """Misclassification."""
        return misclassified(out, y)


def _term(weight: float, name: str) -> str:
    size = "" if abs(weight) == 1 else f"{abs(weight):g} "
    return f" {'−' if weight > 0 else '+'} {size}{name}" if weight else ""


def _lacks(what: str, name: str) -> InputError:
    return InputError(
        f"the objective needs a model that shows {what}, got one that does not. Give its encoders a method "
        f"with_segments(signal) and the model decide(features), or return avrobust.types.Output(logits, {name}=AV(...))."
    )
