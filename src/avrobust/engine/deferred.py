"""A victim that is made when it is first asked: an attack that asks no model pays for none."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

from torch import Tensor

from avrobust.engine.victim import Victim
from avrobust.types import Signals


class Deferred:
    """A model, in the form in which attacks get theirs, behind which `make` puts a victim once somebody asks.

    >>> from avrobust.engine.blackbox import BlackBox
    >>> model = Deferred(lambda: BlackBox(lambda x: x.audio))
    >>> model.made
    False
    """

    def __init__(self, make: Callable[[], Victim]) -> None:
        self._make = make

    @cached_property
    def victim(self) -> Victim:
        """What stands behind it."""
        return self._make()

    @property
    def made(self) -> bool:
        """Whether anybody has asked."""
        return "victim" in vars(self)

    def __call__(self, x: Signals) -> Tensor:
        return self.victim(x)

    def __getattr__(self, name: str) -> Any:
        if name == "victim":  # an AttributeError of the model's own ended up here: again, so that it is seen
            return self._make()
        if name.startswith("_"):  # copying and pickling ask for methods that need not be there
            raise AttributeError(name)
        raise AttributeError(
            f"expected an attack that only calls its model, got one that asks for model.{name}. The model that it gets is a function "
            "of AV(audio, visual), frozen and in evaluation mode. Give an attack that needs more of a network that network itself."
        )
