"""Batches of a user's own loader, whose parts are named: `evaluation.door` guesses names, this is told them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, SubsetRandomSampler, WeightedRandomSampler

from avrobust.evaluation.checks import check_batch
from avrobust.evaluation.door import as_rate
from avrobust.types import AV, Batch, InputError

# Where a batch keeps a part: a key of a dict or the name of a field, a position in a tuple, or a function of the batch.
Key = str | int | Callable[[Any], Any]


def batches(
    loader: Any,
    *,
    audio: Key,
    visual: Key,
    label: Key,
    ids: Key | None = None,
    rates: Key | None = None,
    rate: Any = None,
) -> Iterable[Batch]:
    """The batches of a `DataLoader`, or of any loader of dicts, tuples or objects, with their parts named.

    Each part is a key, a position, or a function that takes the batch: `visual=lambda d: d["image"][:, None]`.  `audio` is
    (b n) in [-1, 1], `visual` (b t 3 h w) in [0, 1]; `label` is (b) class numbers, or whatever the evaluation's task reads;
    `ids` name the clips.  `rates` is where a batch keeps the sample rates of its clips, in Hz: all must be `rate`, the rate
    that the model takes, or else that of the first clip.

    The first batch is made and checked here, the others when they are needed; each pass goes through the loader again.
    Raises `InputError`, for a loader that shuffles, leaves clips out, or is spent after one pass, too.

    >>> loader = [{"wav": torch.zeros(2, 8), "image": torch.zeros(2, 3, 4, 4), "y": torch.tensor([0, 1])}]
    >>> [batch] = batches(loader, audio="wav", visual=lambda d: d["image"][:, None], label="y")
    >>> batch.x.visual.shape, batch.label
    (torch.Size([2, 1, 3, 4, 4]), tensor([0, 1]))
    """
    _check_loader(loader)
    keys = {"audio": audio, "visual": visual, "label": label, "ids": ids, "rates": rates}
    made = _NamedBatches(loader, {name: key for name, key in keys.items() if key is not None}, as_rate(rate))
    first = next(iter(made), None)
    if first is None:
        raise InputError("expected a loader with clips, got an empty one. Check its dataset.")
    check_batch(replace(first, label=torch.zeros(len(first), dtype=torch.long)))  # what labels mean depends on the task
    return made


@dataclass(frozen=True)
class _NamedBatches:
    loader: Iterable[Any]
    keys: Mapping[str, Key]
    rate: int | None

    def __iter__(self) -> Iterator[Batch]:
        rate = self.rate
        for item in self.loader:
            part = {name: _part(item, name, key) for name, key in self.keys.items()}
            if "rates" in part:
                rate = _one_rate(part["rates"], rate)
            x = AV(_tensor(part["audio"], "audio"), _tensor(part["visual"], "visual"))
            label = _tensor(part["label"], "label")
            if x.audio.ndim and label.ndim and len(x.audio) != len(label):
                raise InputError(
                    f"expected a label for each clip, got {len(x.audio)} clips and {len(label)} labels. Check label={self.keys['label']!r}."
                )
            yield Batch(x, label.reshape(-1) if label.ndim == 0 else label, _names(part.get("ids")))


def _check_loader(loader: object) -> None:
    if isinstance(loader, Dataset):
        raise InputError(
            f"expected batches of clips, got the dataset {type(loader).__name__}. Give DataLoader(dataset, batch_size=16)."
        )
    if isinstance(loader, Iterator) or not isinstance(loader, Iterable):
        raise InputError(
            f"expected a loader that can be gone through again for each attack, got {type(loader).__name__}. Give the DataLoader "
            "itself, or a list of its batches."
        )
    if not isinstance(loader, DataLoader):
        return
    samplers = [loader.sampler, getattr(loader.batch_sampler, "sampler", None)]
    if any(isinstance(s, RandomSampler | SubsetRandomSampler | WeightedRandomSampler) for s in samplers):
        raise InputError(
            "expected the same clips in the same order in each pass, got a DataLoader that shuffles. Give shuffle=False."
        )
    if loader.drop_last and loader.batch_size and (left := len(loader.sampler) % loader.batch_size):  # type: ignore[arg-type]
        raise InputError(
            f"expected every clip, got a DataLoader that leaves out the last {left}. Give drop_last=False."
        )


def _part(item: Any, name: str, key: Key) -> Any:
    """The part of a batch that a key names."""
    try:
        if callable(key):
            return key(item)
        return getattr(item, key) if isinstance(key, str) and not isinstance(item, Mapping) else item[key]
    except Exception as error:
        raise InputError(
            f"expected {name} at {key!r} in a batch, got {_described(item)} ({type(error).__name__}: {error}). Name one of its "
            f'parts, or give a function: {name}=lambda batch: batch["..."].'
        ) from error


def _described(item: Any) -> str:
    """What a batch holds, with shapes."""
    if isinstance(item, Mapping):
        return f"a dict of {', '.join(f'{key!r} {_shape(value)}'.strip() for key, value in list(item.items())[:12])}"
    names = getattr(item, "_fields", None) or vars(item) if hasattr(item, "__dict__") else ()
    if names:
        return f"{type(item).__name__} with {', '.join(map(str, list(names)[:12]))}"
    if isinstance(item, Sequence) and not isinstance(item, str):
        return f"a {type(item).__name__} of {', '.join(f'{n}: {_shape(part)}' for n, part in enumerate(item[:12]))}"
    return _shape(item)


def _shape(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"{type(value).__name__} {tuple(shape)}"


def _tensor(value: Any, name: str) -> Tensor:
    if isinstance(value, Tensor):
        return value
    try:
        return torch.as_tensor(np.array(value))
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"{name} should be a tensor or an array, got {_described(value)}. Stack the clips: torch.stack(list_of_tensors)."
        ) from None


def _one_rate(given: Any, expected: int | None) -> int:
    """The sample rate of all clips of a batch."""
    plain = given.tolist() if isinstance(given, Tensor) else given
    rates = {int(rate) for rate in np.array(plain).reshape(-1)} | ({expected} if expected is not None else set())
    if len(rates) != 1:
        raise InputError(
            f"expected audio at one sample rate, got {', '.join(map(str, sorted(rates)))} Hz. Resample it when it is loaded to "
            "the rate that the model takes."
        )
    return rates.pop()


def _names(ids: Any) -> tuple[str, ...]:
    if ids is None:
        return ()
    plain = ids.tolist() if isinstance(ids, Tensor | np.ndarray) else [ids] if isinstance(ids, str) else list(ids)
    return tuple(map(str, plain))
