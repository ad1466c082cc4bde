"""The user's own source files behind a value, by their digests: an edited attack is another attack.

This package and libraries are covered by their versions.  What is left are the files that define the functions and
classes in a value, and the user's own files that those import, at any depth.
"""

import ast
import dis
import hashlib
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache, partial
from importlib.machinery import PathFinder
from inspect import isroutine
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from avrobust.config import attributes, digest

HERE = Path(__file__).parent
INSTALLED = tuple({Path(p).resolve() for p in sysconfig.get_paths().values()} - {Path(sys.prefix).resolve()})


class _File(NamedTuple):
    sha256: str
    imports: tuple[str, ...]  # what its text imports, as far as that may be a module


# Files as they were when their modules were loaded; read again where a module was reloaded, as notebooks do.
_FILES: dict[str, tuple[object, _File]] = {}


def sources(*values: object) -> dict[str, str]:
    """The user's own modules behind these values, with a digest of each file; nothing is imported.

    A function or class without a file, as in a notebook, has a digest of its compiled code, and of the globals and attributes
    that it uses.

    >>> sources(max, Path, [1, "two"])
    {}
    """
    told: dict[str, str] = {}
    todo: list[str] = []
    for met in _defined(values, set()):
        module = _name(str(met.__module__))
        if _is_own(path := _path(module)):
            todo.append(module)
        elif path is None and module not in (
            *sys.builtin_module_names,
            "None",
        ):  # None: made by a compiler, as by torch
            told[f"{module}.{met.__qualname__}"] = digest([*_code(met)], _settings(met))
    while todo:
        name = todo.pop()
        path = _path(name)
        if name in told or path is None or not _is_own(path):
            continue
        file = _read(name, path)
        told[name] = file.sha256[:16]
        todo += file.imports
    return dict(sorted(told.items()))


def _defined(value: object, met: set[int]) -> Iterator[Any]:
    """The functions and classes in a value, and in what it was made with."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes) or id(value) in met:
        return
    met.add(id(value))
    parts: list[object] = []
    if isinstance(value, FunctionType):
        yield value
        parts = [value.__defaults__, value.__kwdefaults__, *(c.cell_contents for c in value.__closure__ or ())]
        if _path(_name(str(value.__module__))) is None:  # no file says what it uses
            parts += _globals(value.__code__, value.__globals__).values()
        if (made_in := value.__globals__.get("__name__")) != value.__module__ and made_in in sys.modules:
            yield from _module_of(sys.modules[made_in])  # under another's name, as decorators leave it
    elif isinstance(value, MethodType):
        parts = [value.__func__, value.__self__]
    elif isinstance(value, partial):
        parts = [value.func, value.args, value.keywords]
    elif isinstance(value, type):
        bases = [base for base in value.__mro__ if base.__module__.partition(".")[0] not in ("builtins", "torch")]
        yield from bases
        parts = [part for base in bases if _path(_name(base.__module__)) is None for part in _functions(base)]
    elif isinstance(value, ModuleType):
        yield from _module_of(value)
    elif isinstance(value, Mapping):
        parts = [*value.keys(), *value.values()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [*value]
    else:
        parts = [type(value), *attributes(value).values()]
        if is_dataclass(value):
            parts += [getattr(value, f.name) for f in fields(value)]
    for part in parts:
        yield from _defined(part, met)


def _module_of(module: ModuleType) -> Iterator[Any]:
    yield type("_", (), {"__module__": module.__name__})


def _code(value: Any) -> Iterator[object]:
    """What a function or class does, as its compiled code says."""
    if isinstance(value, CodeType):
        yield value.co_code, value.co_names
        for constant in value.co_consts:
            yield from _code(constant) if isinstance(constant, CodeType) else [repr(constant)]
    elif isinstance(value, type):
        for part in _functions(value):
            yield part.__name__
            yield from _code(part.__code__)
    elif isinstance(value, FunctionType):
        yield from _code(value.__code__)


def _functions(kind: type) -> list[FunctionType]:
    """The functions of a class: of properties, static and class methods too."""
    inside = [
        getattr(part, name, None) for part in vars(kind).values() for name in ("fget", "fset", "func", "__func__")
    ]
    return [part for part in (*vars(kind).values(), *inside) if isinstance(part, FunctionType)]


def _settings(value: Any) -> dict[str, object]:
    """The values that a function or class without a file uses: its globals, its attributes."""
    held = _globals(value.__code__, value.__globals__) if isinstance(value, FunctionType) else dict(vars(value))
    return {name: v for name, v in held.items() if not name.startswith("__") and not isroutine(v)}


def _globals(code: CodeType, there: Mapping[str, object]) -> dict[str, object]:
    """The globals that compiled code reads, in the functions inside it too."""
    read = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    inside = [_globals(part, there) for part in code.co_consts if isinstance(part, CodeType)]
    return {name: there[name] for name in sorted(read) if name in there} | {
        k: v for part in inside for k, v in part.items()
    }


def _name(module: str) -> str:
    """A script has one name in all of its processes."""
    return "__main__" if module == "__mp_main__" else module


@cache
def _is_own(path: Path | None) -> bool:
    """Whether a file is neither this package's nor installed beside it."""
    return path is not None and not any(path.is_relative_to(p) for p in (HERE, *INSTALLED))


def _path(name: str) -> Path | None:
    """The text of a module, loaded or not; None where there is none."""
    module = sys.modules.get(name) or sys.modules.get("__mp_main__" if name == "__main__" else name)
    origin = getattr(module, "__file__", None)
    if module is None:
        places: Any = None
        for i in range(len(parts := name.split("."))):
            if i and places is None:  # what is in a module that is no package is no module
                return None
            spec = PathFinder.find_spec(".".join(parts[: i + 1]), places)
            if spec is None:
                return None
            origin, places = spec.origin, spec.submodule_search_locations
    return _resolved(origin) if origin else None


@cache
def _resolved(origin: str) -> Path | None:
    """The file of a module's text, looked up once: a study asks for the sources of every cell."""
    path = Path(origin).resolve()
    return path if path.suffix == ".py" and path.is_file() else None


def _read(name: str, path: Path) -> _File:
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    known = _FILES.get(name)
    if known is not None and known[0] is loaded:
        return known[1]
    text = path.read_bytes()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    file = _File(hashlib.sha256(text).hexdigest(), tuple(_imports(text, package)))
    _FILES[name] = (loaded, file)
    return file


def _imports(text: bytes, package: str) -> Iterator[str]:
    """What a module's text imports, and the packages around that."""
    try:
        nodes = ast.walk(ast.parse(text))
    except SyntaxError:
        return
    for node in nodes:
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            found = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in found:
            yield from (".".join(name.split(".")[: i + 1]) for i in range(len(name.split("."))))
