"""What a training leaves on disk, and how it is read again: its curve, its state until it is finished, its result.

Everything is safetensors or CSV, without pickles, and any file may be damaged: what does not fit is a `CheckpointError`.
"""

import csv
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from avrobust.config import ConfigError, parse
from avrobust.files import CheckpointError, write_bytes
from avrobust.models.network import Network
from avrobust.training import checkpoint

DONE = "net.safetensors"  # the best weights, once training is finished
STATE = "state.safetensors"  # where training stands, until then
CURVE = "curve.csv"  # one line per epoch

T = TypeVar("T")


@dataclass(frozen=True)
class Epoch:
    """One line of the curve.  Losses are means; the accuracy lies in [0, 1]."""

    epoch: int  # from 1
    train_loss: float
    val_loss: float
    val_accuracy: float
    lr_head: float  # in the epoch's last step
    seconds: float


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished training.  `net` has the weights of epoch `best_epoch` and is in evaluation mode."""

    path: Path  # of the weights
    net: Network
    curve: tuple[Epoch, ...]
    best_epoch: int  # from 1
    seconds: float  # of steps and validation, without interruptions


@dataclass
class Position:
    """How far a training has come."""

    step: int = 0  # of the whole training, from 0
    loss_sum: float = 0.0  # over this epoch's steps so far
    seconds: float = 0.0  # spent so far on what is kept
    curve: tuple[Epoch, ...] = ()
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights of `best_epoch`

    @property
    def best_epoch(self) -> Epoch:
        """The highest validation accuracy; where equal, the lower loss, which nan is not, then the earlier epoch."""
        return max(self.curve, key=lambda e: (e.val_accuracy, isfinite(e.val_loss), -e.val_loss, -e.epoch))


@dataclass(frozen=True)
class _Saved:
    """`Position` without its tensors."""

    step: int
    loss_sum: float
    seconds: float
    curve: tuple[Epoch, ...]


@dataclass(frozen=True)
class _Result:
    """What a finished checkpoint says of its training."""

    curve: tuple[Epoch, ...]
    best_epoch: int
    seconds: float


def save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, at: Position, asked: Mapping[str, Any]) -> None:
    """Write everything that going on needs."""
    slots = optimizer.state_dict()["state"]
    tensors = {
        **{f"net.{name}": t for name, t in net.state_dict().items()},
        **{f"best.{name}": t for name, t in at.best.items()},
        **{f"optimizer.{i}.{name}": t for i, slot in slots.items() for name, t in slot.items()},
    }
    position = asdict(_Saved(at.step, at.loss_sum, at.seconds, at.curve))
    checkpoint.write(tensors, path, {**asked, "position": position})


def load(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, per_epoch: int) -> Position:
    """Put network and optimiser where they were, and say where that is; `per_epoch` steps are an epoch.

    Raises `CheckpointError` where the file does not hold that.
    """
    tensors, meta = checkpoint.read(path)
    told = _read(path, _Saved, meta.get("position"))
    if told.step < 0 or [e.epoch for e in told.curve] != [*range(1, told.step // per_epoch + 1)]:
        raise _damaged(path, f"{len(told.curve)} epochs in the curve after {told.step} steps of {per_epoch} an epoch")
    best = _under("best.", tensors)
    if told.curve or best:
        checkpoint.check_fits(best, net, path)
    slots = _slots(path, _under("optimizer.", tensors), optimizer)
    checkpoint.put(_under("net.", tensors), net, path)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    return Position(told.step, told.loss_sum, told.seconds, told.curve, best)


def finished(path: Path, net: Network) -> Trained:
    """The training whose result lies at `path`, its weights in `net`."""
    _, meta = checkpoint.load(path, net)
    told = _read(path, _Result, meta)
    return Trained(path, net, told.curve, told.best_epoch, told.seconds)


def write_curve(path: Path, curve: tuple[Epoch, ...]) -> None:
    """One line per epoch, with a header."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, asdict(curve[0]))
    writer.writeheader()
    writer.writerows(asdict(epoch) for epoch in curve)
    write_bytes(path, text.getvalue().encode())


def _slots(path: Path, tensors: Mapping[str, Tensor], optimizer: torch.optim.Optimizer) -> dict[int, dict[str, Tensor]]:
    """What the optimiser keeps of each weight, by the weight's number."""
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    adam = isinstance(optimizer, torch.optim.AdamW)
    keys = {"step", "exp_avg", "exp_avg_sq"} if adam else {"momentum_buffer"}
    slots: dict[int, dict[str, Tensor]] = {}
    for name, t in tensors.items():
        number, _, key = name.partition(".")
        i = int(number) if number.isdecimal() else -1
        if not 0 <= i < len(weights) or key not in keys or not t.is_floating_point():
            raise _damaged(path, f"'{name[:60]}' for the optimiser")
        shape = torch.Size() if key == "step" else weights[i].shape
        if t.shape != shape:
            raise _damaged(path, f"'{name}' of {tuple(t.shape)} instead of {tuple(shape)}")
        # In the memory layout of its weight: one kernel walks over both.
        slots.setdefault(i, {})[key] = t if key == "step" else torch.empty_like(weights[i]).copy_(t)
    if short := [i for i, slot in slots.items() if slot.keys() != keys]:
        raise _damaged(path, f"half of what the optimiser keeps of weight {short[0]}")
    return slots


def _read(path: Path, kind: type[T], told: object) -> T:
    """Plain data of a file as a value; names that `kind` does not have are other parts of the header."""
    try:
        return parse(kind, told, extra="ignore", finite=False)
    except ConfigError as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: expected the state or result of a training, got a damaged file or one of another version: {what}. "
        "Remove it to train anew."
    )


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
