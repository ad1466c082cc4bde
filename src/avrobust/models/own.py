"""A user's own architecture as a network of a study: trained, defended and attacked like the package's own."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from avrobust.models.network import AVNet
from avrobust.seeds import stable_hash
from avrobust.types import AV, Signals

Factory = Callable[..., nn.Module]


class OwnNet(AVNet):
    """Any `nn.Module` from AV(audio, visual) to logits, in the form that training and defenses expect.

    A module with `embed(x) -> AV` and `decide(features) -> logits` takes every defense that works on two features: they
    stand between the two.  Any other module takes those that need logits alone.  Its weights are named "network.*", and all
    of them learn at the recipe's rate of the head.
    """

    def __init__(self, network: nn.Module) -> None:
        nn.Module.__init__(self)  # not AVNet's: no encoders, fusion or classifier of ours
        self.network = network
        self.feature_defense: nn.Module = nn.Identity()
        self.spec = None

    @property
    def classes(self) -> None:
        """Not known before it answers."""

    def __getattr__(self, name: str) -> Any:
        if name in ("audio", "visual", "fusion", "classifier"):  # parts of AVNet that only it has
            raise self._lacks(f"a part named {name}")
        return super().__getattr__(name)

    @property
    def two_streams(self) -> bool:
        """Whether there is a place for a feature defense."""
        return all(callable(getattr(self.network, step, None)) for step in ("embed", "decide"))

    def embed(self, x: Signals) -> AV[Tensor]:
        return AV(*self._ask("embed", x))

    def decide(self, f: AV[Tensor]) -> Tensor:
        logits: Tensor = self._ask("decide", f)
        return logits

    def fuse(self, f: AV[Tensor]) -> Tensor:
        z: Tensor = self._ask("fuse", f)
        return z

    def classify(self, z: Tensor) -> Tensor:
        logits: Tensor = self._ask("classify", z)
        return logits

    def heat(self, f: AV[Tensor]) -> None:
        """A network of your own shows no heat map."""

    def forward(self, x: Signals) -> Tensor:
        logits: Tensor = super().forward(x) if self.two_streams else self.network(x)
        return logits

    def _ask(self, step: str, given: object) -> Any:
        if not callable(method := getattr(self.network, step, None)):
            raise self._lacks(f"{step}()")
        return method(given)

    def _lacks(self, what: str) -> AttributeError:
        return AttributeError(
            f"expected a network with {what} for this loss or defense, got {type(self.network).__name__} without. Add it, "
            "or choose a loss and a defense that need less."
        )


def build_own(factory: str | Factory, settings: Mapping[str, Any], classes: int, seed: int) -> OwnNet:
    """The network that `factory(classes=classes, **settings)` makes, with weights that depend on `seed` only.

    `factory` is a callable or the name of one, "module:name".  Raises `ValueError` where it makes no `nn.Module`.

    >>> build_own(lambda classes: nn.Linear(4, classes), {}, classes=3, seed=0).network
    Linear(in_features=4, out_features=3, bias=True)
    """
    make = imported(factory) if isinstance(factory, str) else factory
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stable_hash(seed, "network"))
        made = make(classes=classes, **settings)
    if not isinstance(made, nn.Module):
        raise ValueError(
            f"expected {factory} to make a torch.nn.Module, got a {type(made).__name__}. Return the network itself."
        )
    return OwnNet(made)


def imported(name: str) -> Any:
    """The object at "module:name".

    >>> imported("math:pi")
    3.141592653589793
    """
    module, _, attribute = name.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError, SyntaxError, ValueError) as error:
        raise ValueError(
            f"expected module:name with the module in the working directory or on Python's path, got {name!r}: {error}. "
            "Check both names."
        ) from error
