"""Configuration as plain data, and back: the only place that knows how a setting is written down.

`to_plain` turns any value into JSON: a dataclass into its class and fields, a function into its name.  `digest` names a
value by that.  `from_plain` builds dataclasses and functions again, and `parse` checks data that another file holds.
Plain data may come from a stranger, and constructors are code: see `from_plain` for what is built, and from where.
"""

import hashlib
import json
import re
import reprlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, partial
from importlib import import_module
from inspect import isroutine, signature
from pathlib import PurePath
from types import FunctionType, MethodType, ModuleType, UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter, ValidationError

T = TypeVar("T")
# Constructors and functions of these may do anything, and no configuration is theirs.
LIBRARIES = sys.stdlib_module_names | {
    "torch", "torchvision", "torchaudio", "transformers", "accelerate", "huggingface_hub", "safetensors",
    "numpy", "scipy", "sklearn", "pyarrow", "vl_convert", "PIL", "av", "pydantic", "__main__", "__mp_main__",
}  # fmt: skip


# --- values to plain data


def to_plain(value: object, *, by_shape: Collection[object] = ()) -> Any:
    """A value as plain data (JSON) that is the same in every process.

    Dataclasses become their class and fields, functions their name, paths text.  Some values have no way back: a function
    made by another function (told with its closure), any other object (with its attributes), arrays and tensors (by
    digest).  Tensors among `by_shape` become their shape, and come back as zeros.

    >>> from avrobust.types import AV
    >>> to_plain(AV(audio=1.0, visual=to_plain))
    {'class': 'avrobust.types:AV', 'audio': 1.0, 'visual': {'function': 'avrobust.config:to_plain'}}
    """
    return _plain(value, (), {id(tensor) for tensor in by_shape})


def digest(*values: object) -> str:
    """A short name for values: equal for equal plain data, in every process.

    >>> digest(1, "a"), digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    ('4a72386a027702c1', True)
    """
    return hashlib.sha256(json.dumps(to_plain(values), sort_keys=True).encode()).hexdigest()[:16]


def name_of(defined: Any) -> str:
    """`module:name` of a class or function.

    >>> name_of(digest)
    'avrobust.config:digest'
    """
    module = "__main__" if defined.__module__ == "__mp_main__" else defined.__module__  # a script in its own workers
    return f"{module}:{defined.__qualname__}"


def attributes(value: object) -> dict[str, Any]:
    """What an object holds, in slots too.

    >>> class Point:
    ...     __slots__ = ("x", "y")
    >>> point = Point()
    >>> point.x = 1
    >>> attributes(point), attributes(3)
    ({'x': 1}, {})
    """
    state = object.__getstate__(value)
    named, slots = state if isinstance(state, tuple) else (state, {})
    return {**(named or {}), **slots}


def concise(settings: Any) -> str:
    """A dataclass as a call with the fields that differ from their defaults; functions by name.

    >>> from avrobust.attacks import PGD
    >>> PGD(), PGD(steps=40, restarts=5)
    (PGD(), PGD(steps=40, restarts=5))
    """
    given = ((f, getattr(settings, f.name)) for f in fields(settings) if f.repr)
    values = {f.name: value for f, value in given if differ(value, f.default)}
    words = (f"{name}={getattr(value, '__name__', _unplaced(value))}" for name, value in values.items())
    return f"{type(settings).__name__}({', '.join(words)})"


def differ(a: object, b: object) -> bool:
    """Whether two values are not equal, as far as they say so: of arrays and of tensors, == has no answer.

    >>> differ((1, "a"), (1, "a")), differ(np.zeros(2), np.zeros(2))
    (False, True)
    """
    try:
        return bool(a != b)
    except Exception:  # of a user's own values, too
        return True


def check_choices(settings: Any) -> None:
    """Raise `ValueError` where a setting whose type lists its values (`Literal`) has another one.

    Called by dataclasses that would take any other value for one of them.
    """
    cls: Any = type(settings)
    for name, kind in _hints(cls).items():
        if get_origin(kind) is Literal and (got := getattr(settings, name)) not in get_args(kind):
            known = ", ".join(map(repr, get_args(kind)))
            raise ValueError(f"{name} should be one of {known}, got {got!r}. Give {cls.__name__} one of these.")


def _unplaced(value: object) -> str:
    """As Python writes it, without its place in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _plain(value: Any, around: tuple[int, ...], by_shape: set[int]) -> Any:
    """`value` as plain data; `around` are the objects that hold it, by `id`."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if id(value) in around:
        return "itself"  # a function that calls itself holds itself
    tell = partial(_plain, around=(*around, id(value)), by_shape=by_shape)
    if is_dataclass(value) and not isinstance(value, type):
        return {"class": name_of(type(value))} | {f.name: tell(getattr(value, f.name)) for f in fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): tell(v) for k, v in value.items()}
    if isinstance(value, tuple | list | range):
        return [tell(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((tell(v) for v in value), key=json.dumps)
    if isinstance(value, PurePath):
        return value.as_posix()
    if isinstance(value, ModuleType):
        return {"module": value.__name__}
    if isinstance(value, partial):
        return {"partial": tell(value.func), "args": tell(value.args), "keywords": tell(value.keywords)}
    if isinstance(value, MethodType):
        return {"method": name_of(value), "self": tell(value.__self__)}
    if isinstance(value, FunctionType) and _defined(name_of(value)) is not value:
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        made_with = {name: tell(cell.cell_contents) for name, cell in cells}
        defaults = tell([value.__defaults__, value.__kwdefaults__])
        return {"made by": name_of(value), "closure": made_with, "defaults": defaults}
    if isinstance(value, type):
        return {"type": name_of(value)}
    if isroutine(value):
        return {"function": name_of(value)}
    if isinstance(value, np.generic):
        return tell(value.item())
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return {"object": "numpy:ndarray", "holds": tell(value.tolist())}
        return _array(value.shape, value.dtype, value)
    if (torch := sys.modules.get("torch")) and isinstance(value, torch.Tensor):
        if id(value) in by_shape:
            return {"zeros": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
        flat = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        return _array(value.shape, value.dtype, flat.numpy())
    if (held := attributes(value)) or hasattr(value, "__dict__"):
        kind = type(value)
        # A cached property follows from the rest, and is there only once it was asked for.
        held = {k: v for k, v in held.items() if not isinstance(getattr(kind, k, None), cached_property)}
        return {"object": name_of(kind), "holds": tell(held)}
    return _unplaced(value)


def _array(shape: Sequence[int], dtype: object, numbers: Any) -> dict[str, Any]:
    return {"array": list(shape), "dtype": str(dtype), "sha256": hashlib.sha256(numbers.tobytes()).hexdigest()}


# --- plain data to values


class ConfigError(ValueError):
    """Plain data that is no value of the kind expected: it says where, what was expected and what came."""

    def __init__(self, what: str, *where: str) -> None:
        super().__init__(f"at {brief('.'.join(where))}: {what}" if where else what)
        self.what, self.where = what, where


class NotAllowedError(ConfigError):
    """Plain data that names code which may not be used: the message says how to allow it."""


def from_plain(told: Any, kind: Any = object, *, allow: Sequence[str] = ()) -> Any:
    """The value that `to_plain` described, as a value of `kind` (a type; object: any).

    Builds dataclasses, and modules of torch where `kind` asks for them: of this package; or of the user's own modules
    that the program has imported by itself, or that lie in packages named in `allow`, which are imported for it.  Never a class or function of a library, nor one that a module merely holds under another name.

    Raises `ConfigError`, a `ValueError`, for anything else.

    >>> from avrobust.attacks import PGD
    >>> from_plain(to_plain(PGD(steps=3)), PGD)
    PGD(steps=3)
    >>> from_plain({"class": "avrobust.attacks.gradient:PGD", "steps": "3"})
    Traceback (most recent call last):
    avrobust.config.ConfigError: at steps: expected a valid integer, got '3'
    """
    match told:
        case {"class": str(name), **rest}:
            return _made(_class(name, kind, allow), {str(key): value for key, value in rest.items()}, kind, allow)
        case {"function": str(name)} if len(told) == 1:
            return _lookup(name, allow)
        case {"zeros": [*_], "dtype": str()} if (torch := sys.modules.get("torch")) and len(told) == 2:
            shape = _validated(list[int], told["zeros"])
            if not isinstance(dtype := getattr(torch, told["dtype"], None), torch.dtype):
                raise ConfigError(f"expected a type of numbers, got {brief(repr(told['dtype']), 60)}", "dtype")
            return torch.zeros(shape, dtype=dtype)
        case dict() if one_way := told.keys() & {"made by", "method", "partial", "object", "array", "type", "module"}:
            raise ConfigError(f"expected a value that can be made again, got one told by '{min(one_way)}'")
        case dict() if _tagged(told):
            if is_dataclass(kind) and isinstance(kind, type):
                return _made(kind, told, kind, allow)
            return {key: _inner(key, value, _element(kind, key), allow) for key, value in told.items()}
        case list() if _tagged(told):
            made = [_inner(i, value, _element(kind, i), allow) for i, value in enumerate(told)]
            return tuple(made) if any(tuple in (k, get_origin(k)) for k in _options(kind)) else made
    return _validated(kind, told)


def parse(kind: type[T], told: object, *, extra: Literal["forbid", "ignore"] = "forbid", finite: bool = True) -> T:
    """Data from JSON as a value of `kind`: a dataclass, a `TypedDict`, or any other type.

    Types are strict: text is no number.  `extra` says whether names that `kind` does not have are refused or ignored;
    `finite` refuses NaN and infinity.  Raises `ConfigError` that says where, what was expected and what came.

    >>> from avrobust.media import ClipSpec
    >>> parse(ClipSpec, {"seconds": 2, "size": 64}).seconds
    2.0
    >>> parse(ClipSpec, {"seconds": "long"})
    Traceback (most recent call last):
    avrobust.config.ConfigError: at seconds: expected a valid number, got 'long'
    """
    return cast(T, _validated(kind, told, extra, finite))


def brief(text: object, most: int = 200) -> str:
    """A text that came from outside, short enough for a message."""
    line = " ".join(str(text).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _validated(kind: Any, told: object, extra: str = "forbid", finite: bool = True) -> Any:
    try:
        text = json.dumps(told, allow_nan=not finite)
    except ValueError:
        raise ConfigError("expected finite numbers, got NaN or infinity") from None
    try:
        return _adapter(kind).validate_json(text, strict=True, extra=extra)
    except ValidationError as error:
        wrong = [ConfigError(_misfit(e), *map(str, e["loc"])) for e in error.errors(include_url=False)[:3]]
        raise (wrong[0] if len(wrong) == 1 else ConfigError("; ".join(map(str, wrong)))) from None


def _misfit(error: Any) -> str:
    """One thing that does not fit, in words."""
    if error["type"] == "value_error":  # of the value's own checks, which say it in full
        return str(error["ctx"]["error"])
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return f"expected {expected[:1].lower()}{expected[1:]}, got {reprlib.repr(error['input'])}"


@cache
def _adapter(kind: Any) -> Any:
    try:
        return TypeAdapter(kind)
    except PydanticSchemaGenerationError:  # of a class that has no plain form
        return TypeAdapter(kind, config=ConfigDict(arbitrary_types_allowed=True))


def _inner(at: object, told: object, kind: Any, allow: Sequence[str]) -> Any:
    """`from_plain` of a part, whose errors say where it is."""
    try:
        return from_plain(told, kind, allow=allow)
    except ConfigError as error:
        raise type(error)(error.what, str(at), *error.where) from None


def _made(cls: Any, told: Mapping[str, Any], kind: Any, allow: Sequence[str]) -> Any:
    """An instance of a class, from its arguments as plain data."""
    known = signature(cls).parameters
    if odd := sorted(map(str, told.keys() - known.keys())):
        raise ConfigError(f"expected settings of {cls.__name__} ({', '.join(known)}), got {brief(repr(odd[0]), 60)}")
    hints = _hints(cls)
    variables: dict[Any, Any] = {}
    for option in _options(kind):  # AV[int] says what AV's fields are
        variables |= zip(getattr(get_origin(option), "__parameters__", ()), get_args(option), strict=False)
    given = {}
    for key, value in told.items():
        hint = hints.get(key, object)
        hint = variables.get(hint, object) if isinstance(hint, TypeVar) else hint
        given[key] = _inner(key, value, hint, allow)
    try:
        return cls(**given)
    except TypeError as error:  # a setting is missing
        raise ConfigError(f"expected all settings of {cls.__name__}, got: {error}") from None
    except ValueError as error:
        raise ConfigError(str(error)) from None


@cache
def _hints(cls: Any) -> dict[str, Any]:
    """The types of a class's settings, as far as they are known."""
    try:
        return get_type_hints(cls if is_dataclass(cls) else cls.__init__)
    except (NameError, TypeError):
        return {}


def _options(kind: Any) -> tuple[Any, ...]:
    """The types that a value may have: the members of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def _element(kind: Any, at: Any) -> Any:
    """The type of an element of a list, tuple or mapping of this type."""
    for option in _options(kind):
        args = get_args(option)
        if get_origin(option) is tuple and args and args[-1] is not ...:
            return args[at] if at < len(args) else object
        if args and not isinstance(option, UnionType):
            return args[1] if isinstance(at, str) and len(args) > 1 else args[0]
    return object


def _tagged(told: object) -> bool:
    """Whether anything in plain data is more than plain data."""
    if isinstance(told, dict):
        return not told.keys().isdisjoint({"class", "function", "zeros"}) or any(map(_tagged, told.values()))
    return isinstance(told, list) and any(map(_tagged, told))


def _class(name: str, kind: Any, allow: Sequence[str]) -> type[Any]:
    """The class at `module:Class`, if a value of `kind` may be of it."""
    found = _lookup(name, allow)
    options = [get_origin(option) or option for option in _options(kind)]
    named = [o for o in options if isinstance(o, type) and o is not object and not getattr(o, "_is_protocol", False)]
    wanted = isinstance(found, type) and (issubclass(found, tuple(named)) or len(named) < len(options))
    if not wanted or not (is_dataclass(found) or issubclass(found, tuple(named))):
        expected = " or ".join(o.__name__ for o in named if o is not type(None)) or "a dataclass"
        raise ConfigError(f"expected {expected}, got {brief(name, 60)}")
    return cast(type[Any], found)


def covers(allow: Sequence[str], module: str) -> bool:
    """Whether `allow`, names of modules or packages, names this module or a package around it.

    >>> covers(("mine",), "mine.defense"), covers(("mine:",), "mine"), covers(("min",), "mine")
    (True, True, False)
    """
    named = (a.rstrip(":.") for a in allow)
    return any(module == a or module.startswith(f"{a}.") for a in named)


def _lookup(name: str, allow: Sequence[str]) -> Any:
    """The class or function at `module:name`, if it may be taken from there."""
    module = name.partition(":")[0]
    own = module.startswith("avrobust.") and not module.endswith("__main__")
    if own or covers(allow, module):
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigError(f"expected the module {module} on Python's path for {name}, got: {error}") from error
    elif module not in sys.modules or module.partition(".")[0] in LIBRARIES:
        raise NotAllowedError(
            f"expected a class or function that may be used, got {brief(repr(name), 60)}. If you trust that module, "
            f"import it before, or allow it: allow=({brief(repr(module), 60)},)"
        )
    if (found := _defined(name)) is None:
        raise ConfigError(f"expected a class or function of {module} by its own name, got {brief(repr(name), 60)}")
    return found


def _defined(name: str) -> Any:
    """The class or function that an imported module defines under this name, found without running anything; or None."""
    module, _, path = name.partition(":")
    at: Any = sys.modules.get(module)
    for part in path.split("."):
        at = vars(at).get(part) if hasattr(at, "__dict__") else None
    return at if (isinstance(at, type) or isroutine(at)) and name_of(at) == name else None
