"""Layers in training mode, anywhere inside a model: dropout is random, batch statistics mix clips.

A model may be any callable: a lambda, a bound method, a partial.  Every module that it can reach is checked.
"""

import functools
import types
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from avrobust.config import attributes

DEPTH = 6  # of nested objects
MANY = 5_000  # objects that are checked; a model that reaches more is not checked to the end


def in_training(model: object) -> Iterator[tuple[str, nn.Module]]:
    """(name, module) of every module that `model` reaches, is in training mode, and computes something else in it.

    A module counts if its code reads `training`; the model itself, if it is a module, always counts.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
    >>> [name for name, _ in in_training(lambda x: net(x))]
    ['1']
    """
    for module in reached(model):
        for name, part in module.named_modules():
            # A network that TorchScript froze has no mode left.
            if getattr(part, "training", False) and (part is model or looks_at_training(part.__class__)):
                yield name, part


def reached(thing: object) -> Iterator[nn.Module]:
    """The modules that a callable holds, outermost only: in closures, globals that it names, arguments, attributes."""
    met: set[int] = set()

    def walk(thing: Any, depth: int) -> Iterator[nn.Module]:
        if id(thing) in met or depth > DEPTH or len(met) > MANY:
            return
        met.add(id(thing))
        if isinstance(thing, nn.Module):
            met.update(id(m) for m in thing.modules())
            yield thing
            return
        for part in _held(thing):
            yield from walk(part, depth + 1)

    return walk(thing, 0)


def _held(thing: Any) -> Iterator[Any]:
    if isinstance(thing, functools.partial):
        yield from (thing.func, *thing.args, *thing.keywords.values())
    elif isinstance(thing, types.MethodType):
        yield from (thing.__self__, thing.__func__)
    elif isinstance(thing, types.FunctionType):
        yield from _of_function(thing)
    elif isinstance(thing, Mapping):
        yield from thing.values()
    elif isinstance(thing, list | tuple | set | frozenset):
        yield from thing
    elif not isinstance(thing, type | types.ModuleType) and not type(thing).__module__.startswith(("torch", "numpy")):
        yield from attributes(thing).values()
        yield vars(type(thing)).get("__call__")


def _of_function(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # not filled yet
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from getattr(function, "__dict__", {}).values()  # a wrapper keeps what it wraps there
    names = list(_names(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(value, types.ModuleType | type):  # package.net, Holder.net: only what is a network there
            yield from (m for n in names if isinstance(m := vars(value).get(n), nn.Module))
        else:
            yield value


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from _names(part)


@functools.cache
def looks_at_training(kind: type[nn.Module]) -> bool:
    """Whether what this kind of module computes depends on its mode, as far as its code says.

    >>> looks_at_training(nn.Dropout), looks_at_training(nn.BatchNorm2d), looks_at_training(nn.Linear)
    (True, True, False)
    """
    todo, done = ["forward"], set()
    while todo:
        name = todo.pop()
        function = getattr(kind, name, None)
        function = getattr(function, "__wrapped__", function)
        if (
            name in done
            or not isinstance(function, types.FunctionType)
            or (hasattr(nn.Module, name) and name != "forward")
        ):
            continue
        done.add(name)
        names = list(_names(function.__code__))
        if "training" in names:
            return True
        todo += names  # of its own methods
    return False
