"""A user's own architecture as a network: trained, saved, defended and attacked like the package's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn

from avrobust.config import ConfigError, NotAllowedError, brief, check_choices, covers, from_plain, name_of, to_plain
from avrobust.models.network import Modality, Network, Spec, known, refuse_few, weights_drawn_by
from avrobust.types import AV, Signals

Factory = Callable[..., nn.Module]


@dataclass(frozen=True)
class OwnSpec(Spec):
    """A network of your own: `factory(classes=classes, **settings)` makes an `nn.Module` from `AV(audio, visual)` to logits.

    `factory` is a function or class, or the name of one, "module:name"; `settings` are plain.  `modality` says what the
    network perceives.

    >>> spec = OwnSpec(lambda classes, width: nn.Linear(width, classes), {"width": 4}, classes=3)
    >>> spec.build(seed=0).network
    Linear(in_features=4, out_features=3, bias=True)
    """

    factory: str | Factory
    settings: Mapping[str, Any] = field(default_factory=dict)
    modality: Modality = "AV"
    classes: int | None = None

    def __post_init__(self) -> None:
        refuse_few(self.classes)
        check_choices(self)

    @property
    def name(self) -> str:
        """Where the factory is: "module:name"."""
        return self.factory if isinstance(self.factory, str) else name_of(self.factory)

    def for_clips(self, classes: int, rate: int) -> "OwnSpec":
        return replace(self, classes=classes)

    def build(self, seed: int) -> "OwnNet":
        with weights_drawn_by(seed):
            net = OwnNet(self._made(), known(self.classes))
        named = replace(self, factory=self.name)
        if self._has_a_name() and named._is_plain():
            net.built_by(named)
        return net

    def rebuild(self) -> "OwnNet":
        return self.build(seed=0)

    def refuse_unless(self, allow: Sequence[str]) -> None:
        """Raise `NotAllowedError` unless the factory's module is one of `allow`, or in a package of them: it runs as it is."""
        module = self.name.partition(":")[0]
        if not covers(allow, module):
            raise NotAllowedError(
                f"expected a network whose factory may be run, got {brief(repr(self.name), 60)}. If you trust that module, "
                f"allow it: allow=({brief(repr(module), 60)},), or --allow {brief(module, 60)}"
            )

    def _made(self) -> nn.Module:
        make = imported(self.factory) if isinstance(self.factory, str) else self.factory
        call = (
            f"{self.name}({', '.join([f'classes={self.classes}', *(f'{k}={v!r}' for k, v in self.settings.items())])})"
        )
        try:
            made = make(classes=self.classes, **self.settings)
        except Exception as error:  # a user's code may fail in any way
            raise ValueError(
                f"expected {brief(call)} to make a torch.nn.Module, got {type(error).__name__}: {brief(error)} Call it by "
                "itself to see where, and give settings that it takes."
            ) from error
        if not isinstance(made, nn.Module):
            raise ValueError(
                f"expected {brief(call)} to make a torch.nn.Module, got a {type(made).__name__}. Return the network itself."
            )
        return made

    def _has_a_name(self) -> bool:
        """Whether another program can find the factory."""
        module = self.name.partition(":")[0]
        if isinstance(self.factory, str) or module in ("__main__", "__mp_main__"):
            return isinstance(self.factory, str)
        try:
            return imported(self.name) is self.factory
        except ValueError:
            return False

    def _is_plain(self) -> bool:
        """Whether its settings come back from a file as they are."""
        told = to_plain(self)
        try:
            return bool(to_plain(from_plain(told)) == told)
        except ConfigError:
            return False


class OwnNet(Network):
    """Any `nn.Module` from AV(audio, visual) to logits, in the form that training and defenses take.

    A module with `embed(x) -> AV` and `decide(features) -> logits` takes every defense that works on features: they stand
    between the two.  Its fused features are what its `fuse(features)` gives, if it has that and `classify`, else both
    features side by side.  Any other module takes losses and defenses that need logits alone.  Its weights are named
    "network.*"; with `encoders`, an `AV` or a ModuleDict of both, these learn at the recipe's rates of encoders, and all other
    weights at that of the head.  With `rate`, clips of another rate are refused.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        super().__init__()
        self.network = network
        self._classes = classes

    @property
    def classes(self) -> int:
        return self._classes

    @property
    def encoders(self) -> AV[nn.Module] | None:
        found = getattr(self.network, "encoders", None)
        if isinstance(found, nn.ModuleDict) and set(found) == {"audio", "visual"}:
            return AV(found["audio"], found["visual"])
        return found if isinstance(found, AV) else None

    @property
    def rate(self) -> int | None:
        found = getattr(self.network, "rate", None)
        return int(float(found)) if isinstance(found, Real) else None  # 16e3 and NumPy's are rates, too

    @property
    def two_streams(self) -> bool:
        """Whether there is a place for a feature defense."""
        return self._has("embed", "decide")

    def embed(self, x: Signals) -> AV[Tensor]:
        return AV(*self._ask("embed", x))

    def fuse_and_classify(self, f: AV[Tensor]) -> tuple[Tensor, Tensor]:
        if self._has("fuse", "classify"):
            return (z := self._ask("fuse", f)), self._ask("classify", z)
        return torch.cat([f.audio.flatten(1), f.visual.flatten(1)], 1), self.decide(f)

    def decide(self, f: AV[Tensor]) -> Tensor:
        logits: Tensor = self._ask("decide", f)
        return logits

    def forward(self, x: Signals) -> Tensor:
        if self.two_streams:
            return super().forward(x)
        if not isinstance(self.feature_defense, nn.Identity):
            raise self._lacks("embed() and decide()")  # it would be passed by
        logits: Tensor = self.network(x)
        return logits

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise self._lacks(f"a part named {name}") from None

    def _has(self, *steps: str) -> bool:
        return all(callable(getattr(self.network, step, None)) for step in steps)

    def _ask(self, step: str, given: object) -> Any:
        if not self._has(step):
            raise self._lacks(f"{step}()")
        return getattr(self.network, step)(given)

    def _lacks(self, what: str) -> AttributeError:
        return AttributeError(
            f"expected a network with {what} for this loss or defense, got {type(self.network).__name__} without. Add it, "
            "or choose a loss and a defense that need less."
        )


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
