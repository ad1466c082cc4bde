"""Inputs of an evaluation in any plain form, as batches, attacks, threats and seeds.

Containers, labels, ids and NumPy arrays are converted.  Nothing that would change the numbers that the model gets (layout,
scale, channels, precision) is converted: `checks` refuses it, and names the missing line of code.
"""

import inspect
import math
import numbers
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avrobust.engine import as_judge, as_output
from avrobust.evaluation.checks import check_mode, check_values, described
from avrobust.evaluation.tasks import Classification, Task
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Batch, InputError, Model, Signals

# The keys under which loaders of dicts keep these, in lower case.
KEYS = {
    "audio": ("audio", "wave", "wav", "waveform", "sound", "audio_values", "input_values"),
    "visual": ("visual", "frames", "video", "image", "images", "picture", "pixel_values", "pixel_values_videos"),
    "label": ("label", "labels", "y", "target", "targets", "class"),
    "ids": ("ids", "id", "clip", "clips", "name", "names", "key", "keys", "path", "paths", "file"),
}
CLASSES = Classification()
FORM = "Batch(AV(wave, frames), labels, ids), a tuple (wave, frames, labels) or a dict of audio, visual and label"


def as_batches(given: Any, task: Task = CLASSES) -> Iterable[Batch]:
    """Batches that can be gone through again and again: of one batch, a list of them, a loader, or an iterator.

    `task` reads and checks their labels.

    >>> wave, frames = torch.zeros(2, 8), torch.zeros(2, 1, 3, 4, 4)
    >>> [batch] = as_batches((wave, frames, [0, 1]))
    >>> batch.label, batch.ids
    (tensor([0, 1]), ('0', '1'))
    """
    if is_batch(given):
        return _Batches([given], task)
    if not isinstance(given, Iterable) or isinstance(given, str | Tensor | np.ndarray | AV):
        raise InputError(f"expected batches of clips, got {described(given)}. Give a DataLoader or a list of {FORM}.")
    if isinstance(given, Iterator):  # spent after one pass, and every attack needs its own
        given = held(as_batch(item, task) for item in given)
    elif isinstance(given, Sequence):
        _check_memory(given)
    return _Batches(given, task)


def held(batches: Iterable[Batch]) -> list[Batch]:
    """A list of batches, in memory of their own: a loader may fill the same memory again with each next batch."""
    return [Batch(b.x.map(torch.clone), b.label.clone(), b.ids if b.named else ()) for b in batches]


def _check_memory(batches: Sequence[Any]) -> None:
    """Batches that were listed from a loader of one buffer are all the last one."""
    met: dict[tuple[object, ...], int] = {}
    for number, item in enumerate(batches):
        x = _parts(item)[0]
        if all(isinstance(s, Tensor) and s.layout == torch.strided and s.numel() for s in x):
            other = met.setdefault(tuple((s.data_ptr(), s.shape) for s in x), number)
            if batches[other] is not item:
                raise InputError(
                    f"expected other clips in each batch, got batches {other} and {number} in the same memory, so with the "
                    "same clips. If a loader fills one buffer again and again, give the loader itself, or clone each batch."
                )


def is_batch(given: object) -> bool:
    """Whether this is one batch, and no collection of them."""
    return (
        isinstance(given, Batch | Mapping)
        or _fields(given) is not None
        or (
            isinstance(given, Sequence)
            and len(given) > 1
            and any(isinstance(part, Tensor | np.ndarray | AV) for part in given)
        )
    )


@dataclass(frozen=True)
class _Batches:
    given: Iterable[Any]
    task: Task

    def __iter__(self) -> Iterator[Batch]:
        count = 0
        for item in self.given:
            batch = as_batch(item, self.task)
            if not batch.named:  # by their place among all clips, for a number within a batch would come again
                batch = replace(batch, ids=tuple(str(count + i) for i in range(len(batch))))
            count += len(batch)
            if len(batch):
                self.task.check_labels(batch)
                yield batch


def as_batch(item: Any, task: Task = CLASSES) -> Batch:
    """One batch of a list or loader, its labels as `task` reads them, its ids as text.

    Raises `InputError` where it is no batch.
    """
    x, label, ids = _parts(item)
    signals = AV(*(_tensor(part, name) for name, part in x.items()))
    return Batch(signals, task.read(label).to(signals.audio.device), _ids(ids))


def _parts(item: Any) -> tuple[AV[Any], Any, Any]:
    """(signals, labels, ids) of one batch."""
    if isinstance(item, Batch):
        return _pair(item.x), item.label, item.ids if item.named else None
    item = _fields(item) or item
    if isinstance(item, Mapping):
        found = {name: _only(item, name) for name in KEYS}
        return AV(found["audio"], found["visual"]), found["label"], found["ids"]
    if isinstance(item, Sequence) and not isinstance(item, str) and len(item) >= 2:
        paired = isinstance(item[0], AV | Mapping) or (isinstance(item[0], Sequence) and len(item[0]) == 2)
        x, rest = (_pair(item[0]), item[1:]) if paired else (AV(item[0], item[1]), item[2:])
        if 1 <= len(rest) <= 2:
            return x, rest[0], rest[1] if len(rest) == 2 else None
    raise InputError(f"expected a batch of clips, got {described(item)}. Give {FORM}.")


def _fields(item: Any) -> dict[str, Any] | None:
    """A named tuple or a dataclass by its fields, if these are called as in a dict."""
    if isinstance(item, Batch | AV | type):
        return None
    names = getattr(item, "_fields", ()) or ([f.name for f in fields(item)] if is_dataclass(item) else ())
    known = [set(KEYS[name]) for name in ("audio", "visual", "label")]
    if not all(keys & {str(name).lower() for name in names} for keys in known):
        return None
    return {name: getattr(item, name) for name in names}


def _only(item: Mapping[Any, Any], name: str) -> Any:
    """The value of the one key that means `name`; ids may be missing."""
    lower = {str(key).lower(): value for key, value in item.items()}
    keys = [key for key in KEYS[name] if key in lower]
    if len(keys) == 1 or (keys and keys[0] == name):
        return lower[keys[0]]
    if not keys and name == "ids":
        return None
    raise InputError(
        f"expected one key for {name} in a batch that is a dict, got {keys or sorted(lower)}. "
        f"Give {FORM}: Batch(AV(d['wav'], d['frames']), d['y'])."
    )


def _pair(x: Any) -> AV[Any]:
    if isinstance(x, AV):
        return x
    if isinstance(x, Mapping):
        return AV(_only(x, "audio"), _only(x, "visual"))
    if isinstance(x, Sequence) and len(x) == 2:
        return AV(*x)
    raise InputError(f"expected AV(audio, visual), got {described(x)}. Give {FORM}.")


def _tensor(part: Any, name: str) -> Tensor:
    if isinstance(part, Tensor):
        check_values(part, name)
        return part.detach() if part.layout == torch.strided else part.detach().to_dense()
    if isinstance(part, np.ndarray):
        return torch.from_numpy(part.copy())  # torch knows neither read-only arrays nor reversed ones
    raise InputError(
        f"{name} should be a tensor or an array, got {described(part)}. Stack the clips: torch.stack(list_of_tensors)"
        f"{'' if isinstance(part, Sequence | Mapping) else '; of a model without it, give silence or grey frames'}."
    )


def _ids(ids: Any) -> tuple[str, ...]:
    if ids is None:
        return ()
    if isinstance(ids, str | bytes | numbers.Number):
        ids = [ids]
    plain = ids.tolist() if isinstance(ids, Tensor | np.ndarray) else list(ids)
    if all(id is None for id in plain):
        return ()
    return tuple(
        id.decode() if isinstance(id, bytes) else str(id.item() if isinstance(id, Tensor) else id) for id in plain
    )


def as_attacks(given: Any) -> list[Attack]:
    """A list of attacks, of one or of several."""
    every = [given] if callable(given) or isinstance(given, str) or not isinstance(given, Iterable) else list(given)
    for attack in every:
        if isinstance(attack, type):
            raise InputError(f"expected an attack, got the class {attack.__name__}. Make one: {attack.__name__}().")
        if not callable(attack):
            raise InputError(
                f"expected an attack, got {described(attack)}. Give avrobust.PGD(), or a function "
                "(model, x, y, threat, seeds) -> adversarial signals."
            )
        try:
            inspect.signature(attack).bind(*"mxyts")
        except TypeError as error:
            raise InputError(
                f"expected an attack that takes (model, x, y, threat, seeds), got {described(attack)}: {error}."
            ) from None
        except ValueError:  # its signature is not known
            continue
    return every


def as_threats(given: Any) -> list[Threat]:
    """The threats to try: of one its subsets, several as they are."""
    every = list(given) if isinstance(given, Iterable) and not isinstance(given, Threat | str) else [given]
    if not every or not all(isinstance(threat, Threat) for threat in every):
        raise InputError(
            f"expected a Threat or several, got {described(given)}. Give Threat.linf(audio=0.002, visual='4/255')."
        )
    return list(given.subsets()) if isinstance(given, Threat) else every


def as_seed(given: Any) -> int:
    """A whole number of any kind; as a text it names other draws, so it has to be one."""
    try:
        return operator.index(given)
    except TypeError:
        raise InputError(f"expected a seed that is a whole number, got {described(given)}. Give 0.") from None


def as_rate(given: Any) -> int | None:
    """A sampling rate in Hz, a whole number of any kind; None where it is not known.

    >>> as_rate(16e3), as_rate(None)
    (16000, None)
    """
    if given is None:
        return None
    rate = float(given) if isinstance(given, numbers.Real) else math.nan
    if not rate >= 1 or rate % 1:
        raise InputError(f"expected a sampling rate that is a whole number in Hz, got {described(given)}. Give 16_000.")
    return int(rate)


def check_model(model: Any) -> None:
    """A callable that is ready to be asked, as far as can be seen: see `training_mode`."""
    if not callable(model):
        raise InputError(f"expected a model, got {described(model)}. Give a callable that takes AV(audio, visual).")
    if isinstance(model, type):
        raise InputError(f"expected a model, got the class {model.__name__}. Make one: {model.__name__}(...).eval().")
    check_mode(model)


def check_task(task: Any) -> Task:
    """A task.  Raises `InputError` for anything else."""
    if isinstance(task, type) and issubclass(task, Task):
        raise InputError(f"expected a task, got the class {task.__name__}. Make one: {task.__name__}().")
    if not isinstance(task, Task):
        raise InputError(
            f"expected a task, got {described(task)}. Give avr.tasks.MultiLabel(), or leave it out for classes."
        )
    return task


def check_answer(model: Model, example: Signals, task: Task = CLASSES) -> Tensor:
    """The answer (1, k) of `model` for `example`, a single clip.

    Raises `InputError` where the model fails, and where its answer is no output (`engine.as_output`), or not one of the task.
    """
    with torch.no_grad():
        try:
            answer: Any = model(example.map(torch.clone))  # a single clip: a search may go on with one
        except (InputError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            shapes = ", ".join(f"{name} {tuple(s.shape)} {s.dtype}" for name, s in example.items())
            doubles = any(s.dtype == torch.float64 for s in example)
            hint = " For a float32 network, give float32 clips." if doubles else ""
            if (where := example.audio.device).type != "cpu":
                hint += (
                    f" The clips are on {where}: move what the model holds there (--device cpu leaves all on the CPU)."
                )
            raise InputError(
                f"the model should take one AV of signals ({shapes}), got {type(error).__name__}: {error}. "
                f"If it takes two tensors, give lambda x: net(x.audio, x.visual).{hint}"
            ) from error
        out = as_output(answer)
        if task.needs:  # a model with two streams shows more than it returns
            out = as_judge(model, example).output(example.map(torch.clone), task.needs)
    return task.answer(out, len(example.audio))
