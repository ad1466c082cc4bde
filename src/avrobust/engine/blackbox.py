"""Any callable as a victim: it is asked as it is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from avrobust.engine.output import as_output
from avrobust.engine.victim import Victim, Way
from avrobust.objectives import Need
from avrobust.threat import Threat
from avrobust.types import Model, Output, Signals


@runtime_checkable
class Declared(Protocol):
    """A model that says how it is best attacked: `ways` are differentiable models to take gradients of instead."""

    def __call__(self, x: Signals) -> Any: ...
    def ways(self) -> tuple[Model, ...]: ...


@dataclass(frozen=True)
class BlackBox(Victim):
    """A model of which nothing is known but its answers.

    `precision` bfloat16 runs it under autocast.  With several `draws`, logits are the mean over as many runs.  `clean` is
    its answer to the clean clips, where an objective asked for it.  `why` says, of a model with `embed` and `decide`, why its
    streams are not run one by one.

    >>> victim = BlackBox(lambda x: {"logits": x.audio[:, :2]})
    >>> from avrobust.types import AV
    >>> victim(AV(torch.zeros(1, 8), torch.zeros(1, 1, 3, 4, 4)))
    tensor([[0., 0.]])
    """

    model: Model
    precision: torch.dtype = torch.float32
    rounding: float = 0.0
    draws: int = 1
    clean: Output | None = None
    why: str = ""

    def output(self, x: Signals, needs: Sequence[Need] = ()) -> Output:
        """The model's answer; features and heat map as far as it returns them."""
        every = [self._ask(x) for _ in range(self.draws)]
        out = every[0] if self.draws == 1 else replace(every[0], logits=torch.stack([o.logits for o in every]).mean(0))
        return replace(out, clean=self.clean) if "clean" in needs else out

    def _ask(self, x: Signals) -> Output:
        # A user's model may write into what it is given, which autograd does not allow of leaves.
        lent = x.map(torch.clone) if torch.is_grad_enabled() else x
        if self.precision == torch.float32:
            return as_output(self.model(lent))
        with torch.autocast(x.audio.device.type, self.precision):
            return as_output(self.model(lent)).map(lambda s: s.float())

    def subset(self, clips: Any) -> "BlackBox":
        return self if self.clean is None else replace(self, clean=self.clean.subset(clips))

    def fix_unattacked(self, x: Signals, threat: Threat, needs: Sequence[Need] = ()) -> "BlackBox":
        if "clean" not in needs:
            return self
        with torch.no_grad():
            return replace(self, clean=self.output(x, [need for need in needs if need != "clean"]))

    @property
    def module(self) -> nn.Module | None:
        return self.model if isinstance(self.model, nn.Module) else None

    def with_module(self, module: nn.Module) -> "BlackBox":
        return replace(self, model=module)

    def in_precision(self, precision: torch.dtype, rounding: float = 0.0) -> "BlackBox":
        return replace(self, precision=precision, rounding=rounding)

    def averaged(self, draws: int) -> "BlackBox":
        return replace(self, draws=draws)

    def ways(self, x: Signals) -> tuple[Way, ...]:
        return declared_ways(self.model)


def declared_ways(model: Any) -> tuple[Way, ...]:
    """The models that `model.ways()` names, if it has that method."""
    return tuple(partial(_instead, BlackBox(other)) for other in model.ways()) if isinstance(model, Declared) else ()


def _instead(other: BlackBox, victim: Victim) -> Victim:
    return other
