"""What attacks lose in low precision: steps that are too small for its numbers, and strength."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks import PGD
from avrobust.objectives import margin, margins
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import Batch, Model, doubles

CLIPS = 16  # that are attacked in both precisions
SEARCH = PGD(steps=10, objective=margin)


def is_low(victim: engine.Victim) -> bool:
    """Whether gradients of this surrogate are taken in less than float32."""
    return victim.precision != torch.float32


def compare(model: Model, low: engine.Victim, batch: Batch, threat: Threat, seed: int = 0) -> dict[str, Any]:
    """The same attack crafted in the precision of `low` and in float32, judged by `model` itself; plain data.

    Of `clips` clips, `standing` survive the first and `standing_float32` the second.  `gained`: the margin that the first
    gains, as a share of the second's gain; 1 where that is 0.  `room`: per modality, how many numbers of the low precision
    lie within the budget, at the median of the signal's values.
    """
    batch = batch.subset(range(min(CLIPS, len(batch))))
    x, y = batch.x, batch.label
    full = engine.surrogate(model, x.map(lambda s: s[:1]))
    reached = []
    with torch.no_grad():
        judge = engine.as_judge(model, x)
        before = margins(judge(x).float(), y)
        for craft in (
            low.subset(slice(len(batch))).cache_embeddings(x),
            full.cache_embeddings(x),
        ):
            reached.append(margins(judge(SEARCH(craft, x, y, threat, Seeds(seed, batch.ids))).float(), y))
    rises = [float((after - before).mean()) for after in reached]
    standing, standing_full = (int((after <= 0).sum()) for after in reached)
    return {
        "precision": str(low.precision).removeprefix("torch."),
        "clips": len(batch),
        "standing": standing,
        "standing_float32": standing_full,
        "gained": rises[0] / rises[1] if rises[1] > 0 else 1.0,
        "room": {name: _room(getattr(threat, name), s, low.precision) for name, s in x.items() if getattr(threat, name).active},
    }  # fmt: skip


def _room(ball: Ball, s: Tensor, dtype: torch.dtype) -> float:
    """The budget of a single value, in steps from one number of `dtype` to the next."""
    budget = float(doubles(ball.weight(s)).mean()) * ball.eps
    if ball.norm == "l2":
        budget /= math.sqrt(s[0].numel())
    middle = float(np.median(np.abs(doubles(s))))
    return budget / (torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(max(middle, 1e-30))))
