"""Weights on disk: safetensors only, for a checkpoint from a stranger must not run code.

The header of the file holds one JSON text: how to build the network, how and on what it was trained, how accurate it
is.  Files are whole or not there.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avrobust import hub
from avrobust.config import NotAllowedError, brief, from_plain, to_plain
from avrobust.defenses import saving
from avrobust.extras import MissingExtraError
from avrobust.files import CheckpointError, draft
from avrobust.models.network import Network, Spec
from avrobust.models.own import OwnSpec

Meta = dict[str, Any]
DEEPEST = 32  # levels of a header: a recipe in a training takes four


def save(net: Network, path: Path | str, meta: Mapping[str, Any]) -> None:
    """Write the weights of the network and its feature defense, with `meta` (plain data) and how to build both.

    A feature defense of your own is saved by the name of its class, with plain settings: see `defenses.saving`.  One that
    would not come back as it is raises `CheckpointError`.
    """
    try:
        made_of = description(net)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    write(net.state_dict(), path, {**meta, **made_of})


def load(path: Path | str, net: Network | None = None, *, allow: Sequence[str] = ()) -> tuple[Network, Meta]:
    """The network of a checkpoint, in evaluation mode, and its metadata.

    `path` is a file, a folder with net.safetensors, or "hf://owner/name" on the Hugging Face hub (`hub.local`).

    The network is built as the checkpoint says.  For a network that was put together by hand, which it cannot build,
    give `net`: the weights go into it, and it is returned.  `allow` names packages from which a user's own network and
    feature defense may be imported; without it, a network's factory is never run, and the module of a feature defense must
    have been imported by your program.
    """
    path = hub.local(path)
    tensors, meta = read(path)
    if net is None:
        if not meta.get("spec"):
            raise CheckpointError(
                f"{path}: expected a checkpoint that says how to build its network, got weights alone. "
                "Build the network and pass it: load(path, net)."
            )
        net = _built(meta, tensors, path, allow)
    elif (there := meta.get("feature_defense")) != (here := description(net)["feature_defense"]):
        raise CheckpointError(
            f"{path}: expected the feature defense {brief(here)}, got {brief(there)}. Give the network the one that it "
            "was saved with."
        )
    put(tensors, net, path)
    return net.eval(), meta


def description(net: Network) -> Meta:
    """How to build the network and its feature defense again, as plain data; no spec where `Network.spec` is None.

    Raises `ValueError` for a feature defense that would not come back as it is.
    """
    return {"spec": to_plain(net.spec), "feature_defense": saving.describe(net.feature_defense)}


def _built(meta: Meta, tensors: Mapping[str, Tensor], path: Path | str, allow: Sequence[str]) -> Network:
    """The network that a header describes, once it is known that the file holds the weights of such a network."""
    try:
        spec: Spec = from_plain(meta["spec"], Spec, allow=allow)
        defense = meta.get("feature_defense")
        if isinstance(spec, OwnSpec):
            spec.refuse_unless(allow)
        if type(spec).__module__.startswith("avrobust.") and not isinstance(spec, OwnSpec):
            own = defense is None or (isinstance(defense, dict) and saving.is_own(defense))
            with torch.device("meta"):  # costs no memory, whatever sizes the header asks for
                shape = spec.rebuild()
                shape.feature_defense = saving.rebuild(defense) if own else nn.Identity()
            check_fits(tensors, shape, path, but="" if own else "feature_defense.")
        net = spec.rebuild()
        net.feature_defense = saving.rebuild(defense, allow)
    except (CheckpointError, MissingExtraError):
        raise
    except NotAllowedError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # a description can go wrong in any way, inside other libraries too
        raise CheckpointError(
            f"{path}: expected the description of a network in its header, but {brief(error) or type(error).__name__}. "
            "Give a checkpoint that this version of the package wrote, or train anew."
        ) from error
    return net


def write(tensors: Mapping[str, Tensor], path: Path | str, meta: Mapping[str, Any]) -> None:
    """Write named tensors and plain data, atomically; makes the folder if needed."""
    whole: dict[str, Tensor] = {}
    memory: set[int] = set()
    for name, t in tensors.items():
        own = t.detach().cpu().contiguous()
        place = own.untyped_storage().data_ptr()
        whole[name] = own.clone() if place in memory else own  # layers may share weights, tensors in a file no memory
        memory.add(place)
    try:
        with draft(path) as part:
            save_file(whole, part, {"avrobust": json.dumps(meta)})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected to write {sum(t.nbytes for t in whole.values()) / 1e6:.0f} MB, got: {error}. "
            "Make room or give another folder; what was there before is unchanged."
        ) from error


def read(path: Path | str) -> tuple[dict[str, Tensor], Meta]:
    """Named tensors and plain data from a file that `write` wrote (any other safetensors file: no data)."""
    with _opened(Path(path)) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, _header(file, path)  # noqa: SIM118, not a dict


def read_meta(path: Path | str) -> Meta:
    """The plain data of a checkpoint, without reading its weights."""
    with _opened(Path(path)) as file:
        return _header(file, path)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {_why_not(path, error)}") from error


def _header(file: Any, path: Path | str) -> Meta:
    """The plain data in a file's header, nested no deeper than what `write` writes."""
    try:
        meta = json.loads((file.metadata() or {}).get("avrobust", "{}"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: expected JSON in its header, got: {brief(error)}. Give a checkpoint that this package wrote."
        ) from error
    level, depth = [meta], 0
    while level and depth <= DEEPEST:
        level = [c for p in level if isinstance(p, dict | list) for c in (p.values() if isinstance(p, dict) else p)]
        depth += 1
    if not isinstance(meta, dict) or level:
        raise CheckpointError(
            f"{path}: expected names and values in its header, nested at most {DEEPEST} deep, got "
            f"{'more' if level else f'a {type(meta).__name__}'}. Give a checkpoint that this package wrote."
        )
    return meta


def put(tensors: Mapping[str, Tensor], net: nn.Module, path: Path | str) -> None:
    """Copy the tensors that were read from `path` into the network, all of them or none."""
    check_fits(tensors, net, path)
    net.load_state_dict(dict(tensors))


def check_fits(tensors: Mapping[str, Tensor], net: nn.Module, path: Path | str, *, but: str = "") -> None:
    """Raise a CheckpointError where these are not the tensors of this network; `but` begins the names left out."""
    here = net.state_dict()
    there = {name: t for name, t in tensors.items() if not (but and name.startswith(but))}
    wrong = [
        *(f"'{name}' is missing" for name in here if name not in there),
        *(f"'{brief(name, 60)}' is not in the network" for name in there if name not in here),
        *(
            f"'{name}' is {tuple(there[name].shape)} instead of {tuple(here[name].shape)}"
            for name in here
            if name in there and there[name].shape != here[name].shape
        ),
        *(
            f"'{name}' is of {there[name].dtype} instead of {here[name].dtype}"
            for name in here
            if name in there and there[name].is_floating_point() != here[name].is_floating_point()
        ),
    ]
    if wrong:
        rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{path}: expected the weights of this network, got those of another: {'; '.join(wrong[:3])}{rest}. "
            "Build the network that the checkpoint was made from, or give its own checkpoint."
        )


def weights_sha256(net: nn.Module) -> str:
    """A digest of the weights: their names, shapes, types and bytes, in any memory layout.

    >>> weights_sha256(nn.Linear(2, 2)) == weights_sha256(nn.Linear(2, 2))
    False
    """
    total = hashlib.sha256()
    for name, t in sorted(net.state_dict().items()):
        total.update(f"{name} {tuple(t.shape)} {t.dtype}".encode())
        total.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def _why_not(path: Path, error: Exception) -> str:
    """What is wrong with a file that safetensors refuses, and what to do."""
    if not path.exists():
        return "expected a checkpoint, got no such file. Check the path, or train first."
    if not path.is_file():
        return "expected a checkpoint, got a folder. Give the .safetensors file in it."
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) < 9 or head.endswith(b"{"):  # the length of a JSON text, and that text
        return f"expected a whole safetensors file, got one cut short or damaged ({error}). Copy it again, or remove it and train anew."
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return (
            "expected a safetensors file, got a pickle, which can run anything when it is opened. "
            "Convert it where you trust it: safetensors.torch.save_file(torch.load(file, weights_only=True), ...)."
        )
    return f"expected a safetensors file, got something else ({error}). Give a checkpoint that this package wrote."
