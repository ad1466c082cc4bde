"""Which modality a joint attack owes its success to: each perturbation alone, and the gradient."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avrobust import engine
from avrobust.evaluation.prepared import PreparedBatch
from avrobust.evaluation.tasks import Gallery
from avrobust.objectives import Objective, needs_of
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Batch, Model, Signals, doubles


@torch.no_grad()
def halves(
    clips: PreparedBatch, fooled: engine.Victim, adversarial: Signals, gallery: Gallery
) -> dict[str, list[float]]:
    """Whether the prediction is correct with the perturbation of one modality alone, the other clean: 1 or 0.

    The judge of `clips` and `fooled` are the model that holds the embeddings of the clean clips, and of `adversarial`: see
    `engine.Victim.fix_at`.
    """
    clean, x = clips.judge, clips.batch.x
    mixed = {
        "audio": (fooled.mix_modalities(clean), AV(audio=adversarial.audio, visual=x.visual)),
        "visual": (clean.mix_modalities(fooled), AV(audio=x.audio, visual=adversarial.visual)),
    }
    return {
        f"right_{name}_half": [float(right) for right in clips.columns(*half, gallery)["correct"]]
        for name, half in mixed.items()
    }


class Slopes:
    """What each modality's budget could add to an objective, to first order, at the clean clips.

    One gradient per batch and kind of budget: gains are proportional to the budget, so all sizes share it.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._per_unit: dict[tuple[object, ...], AV[NDArray[np.float64]]] = {}

    def audio_share(self, number: int, model: Model, batch: Batch, threat: Threat) -> list[float]:
        """The audio budget's share of the gain of both, in [0, 1], for each clip of batch `number`.

        nan where the model has no gradient there, as of a distance from the clean clip.
        """
        if "clean" in needs_of(self._objective):
            return [float("nan")] * len(batch)
        unit = Threat(*threat.map(lambda ball: replace(ball, eps=1.0)))
        key = (number, *unit.map(lambda ball: (ball.norm, ball.scale)))
        if key not in self._per_unit:
            self._per_unit[key] = _gains(model, self._objective, batch, unit)
        gain = threat.map(lambda ball, g: ball.eps * g, self._per_unit[key])
        with np.errstate(invalid="ignore"):
            shares: list[float] = (gain.audio / (gain.audio + gain.visual)).tolist()
        return shares


def _gains(model: Model, objective: Objective, batch: Batch, threat: Threat) -> AV[NDArray[np.float64]]:
    def gain(ball: Ball, g: Tensor, s: Tensor) -> NDArray[np.float64]:
        move = ball.ascent(g, s)
        move = ball.project(move, s) if ball.masks else move
        return doubles((g * move).flatten(1).sum(1))

    return threat.map(gain, engine.raw_gradient(model, objective, batch.x, batch.label, threat), batch.x)
