"""Where a training stands, in memory and on disk: as safetensors too, without pickles."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avrobust.training import checkpoint


@dataclass(frozen=True)
class Epoch:
    """One line of the curve.  Losses are means; the accuracy lies in [0, 1]."""

    epoch: int  # from 1
    train_loss: float
    val_loss: float
    val_accuracy: float
    lr_head: float  # in the epoch's last step
    seconds: float


@dataclass
class Position:
    """How far a training has come."""

    step: int = 0  # of the whole training, from 0
    loss_sum: float = 0.0  # over this epoch's steps so far
    seconds: float = 0.0  # spent so far on what is kept
    curve: list[Epoch] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)  # the weights of `best_epoch`

    @property
    def best_epoch(self) -> Epoch:
        """The highest validation accuracy; where equal, the lower loss, then the earlier epoch."""
        return max(self.curve, key=lambda e: (e.val_accuracy, -e.val_loss, -e.epoch))


def save(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, at: Position, asked: Mapping[str, Any]) -> None:
    """Write everything that going on needs."""
    slots = optimizer.state_dict()["state"]
    tensors = {
        **{f"net.{name}": t for name, t in net.state_dict().items()},
        **{f"best.{name}": t for name, t in at.best.items()},
        **{f"optimizer.{i}.{name}": t for i, slot in slots.items() for name, t in slot.items()},
    }
    position = {
        "step": at.step,
        "loss_sum": at.loss_sum,
        "seconds": at.seconds,
        "curve": [asdict(epoch) for epoch in at.curve],
    }
    checkpoint.write(tensors, path, {**asked, "position": position})


def load(path: Path, net: nn.Module, optimizer: torch.optim.Optimizer) -> Position:
    """Put network and optimiser where they were, and say where that is."""
    tensors, meta = checkpoint.read(path)
    checkpoint.put(_under("net.", tensors), net, path)
    slots: dict[int, dict[str, Tensor]] = {}
    for name, t in _under("optimizer.", tensors).items():
        number, key = name.split(".", 1)
        slots.setdefault(int(number), {})[key] = t
    weights = [p for group in optimizer.param_groups for p in group["params"]]
    for i, slot in slots.items():
        # In the memory layout of its weight: one kernel walks over both.
        slots[i] = {
            key: torch.empty_like(weights[i]).copy_(t) if t.shape == weights[i].shape else t for key, t in slot.items()
        }
    optimizer.load_state_dict({**optimizer.state_dict(), "state": slots})
    position = meta["position"]
    curve = [Epoch(**epoch) for epoch in position.pop("curve")]
    return Position(**position, curve=curve, best=_under("best.", tensors))


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
