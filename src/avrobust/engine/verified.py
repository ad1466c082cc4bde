"""What was verified of a model, for as long as nothing that can be seen has changed since: its weights, modules, settings, clips."""

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn

from avrobust.types import Signals

T = TypeVar("T")
# By the model's identity and what was verified.
Key = tuple[int, object]
_found: dict[Key, tuple[weakref.ref[nn.Module], object, Any]] = {}


def verified(model: Any, example: Signals, verify: Callable[[], T], what: object) -> T:
    """What `verify` finds of `model` on clips like `example`: computed once, and again when either is not what it was.

    `what` tells it from what else is verified of the model.  Nothing is kept of a callable that is no `nn.Module`, and of tensors that do not count their changes.
    """
    state = _state(model, example) if isinstance(model, nn.Module) else None
    if state is None:
        return verify()
    key = id(model), what
    if key in _found:
        same, before, found = _found[key]
        if same() is model and before == state:
            known: T = found
            return known
    result = verify()
    _found[key] = weakref.ref(model, lambda gone: _forget(key, gone)), state, result
    return result


def _forget(key: Key, gone: object) -> None:
    if key in _found and _found[key][0] is gone:
        del _found[key]


def _state(model: nn.Module, example: Signals) -> object | None:
    """All that is compared; None where a change could not be seen."""
    if any(t.is_inference() for t in (*model.parameters(), *model.buffers())):
        return None
    clips = [(s.shape, s.dtype, s.device) for s in example]
    return clips, [(_Same.of(module), _settings(module)) for module in model.modules()]


def _settings(module: nn.Module) -> list[object]:
    """What a module holds: tensors by identity and version, plain attributes (`training` is one) as they are, others by identity."""
    held = {**vars(module), **module._parameters, **module._buffers}
    hooks = len(module._forward_hooks) + len(module._forward_pre_hooks)
    return [hooks, *((name, _Same.of(value)) for name, value in held.items())]


class _Same:
    """An object by its identity, which no later one takes over: a number in memory is given out again."""

    def __init__(self, what: Any) -> None:
        self._what = weakref.ref(what)
        # Counts changes in place.
        self._version = (what._version, what.dtype, what.device) if isinstance(what, Tensor) else None

    @classmethod
    def of(cls, what: Any) -> object:
        if isinstance(what, bool | int | float | str | None):
            return what
        try:
            return cls(what)
        except TypeError:  # lists and dicts, for example
            return id(what)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Same) or self._version != other._version:
            return False
        return (what := self._what()) is not None and what is other._what()

    __hash__ = None  # type: ignore[assignment]
