"""The training loop, which continues after a kill.

`accelerate` chooses the device, and spreads the work where its launcher (`accelerate launch`, `torchrun`) starts
several processes.  All random numbers depend on (seed, epoch, clip) and (seed, step), so a training that was
killed and continued ends with the same weights: bit for bit on a CPU.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import isfinite
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avrobust.attacks.base import at_rate
from avrobust.extras import needs
from avrobust.files import DRAFTS
from avrobust.models.network import Loss, Network, loss_at_progress, training_batch
from avrobust.objectives import correct
from avrobust.progress import Advance, track_progress
from avrobust.seeds import Seeds, stable_hash
from avrobust.training import checkpoint, state
from avrobust.training.identity import TrainingError, flat, identity, refuse_another
from avrobust.training.recipe import Recipe, cross_entropy, set_rates
from avrobust.training.state import CURVE, DONE, STATE, Epoch, Position, Trained
from avrobust.training.views import Augment, Clips, View, batches, count_batches, on_device
from avrobust.types import Batch


def train(
    net: Network,
    store: Clips,
    recipe: Recipe,
    *,
    view: View,
    out: Path | str,
    seed: int,
    loss: Loss = cross_entropy,
    progress: bool = True,
    tracker: str | None = None,
    device: torch.device | None = None,
    save_every_s: float = 30.0,
) -> Trained:
    """Train `net` in place on the "train" clips; keep the weights that are best on the "val" clips.

    `loss` gets the network rather than its logits, so that it can use features too; write it as a function or a frozen
    dataclass, whose settings the checkpoint then carries.  A loss that changes during training, or changes the clips,
    has the methods that `Loss` names.  `tracker` is a name that `accelerate` knows, such as "tensorboard".  `device` is by
    default a GPU if there is one; where a launcher starts several processes, each has its own.

    If `out` holds the same training, it is loaded if finished and otherwise continued from its last state (saved every
    `save_every_s` seconds).  Raises `TrainingError` if `out` holds another training, for splits without clips, for a
    number of classes that is not the network's, and for a loss that is not finite.
    """
    out = Path(out)
    _check(net, store, recipe)
    loss = at_rate(loss, store.spec.rate)
    asked = identity(net, store, recipe, view, seed, loss)
    for path in (out / DONE, out / STATE):
        refuse_another(path, asked)
    if (out / DONE).exists():
        return state.finished(out / DONE, net)
    out.mkdir(parents=True, exist_ok=True)
    accelerator = _accelerator(tracker, out, asked, parts_rest=recipe.head_first > 0)
    where = device if device is not None and accelerator.num_processes == 1 else accelerator.device
    with _learning_as_before(net):
        run = _Run(net, store, recipe, view, out, seed, loss, asked, accelerator, where, save_every_s)
        steps = recipe.epochs * run.per_epoch
        shown = progress and accelerator.is_main_process
        with track_progress(f"training {out.name}", steps, done=run.at.step, visible=shown, count=False) as advance:
            for epoch in range(run.at.step // run.per_epoch, recipe.epochs):
                run.epoch(epoch, advance)
        return run.finish()


@contextmanager
def _learning_as_before(net: Network) -> Iterator[None]:
    """Weights that a recipe keeps as they are learn again afterwards, in another training."""
    learning = [p for p in net.parameters() if p.requires_grad]
    try:
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


@dataclass(eq=False)
class _Run:
    """One training under way: what `train` was given, and the position in it."""

    net: Network
    store: Clips
    recipe: Recipe
    view: View
    out: Path
    seed: int
    loss: Loss
    asked: dict[str, Any]
    accelerator: Any  # an `Accelerator`
    device: torch.device
    save_every_s: float

    def __post_init__(self) -> None:
        self.per_epoch = count_batches(len(self.store.ids("train")), self.recipe.batch)
        self.shard = (self.accelerator.process_index, self.accelerator.num_processes)
        self.net.to(self.device)
        if self.recipe.channels_last:
            for t in (*self.net.parameters(), *self.net.buffers()):
                if t.ndim == 4:  # and not `net.to`, which fails on the kernels of video models
                    t.data = t.data.contiguous(memory_format=torch.channels_last)
        self.recipe.set_training(self.net)  # before the optimiser, which takes what is not frozen
        self.encoders = tuple(self.net.encoders or ())
        self.tuned = [p for encoder in self.encoders for p in encoder.parameters() if p.requires_grad]
        self.optimizer = self.recipe.build_optimizer(self.net)
        found = self.out / STATE
        self.at = state.load(found, self.net, self.optimizer, self.per_epoch) if found.exists() else Position()
        objective = _Objective(self.net, self.loss)
        self.objective, self.stepper = self.accelerator.prepare(objective, self.optimizer)
        self.began = time.monotonic() - self.at.seconds
        self.saved = time.monotonic()

    def epoch(self, number: int, advance: Advance) -> None:
        """Train from the position to the end of this epoch, then validate."""
        self.recipe.set_training(self.net)
        self.hold_encoders(number < self.recipe.head_first)
        start = self.at.step % self.per_epoch
        for batch in self.batches("train", augment=Augment(self.seed, number), start=start):
            if self.at.step % self.per_epoch:
                self.save_if_due()
            self.step(number, batch)
            advance(1, note=self.summary(number))
        self.close(number, *self.validate())
        self.save_if_due()

    def hold_encoders(self, hold: bool) -> None:
        """Let the encoders learn, or keep them as they are: without gradients, and as in evaluation mode."""
        for p in self.tuned:
            p.requires_grad_(not hold)
        for encoder in self.encoders if hold else ():
            encoder.eval()

    def summary(self, number: int) -> str:
        """Epoch, mean loss so far in it, and the last validation accuracy, as progress shows them."""
        at, done = self.at, (self.at.step - 1) % self.per_epoch + 1
        val = f", val {at.curve[-1].val_accuracy:.1%}" if at.curve else ""
        return f"epoch {number + 1}/{self.recipe.epochs}, loss {at.loss_sum / done:.3f}{val}"

    def batches(self, split: str, **options: Any) -> Iterator[Batch]:
        """This process's share of each batch of a split, on the device."""
        device = self.device
        made = batches(self.store, split, self.view, self.recipe.batch, shard=self.shard, **options)
        return on_device(made, device)

    def step(self, epoch: int, batch: Batch) -> None:
        """One step of the optimiser."""
        torch.manual_seed(stable_hash(self.seed, "step", self.at.step, self.shard[0]))  # dropout and its like
        set_rates(self.optimizer, self.recipe.factor(self.at.step, self.per_epoch))
        progress = self.at.step / (self.recipe.epochs * self.per_epoch)
        with self.autocast():
            value = self.objective(batch, Seeds(stable_hash(self.seed, "loss", epoch), batch.ids), progress)
        if not isfinite(value.item()):
            raise TrainingError(
                f"expected a finite loss, got {value.item()} in step {self.at.step} (epoch {epoch + 1}). "
                f"Look at its clips ({', '.join(batch.ids[:3])}, ...), or lower the learning rate."
            )
        self.accelerator.backward(value)
        self.stepper.step()
        self.stepper.zero_grad()
        self.at.loss_sum += value.item()
        self.at.step += 1

    @torch.no_grad()
    def validate(self) -> tuple[float, float]:
        """The mean cross entropy and the accuracy on the "val" clips, at the centre view, as the loss trains on them.

        The same draws after every epoch and the final form of the loss, so that epochs can be compared.
        """
        self.net.eval()
        total = torch.zeros(3, device=self.device)
        for batch in self.batches("val"):
            with self.autocast():
                batch = training_batch(
                    self.loss, self.net, batch, Seeds(stable_hash(self.seed, "validation"), batch.ids)
                )
                logits = self.net(batch.x)
            total[0] += F.cross_entropy(logits.float(), batch.label, reduction="sum")
            total[1] += correct(logits, batch.label).sum()
            total[2] += len(batch)
        loss, right, count = self.accelerator.reduce(total).tolist()
        return loss / count, right / count

    def close(self, number: int, val_loss: float, val_accuracy: float) -> None:
        """Add the epoch to the curve, and keep its weights if they are the best so far."""
        at = self.at
        at.seconds = time.monotonic() - self.began
        epoch = Epoch(
            epoch=number + 1,
            train_loss=at.loss_sum / self.per_epoch,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            lr_head=self.optimizer.param_groups[-1]["lr"],
            seconds=at.seconds - sum(epoch.seconds for epoch in at.curve),
        )
        at.curve = (*at.curve, epoch)
        at.loss_sum = 0.0
        if at.best_epoch.epoch == number + 1:
            at.best = {name: t.detach().cpu().clone() for name, t in self.net.state_dict().items()}
        if self.accelerator.is_main_process:
            state.write_curve(self.out / CURVE, at.curve)
        self.accelerator.log(asdict(at.curve[-1]), step=number + 1)

    def autocast(self) -> torch.autocast:
        """The recipe's precision."""
        device = self.device
        low = self.recipe.dtype(device) == torch.bfloat16
        return torch.autocast(device.type, torch.bfloat16, enabled=low)

    def save_if_due(self) -> None:
        """Write the state, if the last one is old."""
        if time.monotonic() - self.saved < self.save_every_s:
            return
        self.at.seconds = time.monotonic() - self.began
        if self.accelerator.is_main_process:
            state.save(self.out / STATE, self.net, self.optimizer, self.at, self.asked)
        self.saved = time.monotonic()

    def finish(self) -> Trained:
        """Put the best weights into the network and on disk, and remove the state."""
        at, accelerator = self.at, self.accelerator
        checkpoint.put(at.best, self.net, self.out / STATE)
        if accelerator.is_main_process:
            best = at.best_epoch
            meta = {
                **self.asked,
                "best_epoch": best.epoch,
                "val_accuracy": best.val_accuracy,
                "seconds": at.seconds,
                "curve": [asdict(epoch) for epoch in at.curve],
                "device": self.device.type,
                "dtype": str(self.recipe.dtype(self.device)),
                "torch": torch.__version__,
            }
            checkpoint.save(self.net, self.out / DONE, meta)
            for left in (self.out / STATE, *self.out.glob(f".{STATE}{DRAFTS[1:]}")):  # by a kill, too
                left.unlink(missing_ok=True)
        for tracker in accelerator.trackers:
            tracker.finish()  # and not accelerator.end_training(), which ends the process group for good
        accelerator.wait_for_everyone()
        return state.finished(self.out / DONE, self.net)


class _Objective(nn.Module):
    """Network and loss as one module, for data parallelism: all that the loss computes with the network is inside."""

    def __init__(self, net: Network, loss: Loss) -> None:
        super().__init__()
        self.net, self.loss = net, loss

    def forward(self, batch: Batch, seeds: Seeds, progress: float) -> Tensor:
        return loss_at_progress(self.loss, progress)(self.net, batch, seeds)


def _check(net: Network, store: Clips, recipe: Recipe) -> None:
    """Refuse data that this network cannot be trained on, and a recipe that it cannot be trained with."""
    for split in ("train", "val"):
        if not store.ids(split):
            raise TrainingError(
                f"expected clips in the split '{split}', got none. "
                "Check the manifest and what preparing it reported: training needs 'train' and 'val'."
            )
    if not isinstance(store.label(store.ids("train")[0]), Integral):  # of NumPy, too
        raise TrainingError(
            "expected clips of one class each, got multi-label clips. Train such a network with your own code; "
            "avrobust evaluates it."
        )
    if net.classes not in (None, len(store.classes)):
        raise TrainingError(
            f"expected a network for the {len(store.classes)} classes of the data, got one for "
            f"{net.classes}. Build it with classes={len(store.classes)}."
        )
    if net.encoders is None and (recipe.head_first or 0 in recipe.lr):
        raise TrainingError(
            f"expected a network with `encoders` for the recipe '{recipe.name}', which leaves them as they are for a while, got "
            "one that does not show them. Give it that attribute, an AV or a ModuleDict of both, or choose another recipe."
        )
    net.refuse_other_rate(store.spec.rate)


def _accelerator(tracker: str | None, out: Path, asked: Mapping[str, Any], *, parts_rest: bool) -> Any:
    """The device and the processes that there are: an `Accelerator`.  The precision is the recipe's matter."""
    with needs("train"):
        from accelerate import Accelerator, DistributedDataParallelKwargs
    refuse_unknown_tracker(tracker)
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=parts_rest)]
    if tracker is None:
        return Accelerator(mixed_precision="no", device_placement=False, kwargs_handlers=handlers)
    accelerator = Accelerator(
        mixed_precision="no", device_placement=False, log_with=tracker, project_dir=out, kwargs_handlers=handlers
    )
    accelerator.init_trackers("curves", config={name: str(value) for name, value in flat(asked).items()})
    return accelerator


def refuse_unknown_tracker(tracker: str | None) -> None:
    """Raise a TrainingError where there is no such tracker, and MissingExtraError where nothing can be trained here."""
    with needs("train"):
        from accelerate.tracking import get_available_trackers
    installed = [str(name) for name in get_available_trackers()]
    if tracker is not None and tracker not in installed:
        raise TrainingError(
            f"expected a tracker that is installed ({', '.join(installed) or 'there is none'}), got '{tracker}'. "
            'Install it, for example: pip install "avrobust[track]".'
        )
