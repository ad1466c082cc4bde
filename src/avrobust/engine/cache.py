"""What stays the same during a search, computed once: embeddings, and the gradient at the clean clips.

A stream that the threat leaves alone is computed once, however many steps follow.  The gradient at the clean clips is
computed once per stream, whatever attacks, budgets and subsets begin there.
"""

from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from avrobust.engine.gradients import value_and_grad
from avrobust.engine.outcome import ValueAndGrad
from avrobust.engine.victim import TwoStream, as_victim
from avrobust.models.fusion import Attention
from avrobust.threat import Threat
from avrobust.types import AV, Model, Objective, PerClip, Signals

M = TypeVar("M", bound=Model)


def fix_unattacked(model: Model, x: Signals, threat: Threat) -> Model:
    """`model` with the streams that `threat` leaves alone computed once, at the clean `x`."""
    model = as_victim(model)
    if not isinstance(model, TwoStream):
        return model
    clean = model.clean
    if clean is None:
        # Only what is needed: an empty feature stands for a stream that is not run.  A heat map is compared with the
        # clean one, which takes both.
        points = isinstance(model.net.fusion, Attention)
        spared = threat.map(lambda ball: torch.empty(0) if ball.active and not points else None)
        with torch.no_grad():
            clean = replace(model, known=spared).embed(x)
        model = replace(model, clean=clean if points else None)
    return replace(model, known=threat.map(lambda ball, f: None if ball.active else f, clean))


def cache_embeddings(model: M, x: Signals) -> M:
    """`model` with both embeddings of the clean `x` kept, for every attack on these clips to share."""
    if not isinstance(model, TwoStream):
        return model
    with torch.no_grad():
        return replace(model, clean=model.embed(x))


def fix_at(model: M, x: Signals) -> M:
    """`model` for the clips `x` alone: it knows what its streams make of them."""
    if not isinstance(model, TwoStream):
        return model
    with torch.no_grad():
        known: AV[Tensor | None] = AV(*model.embed(x))
    return replace(model, known=known)


def mix_modalities(sound: M, picture: Model) -> M:
    """`sound` with its visual stream as `picture` knows it: two results of `fix_at`, for the same clips with other signals."""
    if not (isinstance(sound, TwoStream) and isinstance(picture, TwoStream)):
        return sound
    known: AV[Tensor | None] = AV(audio=sound.known.audio, visual=picture.known.visual)
    return replace(sound, known=known)


def cache_clean_gradients(model: M, x: Signals, y: Tensor) -> M:
    """`model` with its gradients at the clean `x` kept too: as much memory as `x`, for each objective."""
    if not isinstance(model, TwoStream):
        return model
    cache = CleanGradientCache(x, y)
    return replace(model, clean_gradients=cache)


class CleanGradientCache:
    """Gradients at the clean clips, per objective and modality: each computed when it is first asked for.

    There, sound's gradient is the same whatever may be done to the picture: FGSM on both at once, with any budgets,
    needs no more than FGSM on sound and FGSM on picture have found.  Of a random feature defense, one draw serves them all.
    """

    def __init__(self, x: Signals, y: Tensor) -> None:
        self._x, self._y = x, y
        self._found: list[tuple[tuple[object, ...], tuple[PerClip, Tensor, Tensor]]] = []

    def holds(self, x: Signals, delta: Signals | None, y: Tensor, threat: Threat) -> bool:
        """Whether x + delta are the clean clips, with their labels, and anything may be done to them."""
        # A search that has left them has moved its first clip, as a rule: later steps pay for a look at that one.
        if delta is not None and any(bool(d[:1].any()) or bool(d.any()) for d in delta):
            return False
        return threat.subset != "clean" and all(map(torch.equal, (*x, y), (*self._x, self._y)))

    def __call__(
        self, model: TwoStream, objective: Objective, threat: Threat, ignored: set[str] | None
    ) -> ValueAndGrad:
        grads = {}
        for part in threat.subset:  # "A", "V"
            value, grads[part], won = self._of(part, model, objective, ignored)
        return value, AV("A", "V").map(lambda p, s: grads[p] if p in grads else torch.zeros_like(s), self._x), won

    def _of(
        self, part: str, model: TwoStream, objective: Objective, ignored: set[str] | None
    ) -> tuple[PerClip, Tensor, Tensor]:
        key = (part, objective, model.feature_defense, model.draws)
        for known, found in self._found:
            if known == key:
                return found
        threat = Threat.linf(audio=1.0, visual=1.0).only(part)
        alone = fix_unattacked(replace(model, clean_gradients=None), self._x, threat)
        value, grad, won = value_and_grad(alone, objective, self._x, self._y, self._y, threat, ignored=ignored)
        self._found.append((key, (value, grad.audio if part == "A" else grad.visual, won)))
        return self._found[-1][1]
