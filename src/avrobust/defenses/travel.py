"""A feature defense as plain data, which a checkpoint carries beside its weights, and back.

The package's own are known by kind.  Any other `nn.Module` travels by its name, `module:Class`, with the arguments of
its constructor, found as attributes of the same names; its numbers are in its state.  What would come back different
is refused when it is saved: a defense that is lost on the way would be measured as one that does not help.

A file may come from a stranger, and constructors are code.  So a class is taken from modules only that the program
has imported by itself, and that are no library's; or from packages that `allow` names, which are imported for it.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from inspect import Parameter, signature
from typing import Any, Literal

import torch
from torch import Tensor, nn

from avrobust.config import brief, parse
from avrobust.defenses.broken import Disguise
from avrobust.defenses.memory import Memory
from avrobust.defenses.pcl import Centres

OWN: dict[str, type[Memory] | type[Centres] | type[Disguise]] = {
    "ExFMem": Memory,
    "Centres": Centres,
    "Broken": Disguise,
}
# No feature defense is theirs, and some of their constructors do a great deal.
LIBRARIES = sys.stdlib_module_names | {
    "avrobust", "torch", "torchvision", "torchaudio", "transformers", "accelerate", "huggingface_hub", "safetensors",
    "numpy", "scipy", "sklearn", "pyarrow", "matplotlib", "PIL", "av", "pydantic", "__main__", "__mp_main__",
}  # fmt: skip


@dataclass(frozen=True)
class _Named:
    """What a checkpoint says of a module that is not the package's own."""

    kind: Literal["module"]
    name: str  # module:Class
    settings: dict[str, Any]  # as `_packed` gives them


def describe(feature_defense: nn.Module) -> dict[str, Any] | None:
    """What `rebuild` makes the feature defense of, but for its state; None for no feature defense.

    Raises `ValueError`, saying what to do, for a module that would not come back as it is.
    """
    kind = type(feature_defense)
    if kind is nn.Identity:
        return None
    if kind in OWN.values():
        spec: dict[str, Any] = feature_defense.spec  # type: ignore[assignment]
        return spec
    name = f"{kind.__module__}:{kind.__qualname__}"
    if kind.__module__ in ("__main__", "__mp_main__") or _found(name) is not kind:
        raise ValueError(
            f"expected a feature defense that another program can import by name, got {name}. "
            "Define its class at the top of a module of its own, and import it from there."
        )
    settings = {key: _packed(value, key, feature_defense) for key, value in _arguments(feature_defense).items()}
    with torch.random.fork_rng(devices=[]):
        try:
            again = kind(**{key: _unpacked(value, ()) for key, value in settings.items()})
        except Exception as error:  # another's constructor can fail in any way
            raise ValueError(
                f"expected {kind.__qualname__} to be made anew from {brief(settings)}, got {type(error).__name__}: {error}. "
                "Keep each argument of its constructor as an attribute of that name."
            ) from error
    if apart := different(feature_defense, again):
        raise ValueError(
            f"expected the feature defense {name}, made anew from {brief(settings)}, to be as it is, got another: "
            f"{'; '.join(apart[:3])}. Keep each argument of its constructor as an attribute of that name, and what it "
            "learns as parameters or buffers."
        )
    return {"kind": "module", "name": name, "settings": settings}


def rebuild(spec: Mapping[str, Any] | None, allow: Sequence[str] = ()) -> nn.Module:
    """The feature defense whose description this is, its state yet to be loaded; None is no feature defense.

    `allow` names packages or modules that may be imported for it.  Raises `ValueError` for what is none.

    >>> rebuild(None)
    Identity()
    """
    if spec is None:
        return nn.Identity()
    kind = spec.get("kind") if isinstance(spec, Mapping) else None
    if isinstance(kind, str) and kind in OWN:
        return OWN[kind].rebuild(spec)
    if kind != "module":
        raise ValueError(
            f"expected a feature defense of ExFMem, Centres or Broken, or a module, got {brief(repr(kind), 60)}. "
            "Is the checkpoint of a newer version?"
        )
    told = parse(_Named, spec)
    made = _class(told.name, nn.Module, allow)(**{key: _unpacked(v, allow) for key, v in told.settings.items()})
    assert isinstance(made, nn.Module)
    return made


def different(one: nn.Module, other: nn.Module) -> list[str]:
    """In what two modules differ beside the numbers of their states, in words."""
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


def _arguments(feature_defense: nn.Module) -> dict[str, Any]:
    """What its constructor is to be given: by name, what the module keeps under that name."""
    wanted = signature(type(feature_defense)).parameters.values()
    return {
        p.name: getattr(feature_defense, p.name)
        for p in wanted
        if p.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY) and hasattr(feature_defense, p.name)
    }


def _packed(value: Any, at: str, feature_defense: nn.Module) -> dict[str, Any]:
    """An argument as plain data: a tensor of the state by its shape, a dataclass by its name and fields."""
    if isinstance(value, Tensor) and at in feature_defense.state_dict():
        return {"tensor": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
    if is_dataclass(value) and not isinstance(value, type):
        name = f"{type(value).__module__}:{type(value).__qualname__}"
        return {
            "class": name,
            "with": {
                f.name: _packed(getattr(value, f.name), f"{at}.{f.name}", feature_defense)
                for f in fields(value)
                if f.init
            },
        }
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        raise ValueError(
            f"expected plain settings in the feature defense {type(feature_defense).__qualname__} (numbers, texts, lists, "
            f"dataclasses of these), got a {type(value).__name__} for '{at}'. Give its constructor plain settings."
        ) from None
    return {"plain": value}


def _unpacked(packed: Any, allow: Sequence[str]) -> Any:
    match packed:
        case {"plain": value}:
            return value
        case {"tensor": [*shape], "dtype": str(name)} if isinstance(getattr(torch, name, None), torch.dtype):
            return torch.zeros(shape, dtype=getattr(torch, name))
        case {"class": str(name), "with": {**told}}:
            return _class(name, object, allow)(**{str(key): _unpacked(value, allow) for key, value in told.items()})
    raise ValueError(f"expected a setting of a feature defense, got {brief(repr(packed), 60)}")


def _class(name: str, base: type, allow: Sequence[str]) -> type[Any]:
    """The class at `module:Class`, if it may be taken from there."""
    module = name.partition(":")[0]
    named = [a.rstrip(":.") for a in allow]
    if any(module == a or module.startswith(f"{a}.") for a in named):
        try:
            import_module(module)
        except ImportError as error:
            raise ValueError(f"expected the module {module} on Python's path for {name}, got: {error}") from error
    elif module not in sys.modules or module.partition(".")[0] in LIBRARIES:
        raise ValueError(
            f"expected a class that may be used, got {brief(repr(name), 60)}. If you trust that module, import it "
            f"before, or name it: load(path, allow=({brief(repr(module), 60)},))"
        )
    found = _found(name)
    wanted = issubclass(found, base) if found is not None else False
    if found is None or not wanted or (base is object and not is_dataclass(found)):
        kind = "a module of torch" if base is nn.Module else "a dataclass"
        raise ValueError(f"expected {kind} at {brief(name, 60)}, got {brief(repr(found), 60)}")
    return found


def _found(name: str) -> type[Any] | None:
    """The class that an imported module defines under this name, looked up without running anything."""
    module, _, path = name.partition(":")
    at: Any = sys.modules.get(module)
    for part in path.split("."):
        at = vars(at).get(part) if hasattr(at, "__dict__") else None
    defined = isinstance(at, type) and f"{at.__module__}:{at.__qualname__}" == name
    return at if defined else None
