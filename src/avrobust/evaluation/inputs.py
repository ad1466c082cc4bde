"""What the harness refuses at its door: signals that are not signals, and models that are not ready."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest

import torch
from torch import Tensor, nn

from avrobust.types import RANGE, Batch, InputError, Model, doubles

# Layers that are another function in training mode.
IN_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd, nn.RReLU)


def check_batch(batch: Batch) -> None:
    """Signals of the right shape, finite, in their range, and a label for each.

    Raises `InputError` that says what was expected, what came, on which clip, and what to do.
    """
    shapes = {"audio": ("(b n)", 2), "visual": ("(b t 3 h w)", 5)}
    for (name, signal), (low, high) in zip(batch.x.items(), RANGE, strict=True):
        words, ndim = shapes[name]
        if signal.ndim != ndim or (name == "visual" and signal.shape[2] != 3):
            hint = (
                " A single frame per clip still has a time axis: frames[:, None]."
                if name == "visual"
                else " Mix to mono first."
            )
            raise InputError(f"{name} should be shaped {words}, got {tuple(signal.shape)}.{hint}")
        if not signal.is_floating_point():
            raise InputError(
                f"{name} should be floating point in [{low:g}, {high:g}], got {signal.dtype}. Divide 8-bit frames by 255, 16-bit samples by 32768."
            )
        if len(signal) != len(batch.label) or len(batch.ids) != len(batch.label):
            raise InputError(
                f"expected as many {name} clips and ids as labels, got {len(signal)} clips, {len(batch.ids)} ids, {len(batch.label)} labels."
            )
        bad = ~signal.isfinite().flatten(1).all(1)
        if bad.any():
            raise InputError(
                f"{name} of clip '{_first(batch, bad)}' is not finite ({int(bad.sum())} of {len(batch)} clips). Check how it was decoded."
            )
        if len(batch) and (signal.min() < low or signal.max() > high):
            outside = ((signal < low) | (signal > high)).flatten(1).any(1)
            raise InputError(
                f"{name} should lie in [{low:g}, {high:g}], got [{float(signal.min()):.4g}, {float(signal.max()):.4g}], first on clip '{_first(batch, outside)}'. "
                "Pass signals before normalisation; normalising belongs inside the model."
            )
    if batch.label.ndim != 1 or batch.label.is_floating_point():
        raise InputError(
            f"labels should be class numbers shaped (b), got {batch.label.dtype} shaped {tuple(batch.label.shape)}."
        )
    if len(set(batch.ids)) != len(batch.ids):
        twice = next(i for i in batch.ids if batch.ids.count(i) > 1)
        raise InputError(
            f"clip id '{twice}' stands twice in a batch. Ids name clips: results and randomness are tied to them."
        )


# Of each clip its name, its label, and what its samples and its pixels add up to.
Fingerprints = list[tuple[str, int, float, float]]


def fingerprints(batch: Batch) -> Fingerprints:
    """What tells whether a later pass gives the same clips."""
    sums = [[float(doubles(clip).sum()) for clip in s] for s in batch.x]
    return list(zip(batch.ids, batch.label.tolist(), *sums, strict=True))


def check_again(now: Fingerprints, before: Fingerprints, at: int) -> None:
    """Clips from number `at` on, as they are `now` and as they were in the first pass over all batches."""
    for number, (new, old) in enumerate(zip_longest(now, before), start=at):
        if new != old:
            raise InputError(
                f"batches should be the same in each pass over them, got as clip {number} first {_words(old)}, then {_words(new)}. "
                "Neither shuffle nor crop at random here, or give a list of batches."
            )


def _words(clip: tuple[str, int, float, float] | None) -> str:
    if clip is None:
        return "none"
    return f"'{clip[0]}' of class {clip[1]} (its samples add up to {clip[2]:.6g}, its pixels to {clip[3]:.6g})"


def check_told_apart(names: Sequence[str]) -> None:
    """Each attack and threat once: a table could not tell two of one name apart."""
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(
            f"attacks and threats should differ by name, got {twice[0]} {names.count(twice[0])} times, and a table could not "
            "tell them apart. Evaluate them in calls of their own, or wrap one in a function of another name."
        )


def check_model(model: Model) -> None:
    """A model in training mode is not the model that is shipped: BatchNorm and dropout depend on the batch.

    A part of it that has no such layers may be in any mode.
    """
    if not isinstance(model, nn.Module):
        return
    if model.training:
        raise InputError("the model is in training mode, so its output depends on its batch. Call model.eval() first.")
    for name, module in model.named_modules():
        if module.training and isinstance(module, IN_TRAINING):
            raise InputError(
                f"the model's {type(module).__name__} '{name}' is in training mode, so its output depends on its batch or "
                "on chance. Call model.eval() when the model is whole."
            )


def check_logits(logits: object, batch: Batch) -> Tensor:
    """Logits shaped (b k), finite, not probabilities, and enough classes for the labels."""
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the model should return a tensor of logits, got {type(logits).__name__}. Wrap it: lambda x: net(x.audio, x.visual).logits."
        )
    if logits.ndim != 2 or len(logits) != len(batch):
        raise InputError(f"the model should return logits shaped ({len(batch)}, classes), got {tuple(logits.shape)}.")
    if not logits.isfinite().all():
        bad = ~logits.isfinite().all(1)
        raise InputError(
            f"the model returned logits that are not finite on clip '{_first(batch, bad)}' ({int(bad.sum())} of {len(batch)} clips)."
        )
    classes = logits.shape[1]
    if classes < 2:
        raise InputError(f"the model should tell at least 2 classes apart, got logits of {classes}.")
    if len(batch) and (int(batch.label.max()) >= classes or int(batch.label.min()) < 0):
        raise InputError(
            f"labels should lie in 0…{classes - 1}, as the model has {classes} classes, got {int(batch.label.min())}…{int(batch.label.max())}."
        )
    sums = logits.float().sum(1)
    if len(batch) and bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise InputError(
            "the model returns probabilities (each row is positive and sums to 1). Return logits: softmax saturates, and gradients through it vanish."
        )
    return logits


def _first(batch: Batch, mask: Tensor) -> str:
    return batch.ids[int(mask.nonzero()[0])]
