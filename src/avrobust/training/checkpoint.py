"""Weights on disk: safetensors only, for a checkpoint from a stranger must not run code.

What belongs to the weights (how to build the network, what it was trained on, how good it is) is one JSON text in
the file's own header.  Files are written beside their place and then moved there: they are whole or not there.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from avrobust.defenses import guard
from avrobust.models.network import AVNet
from avrobust.models.zoo import rebuild

Meta = dict[str, Any]


class CheckpointError(ValueError):
    """A checkpoint cannot be used: it names the file, what is wrong, and what to do."""


def save(net: AVNet, path: Path | str, meta: Mapping[str, Any]) -> None:
    """Write the network's weights, its guard's included, with `meta` (plain data) and how to build both."""
    write(net.state_dict(), path, {**meta, "spec": net.spec, "guard": getattr(net.guard, "spec", None)})


def load(path: Path | str, net: AVNet | None = None) -> tuple[AVNet, Meta]:
    """The network of a checkpoint, in evaluation mode, and its metadata.

    The network is built as the checkpoint says.  Give `net` where it cannot say (a network put together by hand):
    the weights go into it, and it is given back.
    """
    tensors, meta = read(path)
    if net is None:
        if not meta.get("spec"):
            raise CheckpointError(
                f"{path}: expected a checkpoint that says how to build its network, got weights alone. "
                "Build the network and pass it: load(path, net)."
            )
        net = rebuild(meta["spec"])
        net.guard = guard(meta.get("guard"))
    put(tensors, net, path)
    return net.eval(), meta


def write(tensors: Mapping[str, Tensor], path: Path | str, meta: Mapping[str, Any]) -> None:
    """Write named tensors and plain data, atomically; makes the folder if needed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
    draft = path.with_name(f".{path.name}")  # one name: what a kill leaves is overwritten by the next
    try:
        save_file(whole, draft, {"avrobust": json.dumps(meta)})
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path}: expected to write {sum(t.nbytes for t in whole.values()) / 1e6:.0f} MB, got: {error}. "
            "Make room or give another folder; what was there before is unchanged."
        ) from error
    finally:
        draft.unlink(missing_ok=True)


def read(path: Path | str) -> tuple[dict[str, Tensor], Meta]:
    """Named tensors and plain data from a file that `write` wrote (any other safetensors file: no data)."""
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            meta = json.loads((file.metadata() or {}).get("avrobust", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, meta  # noqa: SIM118, not a dict
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {_why_not(path, error)}") from error


def read_meta(path: Path | str) -> Meta:
    """The plain data of a checkpoint, without reading its weights."""
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            meta: Meta = json.loads((file.metadata() or {}).get("avrobust", "{}"))
            return meta
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: {_why_not(path, error)}") from error


def put(tensors: Mapping[str, Tensor], net: nn.Module, path: Path | str) -> None:
    """Copy the tensors that were read from `path` into the network, all of them or none."""
    here = net.state_dict()
    wrong = [
        *(f"'{name}' is missing" for name in here if name not in tensors),
        *(f"'{name}' is not in the network" for name in tensors if name not in here),
        *(
            f"'{name}' is {tuple(tensors[name].shape)} instead of {tuple(here[name].shape)}"
            for name in here
            if name in tensors and tensors[name].shape != here[name].shape
        ),
    ]
    if wrong:
        rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{path}: expected the weights of this network, got those of another: {'; '.join(wrong[:3])}{rest}. "
            "Build the network that the checkpoint was made from, or give its own checkpoint."
        )
    net.load_state_dict(dict(tensors))


def weights_sha256(net: nn.Module) -> str:
    """A name for the weights themselves: their names, shapes, types and bytes, in any memory layout.

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
        return (
            f"expected a whole safetensors file, got one cut short or damaged ({error}). Copy it again, or train anew."
        )
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return (
            "expected a safetensors file, got a pickle, which can run anything when it is opened. "
            "Convert it where you trust it: safetensors.torch.save_file(torch.load(file, weights_only=True), ...)."
        )
    return f"expected a safetensors file, got something else ({error}). Give a checkpoint that this package wrote."
