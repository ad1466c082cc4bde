"""Which victim a model is: told by what it can do, verified on an example, not by its class alone.

A network with `embed` and `decide` has two streams within reach, if these compute what calling it computes.  Of an `AVNet`
that overrides nothing the code says so.  Of any other the example says so, and what only structure can tell is checked
first: hooks on the network itself, which `embed` and `decide` would pass by, and weights of another precision than float32.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from avrobust.engine.blackbox import BlackBox
from avrobust.engine.chunks import NUMBERS_ON_CPU, ChunkSize
from avrobust.engine.deferred import Deferred
from avrobust.engine.draws import same_draws
from avrobust.engine.twostream import Embed, Known, TwoStream, encoder_by_encoder
from avrobust.engine.verified import verified
from avrobust.engine.victim import Victim
from avrobust.models.network import AVNet
from avrobust.models.own import OwnNet
from avrobust.types import AV, RANGE, Model, Signals

# What an `AVNet` computes, as it is taken apart.
STEPS = ("encoders", "embed", "represent", "fuse", "classify", "decide", "forward")
SAME = 1e-3  # answers that agree to this share of the largest are the same


def as_victim(model: Model, example: Signals) -> Victim:
    """`model` as a victim: `TwoStream` where its streams can be run one by one, else `BlackBox`.

    A victim is itself, and a deferred one what stands behind it.

    `example` is a clip or more, on which it is verified that `decide(feature_defense(embed(x)))` is what the model answers: once,
    until the model's weights, modules or settings, or the kind of clips, change.

    >>> x = AV(torch.zeros(1, 8), torch.zeros(1, 1, 3, 4, 4))
    >>> type(as_victim(lambda x: x.audio, x)).__name__
    'BlackBox'
    """
    if isinstance(model, Deferred):
        model = model.victim
    if isinstance(model, Victim):
        return model
    if why := _structure(model):
        return BlackBox(model, why=why if _has_steps(model) else "")
    # As many clips at a time as a CPU runs best; a GPU takes all.
    chunk_size = ChunkSize(NUMBERS_ON_CPU if example.audio.device.type == "cpu" else math.inf)
    if _as_written(model):
        return TwoStream(model, encoder_by_encoder, chunk_size=chunk_size, as_written=True)
    embeds = verified(model, example, lambda: _embeds(model, example), TwoStream)
    if isinstance(embeds, str):
        return BlackBox(model, why=embeds)
    return TwoStream(model, embeds, chunk_size=chunk_size)


def as_judge(model: Model, example: Signals) -> Victim:
    """`model` for the predictions that are reported: taken apart only where its code, not an example, says that this is exact.

    Encoders may be anybody's: those that see the other clips of a batch get the batches that were given.
    """
    victim = as_victim(model, example)
    if isinstance(model, Victim | Deferred):
        return victim
    exact = victim.any_batch and verified(model, example, lambda: _sees_one_clip(model, example), as_judge)
    return victim if exact else BlackBox(model)


@torch.no_grad()
def _sees_one_clip(net: Any, example: Signals) -> bool:
    """Whether an example and noise have the features that each has alone."""
    clips = with_noise(example.map(lambda s: s[:1]))
    apart = [clips.map(lambda s, i=i: s[i : i + 1]) for i in range(len(clips.audio))]
    together = _tried(lambda: list(net.embed(clips.map(torch.clone))), clips.audio.device)
    alone = _tried(lambda: [torch.cat(f) for f in zip(*(net.embed(x) for x in apart), strict=True)], clips.audio.device)
    return agree(together, alone)


def _has_steps(model: Any) -> bool:
    if isinstance(model, type) or not all(callable(getattr(model, step, None)) for step in ("embed", "decide")):
        return False
    return not isinstance(model, OwnNet) or model.two_streams  # which has the methods, whatever it holds


def _structure(model: Any) -> str:
    """Why a model cannot be taken apart, as far as structure alone can tell; "" if nothing stands in the way."""
    if not _has_steps(model):
        return "it has no methods embed and decide"
    if isinstance(model, nn.Module):
        if model._forward_hooks or model._forward_pre_hooks:
            return "embed and decide pass by the hooks of the model"
        if any(s.dtype != torch.float32 for s in model.state_dict().values() if s.is_floating_point()):
            return "its weights are not in float32"
    return ""


def _as_written(model: Any) -> bool:
    """Whether everything between signals and logits is `AVNet`'s own code."""
    return isinstance(model, AVNet) and all(
        getattr(type(model), step) is getattr(AVNet, step) and step not in vars(model) for step in STEPS
    )


def beside(clips: int | None, net: Any, x: Signals, known: Known) -> AV[Tensor]:
    """The streams that are not known, beside so many clips in the others (None: all), of which no gradient is taken."""
    if known.audio is not None and known.visual is not None:
        return AV(known.audio.clone(), known.visual.clone())
    found: AV[Tensor] = AV(*net.embed(x.map(lambda s, kept: s if kept is None else s[:clips].detach(), known)))
    return found.map(lambda f, kept: f if kept is None else kept.clone(), known)


# Ways to run a single stream of a network that has no `encoders`, the cheapest first; the last always works.
ALONE, BESIDE_ONE, BESIDE_ALL = partial(beside, 0), partial(beside, 1), partial(beside, None)


@torch.no_grad()
def _embeds(model: Any, example: Signals) -> Embed | str:
    """How to embed clips with a network whose code says nothing, the cheapest way first; in words, why it is not two streams."""
    if not len(example.audio):
        return "there is no clip to try it on"
    clips, tried = with_noise(example), partial(_tried, device=example.audio.device)
    defense = getattr(model, "feature_defense", None) or (lambda f: f)
    whole = tried(lambda: list(AV(*model.embed(clips.map(torch.clone)))))
    answer = tried(lambda: [BlackBox(model)(clips.map(torch.clone))])
    apart = tried(lambda: [BlackBox(lambda x: model.decide(defense(AV(*model.embed(x)))))(clips.map(torch.clone))])
    if whole is None or not agree(answer, apart):
        return "embed and decide do not give what the model returns"
    if any(f.dtype != torch.float32 for f in whole):
        return "its features are not in float32"
    # A stream that sees the other one changes when that is attacked: there is nothing to cache.
    other = clips.map(lambda s, bounds: sum(bounds) - s, RANGE)
    audio = tried(lambda: [AV(*model.embed(AV(clips.audio.clone(), other.visual))).audio])
    visual = tried(lambda: [AV(*model.embed(AV(other.audio, clips.visual.clone()))).visual])
    if not agree(whole[:1], audio) or not agree(whole[1:], visual):
        return "the features of one stream depend on the other's input"
    silent, blind = AV(torch.empty(0), None), AV(None, torch.empty(0))
    for embeds in (encoder_by_encoder, ALONE, BESIDE_ONE):
        alone = tried(lambda e=embeds: [e(model, clips, blind).audio, e(model, clips, silent).visual])  # type: ignore[misc]
        if agree(whole, alone):
            return embeds
    return BESIDE_ALL


def _tried(work: Callable[[], list[Tensor]], device: torch.device) -> list[Tensor] | None:
    """What `work` gives, with the same draws each time as far as they are torch's; None where it fails."""
    try:
        with same_draws(device):
            return work()
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a user's code may refuse in any way to be run in parts
        return None


def agree(a: Sequence[Tensor] | None, b: Sequence[Tensor] | None) -> bool:
    """Whether two lists of tensors are the same but for rounding, also where they are not finite; None agrees with nothing.

    >>> agree([torch.ones(2)], [torch.ones(2) + 1e-6]), agree([torch.ones(2)], None)
    (True, False)
    """
    if a is None or b is None or len(a) != len(b):
        return False
    return all(
        p.shape == q.shape and torch.allclose(p, q, rtol=SAME, atol=SAME * _largest(p), equal_nan=True)
        for p, q in zip(a, b, strict=True)
    )


def _largest(s: Tensor) -> float:
    """The largest absolute value that is finite; 0 where there is none."""
    return float(s.nan_to_num(0.0, 0.0, 0.0).abs().max()) if s.numel() else 0.0


def noise_like(example: Signals) -> Signals:
    """As many clips of noise, the same each time."""
    draw = torch.Generator().manual_seed(0)
    return example.map(lambda s, bounds: bounds[0] + (bounds[1] - bounds[0]) * torch.rand(s.shape, generator=draw).to(s), RANGE)  # fmt: skip


def with_noise(example: Signals) -> Signals:
    """The example, and one clip of noise after it: a silent clip hides much."""
    noise = noise_like(example.map(lambda s: s[:1]))
    return example.map(lambda s, n: torch.cat([s, n]), noise)
