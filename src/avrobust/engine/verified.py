"""What was verified of a model, for as long as nothing that can be seen has changed since: its weights, modules, settings, clips."""

import weakref
import zlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
from torch import Tensor, nn

from avrobust.config import attributes
from avrobust.types import Signals

T = TypeVar("T")
DEPTH, MANY = 3, 1000  # of nested containers and objects, and what each holds, as far as they are compared
OF_ALL = vars(nn.Module()).keys() - {"training"}  # what every module has
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
    met: set[int] = set()
    return clips, [(_Same(module), _seen(_held(module), met)) for module in model.modules()]


def _held(module: nn.Module) -> dict[str, object]:
    """What a module holds: tensors, hooks, plain attributes (`training` is one)."""
    own = {name: value for name, value in vars(module).items() if name not in OF_ALL}
    hooks = [*module._forward_hooks.values(), *module._forward_pre_hooks.values()]
    return {**own, **module._parameters, **module._buffers, "hooks": hooks}


def _seen(value: Any, met: set[int], depth: int = 0) -> object:
    """A value as it is compared: numbers and texts, what containers and objects hold, and objects by identity.

    What an object holds is seen once: all modules of a network may share a large one. `met` are those before.
    """
    if isinstance(value, float):
        return value.hex()  # nan is itself
    if isinstance(value, bool | int | str | None):
        return value
    if isinstance(value, Tensor):
        return _Same(value), numbers(value)
    if isinstance(value, np.ndarray):
        return value.shape, value.dtype.str, zlib.crc32(value.tobytes())
    if isinstance(value, nn.Module | type | ModuleType):  # networks are seen by themselves
        return _Same(value)
    if depth == DEPTH:
        return type(value)
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    if isinstance(value, Mapping):
        return [(repr(key), _seen(part, met, depth + 1)) for key, part in [*value.items()][:MANY]]
    if isinstance(value, list | tuple):
        return [_seen(part, met, depth + 1) for part in value[:MANY]]
    held = {} if id(value) in met else attributes(value)
    met.add(id(value))
    try:
        same: object = _Same(value)
    except TypeError:  # of a kind that cannot be told by identity without keeping it alive
        same = type(value) if held else repr(value)
    return same, _seen(held, met, depth)


def numbers(t: Tensor) -> object:
    """What tells the numbers of a tensor: the count of its changes, and their size, as writes to `.data` are not counted."""
    try:
        size = float(t.detach().norm() if t.is_floating_point() else t.detach().sum())
    except (RuntimeError, NotImplementedError):  # such as of a meta tensor
        size = 0.0
    return None if t.is_inference() else t._version, t.dtype, t.device, t.data_ptr() if size else 0, size.hex()


class _Same:
    """An object by its identity, which no later one takes over: a number in memory is given out again."""

    def __init__(self, what: Any) -> None:
        self._what = weakref.ref(what)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and (what := self._what()) is not None and what is other._what()

    __hash__ = None  # type: ignore[assignment]
