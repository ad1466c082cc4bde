"""An objective that fools a model and its detector together."""

from dataclasses import dataclass

from torch import Tensor

from avrobust.objectives.base import Need, Objective, Raised, as_objective, display_name, needs_of
from avrobust.objectives.classification import margin
from avrobust.types import InputError, Labels, Output, PerClip


@dataclass(frozen=True)
class Undetected:
    """`objective`, minus `weight` times what the model suspects of either modality.

    It has succeeded where `objective` has and neither modality is taken for attacked: the answer is wrong, and trusted.
    A detector is judged by such an attack, which knows it (Carlini & Wagner 2017), and not by one that does not.

    >>> import torch
    >>> from avrobust.types import AV
    >>> out = Output(torch.tensor([[0.0, 2.0], [0.0, 2.0]]), suspicion=AV(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, -1.0])))
    >>> Undetected().value(out, torch.tensor([0, 0])), Undetected().success(out, torch.tensor([0, 0]))
    (tensor([2., 1.]), tensor([ 1., -1.]))
    """

    objective: Objective | Raised = margin
    weight: float = 1.0

    @property
    def name(self) -> str:
        """Display name."""
        return f"{display_name(self.objective)}, undetected"

    @property
    def needs(self) -> tuple[Need, ...]:
        """What is suspected, and what the inner objective needs."""
        return tuple(dict.fromkeys((*needs_of(self.objective), "suspicion")))

    @property
    def on_answer(self) -> bool:
        """Whether the inner objective is about the answer that an evaluation counts."""
        return bool(getattr(as_objective(self.objective), "on_answer", False))

    def value(self, out: Output, y: Labels) -> PerClip:
        """(b): the inner value, less what is above 0 of the suspicion of each modality."""
        suspected: Tensor = sum(s.clamp_min(0) for s in suspicion_of(out))  # type: ignore[assignment]
        return as_objective(self.objective).value(out, y) - self.weight * suspected

    def success(self, out: Output, y: Labels) -> Tensor | None:
        """(b): above 0 where the inner objective has succeeded and nothing is suspected."""
        inner = as_objective(self.objective).success(out, y)
        if inner is None:
            return None
        trusted = -suspicion_of(out)[0].maximum(suspicion_of(out)[1])
        return inner & (trusted >= 0) if not inner.is_floating_point() else inner.minimum(trusted)


def suspicion_of(out: Output) -> tuple[Tensor, Tensor]:
    """What is suspected of audio and of video, (b) each.  Raises `InputError` for a model that suspects nothing."""
    if out.suspicion is None:
        raise InputError(
            "expected a model that says which modality it takes for attacked, got one that does not. Give it a feature "
            "defense with a method suspicion(features), such as defenses.Gate, or return "
            "avrobust.types.Output(logits, suspicion=AV(...))."
        )
    return out.suspicion.audio, out.suspicion.visual
