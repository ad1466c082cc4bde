"""Models that are changed while they are attacked, which makes all that is measured afterwards another model's."""

from avrobust.engine.verified import numbers
from avrobust.evaluation.training_mode import reached
from avrobust.types import InputError


class Untouched:
    """That attacks leave a model as it is, where its own answers do: one that learns from each clip is not asked.

    >>> from torch import nn
    >>> net = nn.BatchNorm1d(2).eval()
    >>> untouched = Untouched(net)
    >>> untouched.answered()
    >>> untouched.check("PGD-10")
    >>> net.train(); untouched.check("PGD-10")
    Traceback (most recent call last):
    avrobust.types.InputError: PGD-10 changed the model that it attacks: ...
    """

    def __init__(self, model: object) -> None:
        self._model, self._before, self._stays = model, _state(model), False

    def answered(self) -> None:
        """Called once the model has answered to clean clips, and has had the occasion to change."""
        self._stays = _state(self._model) == self._before

    def check(self, attack: str) -> None:
        """Raise `InputError` where the model is not what it was."""
        if self._stays and _state(self._model) != self._before:
            raise InputError(
                f"{attack} changed the model that it attacks: the mode, weights or buffers of a layer. What is measured "
                "afterwards would be of another model. Attack a copy of it: copy.deepcopy(net)."
            )


def _state(model: object) -> list[object]:
    """The modes, and what tells the weights and buffers, of all networks that a callable reaches."""
    modules = [m for outer in reached(model) for m in outer.modules()]
    tensors = [t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None]
    return [*(getattr(m, "training", None) for m in modules), *map(numbers, tensors)]
