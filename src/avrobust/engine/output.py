"""The one place that turns what a model returns into an `Output`."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from avrobust.types import AV, InputError, Output

# Under these names, models that compare clips with texts or with each other answer (b k) for k of the others.
COMPARED = (
    "logits_per_audio", "logits_per_image", "logits_per_video", "logits_audio_text", "logits_video_text",
    "logits_audio_video_text", "logits_audio_video",
)  # fmt: skip
IF_COMPARED = (
    "If it compared the clips with one prompt per class, say so: {}. avr.models.published has zero_shot for CLAP with CLIP "
    "and pe_av, which embed the prompts once."
)
# What encoders without a classifier answer.
ENCODED = ("pooler_output", "last_hidden_state", "audio_video_embeds", "audio_embeds", "image_embeds", "video_embeds")
IF_ENCODED = (
    "It encodes clips and classifies nothing: avr.models.pair puts a classifier on two encoders. To attack the embedding "
    "itself, return it: {}."
)


def as_output(answer: Any) -> Output:
    """What a model returned, as an `Output`.

    A tensor is logits.  A dict or an object, such as a `ModelOutput` of `transformers`, has them under `logits`, and may have
    `features`, `suspicion`, `segments` and `alone` (an `AV`, a pair, or a dict of audio and visual) and `heat`.  A tuple or list has them first.  An `AV`
    holds two embeddings (b d) of a model that gives nothing else: they are its features, and together its logits.  Raises
    `InputError` for anything else: also where a model compares clips with texts, or encodes them, because only you know which
    numbers are one per class.

    >>> as_output({"logits": torch.zeros(2, 3), "loss": None}).logits.shape
    torch.Size([2, 3])
    """
    if isinstance(answer, Output):
        return answer
    if isinstance(answer, Tensor):
        return Output(answer)
    if isinstance(answer, AV) and all(isinstance(f, Tensor) and f.ndim == 2 for f in answer):  # of a model that embeds
        return Output(torch.cat([*answer], 1), answer)
    if isinstance(logits := _part(answer, "logits"), Tensor):
        heat = _part(answer, "heat")
        pairs = (_pair(_part(answer, name)) for name in ("features", "suspicion", "segments", "alone"))
        features, suspicion, segments, alone = pairs
        return Output(logits, features, heat if isinstance(heat, Tensor) else None, None, suspicion, segments, alone)
    if isinstance(answer, Sequence) and len(answer) and isinstance(answer[0], Tensor):
        if not answer[0].ndim:
            raise InputError(
                f"the model should return logits first, got {_described(answer)}, the first a single number. If that is the "
                "loss, leave it out: lambda x: net(x)[1]."
            )
        columns = [part.shape[1] for part in answer if isinstance(part, Tensor) and part.ndim == 2]
        if answer[0].ndim == 2 and answer[0].shape[1] > min(columns):  # the first are probably features
            raise InputError(
                f"the model should return logits first, got {_described(answer)} with {columns} columns, of which the first are "
                "not the fewest. Say which are the logits: lambda x: net(x)[1], or lambda x: net(x)[0]."
            )
        return Output(answer[0])
    raise InputError(f"the model should return a tensor of logits (b k), got {_described(answer)}. {_advice(answer)}")


def _part(answer: Any, name: str) -> Any:
    return answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)


def _pair(given: Any) -> AV[Tensor] | None:
    if isinstance(given, Mapping):
        given = (given.get("audio"), given.get("visual"))
    pair = tuple(given) if isinstance(given, AV | Sequence) else ()
    return AV(*pair) if len(pair) == 2 and all(isinstance(f, Tensor) for f in pair) else None


def _advice(answer: Any) -> str:
    """What to write, by the names that are there."""
    for names, advice in ((COMPARED, IF_COMPARED), (ENCODED, IF_ENCODED)):
        if name := next((name for name in names if isinstance(_part(answer, name), Tensor)), None):
            return advice.format(f"lambda x: net(x).{name}" if hasattr(answer, name) else f"lambda x: net(x)['{name}']")
    return "Take them out of its answer: lambda x: net(x.audio, x.visual)['scores']."


def _described(answer: Any) -> str:
    """What was returned instead, in a few words."""
    if isinstance(answer, Mapping):
        return f"{type(answer).__name__} with {', '.join(map(str, list(answer)[:6])) or 'no keys'}"
    if isinstance(answer, Sequence) and not isinstance(answer, str):
        return f"{type(answer).__name__} of {', '.join(type(part).__name__ for part in answer[:6]) or 'nothing'}"
    return (
        f"{type(answer).__name__} {answer!r}"[:80] if isinstance(answer, str | int | float) else type(answer).__name__
    )
