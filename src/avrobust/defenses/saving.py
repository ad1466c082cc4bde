"""A feature defense as plain data, which a checkpoint carries beside its weights, and back.

Any `nn.Module` is told by its class, `module:Class`, and the arguments of its constructor, plain settings or modules of
the same kind, found as attributes of the same names; its numbers are in its state.  A module that would come back different is refused when it is saved: a
checkpoint that lost its defense would be measured as one whose defense does not help.

A file may come from a stranger, and constructors are code: `config.from_plain` says which classes it takes.
"""

from collections.abc import Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn

from avrobust.config import ConfigError, brief, from_plain, name_of, to_plain

ADVICE = "Keep each argument of its constructor as an attribute of that name"


def describe(feature_defense: nn.Module) -> dict[str, Any] | None:
    """What `rebuild` makes the feature defense of, without its state; None for no feature defense.

    Raises `ValueError`, saying what to do, for a module that would not come back as it is.
    """
    kind = type(feature_defense)
    if kind is nn.Identity:
        return None
    state = feature_defense.state_dict(keep_vars=True).values()
    given = {
        name: describe(part) if isinstance(part := getattr(feature_defense, name), nn.Module) else part
        for name in signature(kind).parameters
        if hasattr(feature_defense, name)
    }
    plain: dict[str, Any] = {"class": name_of(kind)} | to_plain(given, by_shape=state)
    try:
        with torch.random.fork_rng(devices=[]):
            again = from_plain(plain, nn.Module)
    except Exception as error:  # another's constructor can fail in any way
        raise ValueError(
            f"expected {kind.__qualname__} to be made again from {brief(plain)}, got {brief(error)}. "
            f"Define its class at the top of a module that another program can import, and give it plain settings. {ADVICE}."
        ) from error
    if apart := different(feature_defense, again):
        raise ValueError(
            f"expected {kind.__qualname__} to be the same when it is made again from {brief(plain)}, got: "
            f"{'; '.join(apart[:3])}. {ADVICE}, and learnt numbers as parameters or buffers."
        )
    return plain


def rebuild(plain: Any, allow: Sequence[str] = ()) -> nn.Module:
    """The feature defense that `describe` told of, its state yet to be loaded; None is no feature defense.

    `allow` names packages or modules that may be imported for it.  Raises `ValueError` for anything else.

    >>> rebuild(None)
    Identity()
    """
    if plain is None:
        return nn.Identity()
    if not isinstance(plain, dict) or not isinstance(plain.get("class"), str):
        raise ConfigError(
            f"expected the class and settings of a feature defense, got {brief(plain, 60)}; other versions wrote others"
        )
    made: nn.Module = from_plain(plain, nn.Module, allow=allow)
    return made


def is_own(plain: Mapping[str, Any]) -> bool:
    """Whether a feature defense is one of this package's."""
    return str(plain.get("class")).partition(".")[0] == "avrobust"


def different(one: nn.Module, other: nn.Module) -> list[str]:
    """How two modules differ apart from the numbers in their states, in words."""
    here, there = dict(one.named_modules()), dict(other.named_modules())
    found = [f"its part '{name}' is in one of them only" for name in here.keys() ^ there.keys()]
    for name, module in here.items():
        if name not in there:
            continue
        dot = f"{name}." if name else ""
        if type(module) is not type(there[name]):
            found.append(f"'{name}' is a {type(module).__name__} instead of a {type(there[name]).__name__}")
        if module._forward_hooks or module._forward_pre_hooks:
            found.append(f"'{name or type(module).__name__}' has a hook")
        a, b = _held(module), _held(there[name])
        found += [f"its '{dot}{key}' would be lost or changed" for key in a if not _equal(a[key], b.get(key, _NOTHING))]
        shapes = [{key: t.shape for key, t in m.state_dict().items()} for m in (module, there[name])]
        if not name and shapes[0] != shapes[1]:
            found.append("its parameters and buffers have other shapes")
    return found


_NOTHING = object()
_MODULE = set(vars(nn.Module())) | {"training"}  # what every module holds


def _held(module: nn.Module) -> dict[str, Any]:
    """A module's plain attributes: all but parameters, buffers and parts."""
    return {key: value for key, value in vars(module).items() if key not in _MODULE}


def _equal(a: object, b: object) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    try:
        return type(a) is type(b) and bool(a == b)
    except (RuntimeError, ValueError):  # arrays do not say whether they are equal
        return False
