"""Which modality a joint attack owes its success to: each perturbation alone, and the gradient."""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from avrobust import engine
from avrobust.objectives import correct, margin
from avrobust.threat import Threat
from avrobust.types import AV, Batch, Model, Signals, doubles


@torch.no_grad()
def halves(clean: engine.Victim, fooled: engine.Victim, batch: Batch, adversarial: Signals) -> dict[str, list[float]]:
    """Whether the prediction is correct with the perturbation of one modality alone, the other clean: 1 or 0.

    `clean` and `fooled` are the model that holds the embeddings of the clips of `batch`, and of `adversarial`: see
    `engine.Victim.fix_at`.
    """
    audio = fooled.mix_modalities(clean)(AV(audio=adversarial.audio, visual=batch.x.visual))
    visual = clean.mix_modalities(fooled)(AV(audio=batch.x.audio, visual=adversarial.visual))
    return {
        f"right_{name}_half": correct(logits, batch.label).float().tolist()
        for name, logits in (("audio", audio), ("visual", visual))
    }


class Slopes:
    """What each modality's budget could add to the margin, to first order, at the clean clips.

    One gradient per batch and kind of budget: gains are proportional to the budget, so all sizes share it.
    """

    def __init__(self) -> None:
        self._per_unit: dict[tuple[object, ...], AV[NDArray[np.float64]]] = {}

    def audio_share(self, number: int, model: Model, batch: Batch, threat: Threat) -> list[float]:
        """The audio budget's share of the gain of both, in [0, 1], for each clip of batch `number`.

        nan where the model has no gradient there.
        """
        unit = Threat(*threat.map(lambda ball: replace(ball, eps=1.0)))
        key = (number, *unit.map(lambda ball: (ball.norm, ball.scale)))
        if key not in self._per_unit:
            self._per_unit[key] = _gains(model, batch, unit)
        gain = threat.map(lambda ball, g: ball.eps * g, self._per_unit[key])
        with np.errstate(invalid="ignore"):
            shares: list[float] = (gain.audio / (gain.audio + gain.visual)).tolist()
        return shares


def _gains(model: Model, batch: Batch, threat: Threat) -> AV[NDArray[np.float64]]:
    grads = engine.raw_gradient(model, margin, batch.x, batch.label, threat)
    moves = threat.map(lambda ball, g, s: ball.ascent(g, s), grads, batch.x)
    return grads.map(lambda g, move: doubles((g * move).flatten(1).sum(1)), moves)
