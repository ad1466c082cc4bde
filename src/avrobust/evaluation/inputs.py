"""What the harness refuses at its door: signals that are not signals, and models that are not ready."""

import torch
from torch import Tensor, nn

from avrobust.types import RANGE, Batch, Model


class InputError(ValueError):
    """The clips or the model handed to the harness are not what it measures."""


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


def check_model(model: Model) -> None:
    """A model in training mode is not the model that is shipped: BatchNorm and dropout depend on the batch."""
    if isinstance(model, nn.Module) and model.training:
        raise InputError("the model is in training mode, so its output depends on its batch. Call model.eval() first.")


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
