"""Transfer attacks: adversarial clips crafted on another model."""

from dataclasses import dataclass

import torch

from avrobust import engine
from avrobust.attacks.base import mode_of, wrapped_info
from avrobust.facts import AttackInfo
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Attack, Labels, Model, Signals


@dataclass(frozen=True)
class Transfer:
    """`attack`, crafted on another model, in the same precision as attacks on the model itself.

    `source` is the display name of that model, in a study the name of an earlier model; elsewhere give `model` too.  A
    model that is misclassified more often by transfer than by the same white-box attack hides its gradients.  Raises
    `ValueError` without `model`.

    >>> from avrobust.attacks import PGD
    >>> Transfer("AV", PGD()).name
    'PGD-10 from AV'
    """

    source: str
    attack: Attack
    model: Model | None = None

    @property
    def info(self) -> AttackInfo:
        """The facts of the attack that it transfers."""
        return wrapped_info(self.attack, source=self.source)

    @property
    def name(self) -> str:
        """Display name."""
        return f"{display_name(self.attack)} from {self.source}"

    @property
    def mode(self) -> str:
        """The mode of its rows."""
        return mode_of(self.attack)

    @property
    def steps(self) -> int:
        """Its cost in gradient steps."""
        return int(getattr(self.attack, "steps", 1))

    def __call__(self, model: Model, x: Signals, y: Labels, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        if self.model is None:
            raise ValueError(
                f"a transfer attack needs the model {self.source!r} itself, got its name only. Give Transfer(source, attack, model)."
            )
        example = x.map(lambda s: s[:1])
        low = engine.as_victim(model, example).precision == torch.bfloat16
        source = engine.surrogate(self.model, example, "bfloat16") if low else engine.as_victim(self.model, example)
        return self.attack(source, x, y, threat, seeds)
