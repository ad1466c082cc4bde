"""What attacks lose in low precision: strength."""

from typing import Any

import torch

from avrobust import engine
from avrobust.attacks import PGD
from avrobust.evaluation.prepared import PreparedBatch
from avrobust.evaluation.tasks import Gallery
from avrobust.objectives import needs_of
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Model

CLIPS = 8  # that are attacked in both precisions
ANYWHERE = Threat.linf(audio=1.0, visual=1.0)


def is_low(victim: engine.Victim) -> bool:
    """Whether gradients of this surrogate are taken in less than float32."""
    return victim.precision != torch.float32


def fallbacks(victim: engine.Victim, precision: str = "auto") -> dict[str, Any]:
    """How a model is attacked otherwise than it or the user asks for, in plain data: `victim` is what gradients are taken of."""
    instead = precision == "bfloat16" and not is_low(victim)
    return ({"black_box": victim.why} if victim.why else {}) | ({"float32_instead": True} if instead else {})


def compare(model: Model, clips: PreparedBatch, threat: Threat, gallery: Gallery, seed: int = 0) -> dict[str, Any]:
    """The same attack crafted in the precision of the surrogate of `clips` and in float32, judged by `model` itself; plain data.

    Of `clips` clips, `standing` survive the first and `standing_float32` the second.  `gained`: the margin (or what attacks of the task raise)
    that the first gains, as a share of the second's gain; 1 where that is 0.
    """
    clips = clips.subset(torch.arange(min(CLIPS, len(clips))))
    low, batch, goal = clips.surrogate, clips.batch, clips.task.raised or clips.task.objective
    x, y = batch.x, batch.label
    full = engine.surrogate(model, x.map(lambda s: s[:1]))
    judge = engine.as_judge(model, x).fix_unattacked(x, ANYWHERE, needs_of(goal))
    reached, standing = [], []
    with torch.no_grad():
        before = goal.value(judge.output(x, needs_of(goal)), y)
        for craft in (low.cache_embeddings(x), full.cache_embeddings(x)):
            made = PGD(steps=10, objective=goal)(craft, x, y, threat, Seeds(seed, batch.ids))
            reached.append(goal.value(judge.output(made, needs_of(goal)), y))
            standing.append(sum(clips.columns(judge, made, gallery)["correct"]))
    rises = [float((after - before).mean()) for after in reached]
    return {
        "precision": str(low.precision).removeprefix("torch."),
        "clips": len(batch),
        "standing": standing[0],
        "standing_float32": standing[1],
        "gained": rises[0] / rises[1] if rises[1] > 0 else 1.0,
    }
