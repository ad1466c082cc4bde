"""Files of `torch.save` that others published: tensors only, because a stranger's file must not run code."""

import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from avrobust.config import brief
from avrobust.files import CheckpointError


def read(path: Path) -> Any:
    """What a file holds, on the CPU, if that is tensors and plain containers of them; raises `CheckpointError` otherwise."""
    if tarfile.is_tarfile(path):  # of torch before 0.1.10; before torch 2.6, weights_only did not restrain them
        raise CheckpointError(
            f"{path}: expected a file of torch 1 or later, got a tar archive, which can run anything when it is opened. "
            "Save it anew with a later torch where you trust it."
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can go wrong in any way
        if (found := re.search(r"GLOBAL (\S+)", str(error))) is not None:
            raise CheckpointError(
                f"{path}: expected tensors and nothing else, got a pickle that would run {found[1]} when it is opened. "
                "Where you trust it, save its state_dict alone: torch.save(net.state_dict(), path)."
            ) from error
        raise CheckpointError(
            f"{path}: expected a file of torch.save, got one cut short, damaged or of another kind "
            f"({type(error).__name__}). Copy it again."
        ) from error


def named_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names, without the `module.` that DataParallel writes before them."""
    found = read(path)
    if not isinstance(found, Mapping):
        raise CheckpointError(
            f"{path}: expected tensors by name, got a {type(found).__name__}. Give a file of net.state_dict()."
        )
    other = [
        f"'{brief(str(name), 60)}' is a {type(t).__name__}" for name, t in found.items() if not isinstance(t, Tensor)
    ]
    if other:
        raise CheckpointError(
            f"{path}: expected tensors by name and nothing else, got more: {'; '.join(other[:3])}. "
            "Save the state_dict of this part alone: torch.save(net.state_dict(), path)."
        )
    wrapped = all(str(name).startswith("module.") for name in found)
    return {str(name).removeprefix("module." if wrapped else ""): t for name, t in found.items()}


def check_names(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, what: str, give: str) -> None:
    """Raises `CheckpointError` unless a file has exactly the tensors that are expected, by name and shape.

    `what` was expected of the file; `give` names the file to give instead.
    """
    here = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    there = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wrong = [
        f"'{brief(name, 60)}' is {there.get(name, 'missing')} instead of {here.get(name, 'absent')}"
        for name in here | there
        if here.get(name) != there.get(name)
    ]
    if wrong:
        rest = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise CheckpointError(
            f"{path}: expected the tensors of {what}, got those of another network: {'; '.join(wrong[:3])}{rest}. Give {give}."
        )
