"""What the harness refuses at its door: signals that are not signals, and models that are not ready."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avrobust.evaluation.training_mode import in_training
from avrobust.facts import Budget
from avrobust.threat import Threat
from avrobust.types import AV, RANGE, Batch, InputError, Signals

# Resamplers and decoders pass full scale by rounding; what lies further out was not rounded there.
FULL_SCALE = 1e-6


def check_batch(batch: Batch) -> None:
    """Signals of the right shape, finite, in their range, and a label for each; what labels say is a matter of the task.

    Raises `InputError` that says what was expected, what came, on which clip, and what to do.
    """
    for (name, signal), (low, high) in zip(batch.x.items(), RANGE, strict=True):
        form, fits = ("(b n)", signal.ndim == 2) if name == "audio" else ("(b t 3 h w)", _is_frames(signal))
        if not fits:
            raise InputError(
                f"{name} should be shaped {form}, got {tuple(signal.shape)}.{_reshape(name, tuple(signal.shape))}"
            )
        if signal.numel() == 0 and len(signal):
            raise InputError(
                f"{name} should hold something, got {tuple(signal.shape)}. For a model without {name}, give "
                f"{'silence: torch.zeros(b, 1)' if name == 'audio' else 'a grey frame: torch.full((b, 1, 3, 1, 1), 0.5)'}."
            )
        if signal.dtype not in (torch.float32, torch.float64):
            raise InputError(
                f"{name} should be float32 in [{low:g}, {high:g}], got {signal.dtype}. "
                + (
                    f"A budget is smaller than its rounding: give {name}.float(), and convert inside the model."
                    if signal.is_floating_point()
                    else "Divide 8-bit frames by 255, 16-bit samples by 32768, here and not in the model."
                )
            )
        if len(signal) != len(batch.label) or len(batch.ids) != len(batch.label):
            raise InputError(
                f"expected as many {name} clips and ids as labels, got {len(signal)} clips, {len(batch.ids)} ids, {len(batch.label)} labels."
            )
        bad = ~signal.isfinite().flatten(1).all(1)
        if bad.any():
            raise InputError(
                f"{name} of clip '{first_of(batch, bad)}' is not finite ({int(bad.sum())} of {len(batch)} clips). Check how it was decoded."
            )
        outside = ((signal < low - FULL_SCALE) | (signal > high + FULL_SCALE)).flatten(1).any(1)
        if outside.any():
            raise InputError(
                f"{name} should lie in [{low:g}, {high:g}], got [{float(signal.min()):.7g}, {float(signal.max()):.7g}], first on clip '{first_of(batch, outside)}'. "
                "Pass signals before normalisation; normalising belongs inside the model."
            )
    check_ids(batch.ids)


def check_ids(ids: Sequence[str]) -> None:
    """Each clip once."""
    if len(set(ids)) != len(ids):
        twice = next(id for id, times in Counter(ids).items() if times > 1)
        raise InputError(f"clip id '{twice}' stands twice. Ids name clips: results and randomness are tied to them.")


def _odd(logits: Tensor) -> str:
    """Which of nan, inf and -inf are among them."""
    found = {"nan": logits.isnan(), "inf": logits.isposinf(), "-inf": logits.isneginf()}
    return " and ".join(name for name, where in found.items() if where.any())


def _is_rgb(shape: tuple[int, ...]) -> bool:
    return len(shape) >= 4 and 3 in (shape[1], shape[2], shape[-1])


def _is_frames(signal: Tensor) -> bool:
    return signal.ndim == 5 and signal.shape[2] == 3


def _reshape(name: str, shape: tuple[int, ...]) -> str:
    """The line of code that is missing, where the shape says which; the model sees what the harness sees."""
    if name == "audio":
        if _is_rgb(shape):
            return " These are frames: audio comes first, Batch(AV(wave, frames), labels)."
        if len(shape) == 3 and shape[1] == 1:
            return " Give wave[:, 0], and add the axis inside the model: net(x.audio[:, None])."
        return " Give one clip as wave[None]." if len(shape) == 1 else " Mix to mono first: wave.mean(1)."
    if len(shape) in (4, 5) and shape[-1] == 3:
        axis = "" if len(shape) == 5 else ".unsqueeze(1)"
        return f" Channels are last: give frames{axis}.movedim(-1, 2), and undo it inside the model."
    if len(shape) == 5 and shape[1] == 3:
        return " Give frames.transpose(1, 2), and undo it inside the model."
    if len(shape) == 4 and shape[1] == 3:
        return " A single frame per clip still has a time axis: frames[:, None]; take x.visual[:, 0] inside the model."
    return " Give RGB frames with a time axis."


def own_copy(batch: Batch) -> Batch:
    """The same clips in memory of their own, full scale cut to what it is where rounding passed it."""
    x = AV(*(s.detach().clone().clamp_(*bounds) for s, bounds in zip(batch.x, RANGE, strict=True)))
    return Batch(x, batch.label.clone(), batch.ids)


# Of each clip its name, its label, and two numbers that depend on every bit of its samples and of its pixels, and on its place.
Fingerprints = list[tuple[str, Any, int, int]]


def fingerprints(batch: Batch) -> Fingerprints:
    """What tells whether a later pass gives the same clips."""
    return list(zip(batch.ids, batch.label.tolist(), *(_bits(s).tolist() for s in batch.x), strict=True))


def _bits(s: Tensor) -> Tensor:
    """Per clip, its values read as whole numbers, in a sum weighted by place: exact, in any order of summation, on any device."""
    whole = s.contiguous().view(torch.int32 if s.dtype == torch.float32 else torch.int64).flatten(1)
    draws = torch.Generator().manual_seed(0)

    def weighted(part: Tensor) -> Tensor:
        # Random: weights that grow evenly give the frames of a moving object the same sum backwards.  Odd: no bit is lost.
        weights = torch.empty(part.shape[1], dtype=torch.int64).random_(generator=draws) | 1
        return (part * weights.to(part.device)).sum(1)

    # Part by part: a product in another type copies what it multiplies.
    return torch.stack([weighted(part) for part in whole.chunk(16, 1)]).sum(0)


def check_again(now: Fingerprints, before: Fingerprints, at: int) -> None:
    """Clips from number `at` on, as they are `now` and as they were in the first pass over all batches."""
    for number, (new, old) in enumerate(zip_longest(now, before), start=at):
        if new != old:
            raise InputError(
                f"batches should be the same in each pass over them, got as clip {number} first {_words(old)}, then {_words(new, old)}. "
                "Neither shuffle nor crop at random here, or give a list of batches."
            )


def _words(clip: tuple[str, Any, int, int] | None, before: tuple[str, Any, int, int] | None = None) -> str:
    if clip is None:
        return "none"
    changed = [
        part for part, new, old in zip(("samples", "pixels"), clip[2:], (before or clip)[2:], strict=True) if new != old
    ]
    return f"'{clip[0]}' labelled {clip[1]}" + (f" with other {' and '.join(changed)}" if changed else "")


def check_fits(threat: Threat, batch: Batch) -> None:
    """An L2 budget below the distance between two ends of the signals' range: a larger one bounds nothing."""
    for (name, ball), signal in zip(threat.items(), batch.x, strict=True):
        if not ball.active or ball.norm != "l2" or ball.unit == "snr" or not len(signal):
            continue
        corners = torch.full_like(signal[:1], ball.high), torch.full_like(signal[:1], ball.low)
        if ball.eps > (widest := float(ball.distance(*corners)[0])):
            raise InputError(
                f"an L2 budget should lie inside the range of the signals, got {ball.eps:.4g} for {name} of "
                f"{signal[0].numel()} values, of which no two clips are further apart than {widest:.4g}. "
                "Give a smaller one, or a ratio: Threat.l2(audio='40 dB SNR')."
            )


def check_told_apart(conditions: Sequence[tuple[str, Budget]]) -> None:
    """Each attack and budget once: a table could not tell two of one name apart."""
    twice = [condition for condition, times in Counter(conditions).items() if times > 1]
    if twice:
        (name, budget), times = twice[0], conditions.count(twice[0])
        raise InputError(
            f"attacks and threats should differ by name, got {name} within {budget} {times} times, and a table could not "
            "tell them apart. Evaluate them in calls of their own, or wrap one in a function of another name."
        )


def check_mode(model: object, what: str = "the model") -> None:
    """A model in training mode is not the model that is shipped: BatchNorm and dropout depend on the batch.

    Looks through lambdas, bound methods and partials.  A part whose code does not ask for its mode may be in any.
    """
    for name, module in in_training(model):
        where = f"{what}'s {type(module).__name__} '{name}' is" if name else f"{what} ({type(module).__name__}) is"
        raise InputError(
            f"{where} in training mode, so its output depends on its batch or on chance. "
            "Call model.eval() when the model is whole."
        )


def check_kept(own: Signals, lent: Signals, ids: Sequence[str], culprit: str) -> None:
    """Clips that were `lent` out come back as they were: what writes into them would change what it is compared with."""
    for (name, mine), theirs in zip(own.items(), lent, strict=True):
        if not torch.equal(mine, theirs):
            changed = (mine != theirs).flatten(1).any(1)
            raise InputError(
                f"{culprit} wrote into the {name} that it was given, first on clip '{ids[int(changed.nonzero()[0])]}'. "
                f"Signals are not its own: clone them first, x.{name}.clone(), or compute without in-place operations."
            )


def check_shape(logits: object, clips: int) -> Tensor:
    """Real logits shaped (b k)."""
    if not isinstance(logits, Tensor):
        raise InputError(
            f"the model should return a tensor of logits, got {type(logits).__name__}. Wrap it: lambda x: net(x.audio, x.visual).logits."
        )
    if logits.ndim != 2 or len(logits) != clips:
        hint = " Give one row for each clip, one column for each class."
        if logits.ndim == 1 and not logits.is_floating_point():
            hint = " Give the logits themselves, not the class numbers of their argmax."
        elif clips == 1:
            hint = " Does it squeeze a batch of one clip? Name the axis: z.squeeze(2), z.flatten(1)."
        raise InputError(f"the model should return logits shaped ({clips}, classes), got {tuple(logits.shape)}.{hint}")
    if logits.is_complex():
        raise InputError(f"the model should return real logits, got {logits.dtype}. Take their size: z.abs().")
    return logits


def check_answer_finite(logits: Tensor, batch: Batch) -> None:
    """Numbers that are finite."""
    if not logits.isfinite().all():
        bad = ~logits.isfinite().all(1)
        raise InputError(
            f"the model returned logits that are not finite on clip '{first_of(batch, bad)}' ({int(bad.sum())} of {len(batch)} "
            f"clips): {_odd(logits)}. Look for log, sqrt or a division at 0 (silence), and for the range of half precision; mask "
            "classes with a large negative number, -1e4, instead of -inf."
        )


def check_logits(logits: Tensor, batch: Batch) -> None:
    """Logits of classes: finite, of two classes at least, no probabilities, enough classes for the labels."""
    check_answer_finite(logits, batch)
    classes = logits.shape[1]
    if classes < 2:
        raise InputError(
            f"the model should tell at least 2 classes apart, got logits of {classes}. Of a single logit z for class 1 against "
            "class 0, give both: torch.cat([torch.zeros_like(z), z], 1)."
        )
    if len(batch) and (int(batch.label.max()) >= classes or int(batch.label.min()) < 0):
        raise InputError(
            f"labels should lie in 0…{classes - 1}, as the model has {classes} classes, got {int(batch.label.min())}…{int(batch.label.max())}."
        )
    sums = logits.float().sum(1)
    if len(batch) and bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        raise InputError(
            "the model returns probabilities (each row is positive and sums to 1). Return logits: softmax saturates, and gradients through it vanish."
        )


def check_probabilities(logits: Tensor) -> None:
    """Answers to yes-or-no questions that lie in [0, 1], each of them, are probabilities."""
    if logits.numel() > 1 and bool(((logits >= 0) & (logits <= 1)).all()):
        raise InputError(
            "the model returns probabilities (every answer lies between 0 and 1). Return logits: the sigmoid saturates, and "
            "gradients through it vanish."
        )


def check_classes(first: Tensor, logits: Tensor, batch: Batch) -> None:
    """One model has one number of classes."""
    if logits.shape[1] != first.shape[1]:
        raise InputError(
            f"the model should tell the same classes apart on all clips, got logits of {first.shape[1]} classes on the first "
            f"batch and of {logits.shape[1]} on that of clip '{batch.ids[0]}'. Give logits of all classes, in one order."
        )


def first_of(batch: Batch, mask: Tensor) -> str:
    """The name of the first clip of a mask."""
    return batch.ids[int(mask.nonzero()[0])]


def check_values(given: Tensor, name: str) -> None:
    """A tensor that holds something."""
    if given.is_meta:
        raise InputError(
            f"{name} should hold values, got a tensor on the device 'meta', which has a shape only. Load the clips on 'cpu'."
        )


def described(thing: object) -> str:
    """A short name of what was given instead."""
    if isinstance(thing, Mapping):
        return f"{type(thing).__name__} with {', '.join(map(str, list(thing)[:6])) or 'no keys'}"
    if isinstance(thing, Tensor | np.ndarray):
        return f"{type(thing).__name__} shaped {tuple(thing.shape)}"
    if isinstance(thing, Sequence) and not isinstance(thing, str):
        return f"{type(thing).__name__} of {', '.join(type(part).__name__ for part in thing[:6]) or 'nothing'}"
    return f"{type(thing).__name__} {thing!r}"[:80] if isinstance(thing, str | int | float) else type(thing).__name__
