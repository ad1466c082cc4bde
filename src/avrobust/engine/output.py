"""The one place that turns what a model returns into an `Output`."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from avrobust.types import AV, InputError, Output


def as_output(answer: Any) -> Output:
    """What a model returned, as an `Output`.

    A tensor is logits.  A dict or an object has them under `logits`, and may have `features` (an `AV`, a pair, or a dict of
    audio and visual) and `heat`.  A tuple or list has them first.  Raises `InputError` for anything else.

    >>> import torch
    >>> as_output({"logits": torch.zeros(2, 3), "loss": None}).logits.shape
    torch.Size([2, 3])
    """
    if isinstance(answer, Output):
        return answer
    if isinstance(answer, Tensor):
        return Output(answer)
    if isinstance(logits := _part(answer, "logits"), Tensor):
        heat = _part(answer, "heat")
        return Output(logits, _features(_part(answer, "features")), heat if isinstance(heat, Tensor) else None)
    if isinstance(answer, Sequence) and len(answer) and isinstance(answer[0], Tensor):
        columns = [part.shape[1] for part in answer if isinstance(part, Tensor) and part.ndim == 2]
        if answer[0].ndim == 2 and answer[0].shape[1] > min(columns):  # the first are probably features
            raise InputError(
                f"the model should return logits first, got {_described(answer)} with {columns} columns, of which the first are "
                "not the fewest. Say which are the logits: lambda x: net(x)[1], or lambda x: net(x)[0]."
            )
        return Output(answer[0])
    raise InputError(
        f"the model should return a tensor of logits (b k), got {_described(answer)}. "
        "Take them out of its answer: lambda x: net(x.audio, x.visual)['scores']."
    )


def _part(answer: Any, name: str) -> Any:
    return answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)


def _features(given: Any) -> AV[Tensor] | None:
    if isinstance(given, Mapping):
        given = (given.get("audio"), given.get("visual"))
    pair = tuple(given) if isinstance(given, AV | Sequence) else ()
    return AV(*pair) if len(pair) == 2 and all(isinstance(f, Tensor) for f in pair) else None


def _described(answer: Any) -> str:
    """What was returned instead, in a few words."""
    if isinstance(answer, Mapping):
        return f"{type(answer).__name__} with {', '.join(map(str, list(answer)[:6])) or 'no keys'}"
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return f"{type(answer).__name__} of {', '.join(type(part).__name__ for part in answer[:6]) or 'nothing'}"
    return (
        f"{type(answer).__name__} {answer!r}"[:80] if isinstance(answer, str | int | float) else type(answer).__name__
    )
