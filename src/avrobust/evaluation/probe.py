"""Probes of a model: what rows of predictions cannot show about randomness, batches, gradients and ignored modalities."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avrobust import engine
from avrobust.evaluation.tasks import Classification, Task
from avrobust.objectives import Loss, Objective
from avrobust.threat import Ball, Threat
from avrobust.types import AV, RANGE, Batch, Model, Output, Signals, doubles

CLASSIFICATION = Classification()
CLIPS = 64  # that are probed: enough for shares of a few per cent
TRIED = 16  # clips that are asked again, alone, and moved a little: most models are random on all clips or on none
AGAIN = 5  # runs on the same clips: a model that is rarely random should be caught
SAME = 1e-3  # relative difference below which logits are the same
FAINT = 1e-6  # of the margin's gradient: where cross entropy has less, float32 has nothing left
STEPS = (1e-3, 1e-2)  # by how much clips are moved: the first where rounding allows it; 0.01 is 2.6 of 255 grey levels
DIRECTIONS = 2  # of each clip and step
LINEAR = 0.25  # of a difference: with a larger second difference, curvature or rounding decides it


def probe(model: Model, batch: Batch, task: Task = CLASSIFICATION, at_once: int = CLIPS) -> dict[str, Any]:
    """Probe `model` on at most `CLIPS` clips of the batch, `at_once` at a time; plain data, shares of these `clips` in [0, 1].

    `random`: the logits differ between two runs.  `sociable`: they differ when the clip is alone in its batch.  Both are looked
    for on `TRIED` clips, and counted on all where one of these does it.  `faint`: the gradient of cross entropy is zero or lost in
    rounding, while that of the margin is not; not known of tasks without a cross entropy.  `flat`: the gradient of the margin (of
    the answer, in other tasks) is zero too, or not finite; these two per modality.  `ignores`: no logit changes when a modality is
    replaced by another clip's, of another class if there is one.  `moved`: the number of clips whose prediction then changes.
    `explained`: see `explained`; None where `random`.
    `hidden`, of a model that says which modality it takes for attacked: what it suspects of the modality has no gradient.

    >>> model = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)).round()], 1)
    >>> found = probe(model, Batch(AV(torch.zeros(2, 8), torch.rand(2, 1, 3, 4, 4)), torch.tensor([0, 1])))
    >>> found["random"], found["sociable"], found["flat"]
    (0.0, 0.0, {'audio': 0.0, 'visual': 1.0})
    """
    x, y = batch.x.map(lambda s: s[:CLIPS]), batch.label[:CLIPS]
    judge = engine.as_judge(model, x.map(lambda s: s[:1]))
    if not judge.any_batch:
        judge = engine.FewAtOnce(judge, at_once)

    def asked(x: Signals, victim: engine.Victim = judge) -> Tensor:
        return task.answer(victim.output(x, task.needs), len(x.audio))

    def in_another_run(x: Signals) -> NDArray[np.bool_]:
        first = asked(x)
        differ: NDArray[np.bool_] = np.any([_differ(first, asked(x)) for _ in range(AGAIN)], axis=0)
        return differ

    def alone(x: Signals) -> NDArray[np.bool_]:
        return _differ(asked(x), torch.cat([asked(x.map(lambda s, i=i: s[i : i + 1])) for i in range(len(x.audio))]))

    with torch.no_grad():
        random = _share_of(x, in_another_run)
        # A random model differs alone as well; that says nothing about its batch.
        sociable = 0.0 if random else _share_of(x, alone)
        here, partners = judge.fix_at(x), _partners(y)  # each stream of a clip runs once, whatever it is paired with
        first, suspects = asked(x, here), here.output(x, ("suspicion",)).suspicion is not None
        there, swapped = here.subset(partners), x.map(lambda s: s[partners])
        others = AV(
            asked(AV(swapped.audio, x.visual), there.mix_modalities(here)),
            asked(AV(x.audio, swapped.visual), here.mix_modalities(there)),
        )
    answer, loss = task.probed
    strong, weak = _sizes(judge, answer, x, y), _sizes(judge, loss, x, y) if loss else None
    return {
        "clips": len(y),
        "random": random,
        "sociable": sociable,
        "faint": dict(strong.map(lambda m, c: _share((c <= FAINT * m) & (m > 0)), weak).items()) if weak else {},
        "flat": dict(strong.map(lambda m: _share(~(m > 0))).items()),
        # What all clips share cannot be missed.
        "ignores": dict(
            others.map(lambda z, s, o: torch.equal(z, first) and not torch.equal(s, o), x, swapped).items()
        ),
        "moved": dict(others.map(lambda z: int(task.changed(first, z).sum())).items()),
        "hidden": _hidden(judge, x, y) if suspects else {},
        "explained": {name: None if random else explained(judge, x, y, name, task) for name, _ in x.items()},
    }


def explained(model: Model, x: Signals, y: Tensor, modality: str, task: Task = CLASSIFICATION) -> float | None:
    """How much of what small random changes of one modality do to the answer its gradient explains, in [0, 1].

    1 is a gradient that can be trusted; where a part of the path is cut, its share of the changes is missing.  Central
    differences of a random mixture of its numbers against the gradient of that mixture, on a few clips; only where they
    are linear (second differences are small).  None where that is so for less than half of them: rounding or curvature
    hides the answer.

    >>> x, y = AV(torch.rand(4, 50), torch.rand(4, 1, 3, 4, 4)), torch.zeros(4, dtype=torch.long)
    >>> def cut(x):
    ...     return 3 * x.audio.detach()[:, :2] + x.audio[:, 2:4]
    >>> explained(lambda x: x.audio.sin(), x, y, "audio") > 0.99, explained(cut, x, y, "audio") < 0.3
    (True, True)
    """
    few, y = x.map(lambda s: s[:TRIED]), y[:TRIED]
    low, high = getattr(RANGE, modality)
    centre = getattr(few, modality).clamp(low + STEPS[-1], high - STEPS[-1])  # room for steps to either side

    def at(s: Tensor) -> Signals:
        return AV(**(dict(few.items()) | {modality: s}))

    draw = torch.Generator().manual_seed(0)
    threat = Threat.linf(**{modality: 1.0})
    victim = engine.as_victim(model, x.map(lambda s: s[:1])).fix_unattacked(few, threat)

    def asked(out: Output, clips: int = len(y)) -> Tensor:
        return task.answer(out, clips).float()

    with torch.no_grad():
        middle = asked(victim.output(at(centre), task.needs))
    mixture = torch.randn(middle.shape[1], generator=draw).to(middle)
    mixed = Loss("mixture", lambda out, y: asked(out, len(y)) @ mixture, needs=task.needs)
    grads = engine.raw_gradient(victim, mixed, at(centre), y, threat)
    gradient = getattr(grads, modality)
    for step in STEPS:
        found, told = [], []
        for _ in range(DIRECTIONS):
            signs = (torch.randint(0, 2, centre.shape, generator=draw) * 2 - 1).to(centre) * step
            with torch.no_grad():
                moved = (asked(victim.output(at(centre + side), task.needs)) for side in (signs, -signs))
                there, back = ((answer - middle) @ mixture for answer in moved)
            linear = (there + back).abs() < LINEAR * (there - back).abs()
            found.append(torch.where(linear, (there - back) / 2, torch.nan))
            told.append((gradient * signs).flatten(1).sum(1))
        seen, promised = doubles(torch.cat(found)), doubles(torch.cat(told))
        kept = np.isfinite(seen)
        if 2 * kept.sum() > len(seen):
            seen, promised = seen[kept], promised[kept]
            return float(max(0.0, 1 - ((seen - promised) ** 2).sum() / (seen**2).sum()))
    return None


def _hidden(model: Model, x: Signals, y: Tensor) -> dict[str, float]:
    """By modality, the share of clips on which no gradient leads to hiding it from the model."""

    def of(name: str) -> Objective:
        return Loss("suspicion", lambda out, y: getattr(out.suspicion, name), needs=("suspicion",))

    return {name: _share(~(getattr(_sizes(model, of(name), x, y), name) > 0)) for name, _ in x.items()}


def _sizes(model: Model, objective: Objective, x: Signals, y: Tensor) -> AV[NDArray[np.float64]]:
    grads = engine.raw_gradient(model, objective, x, y, Threat.linf(audio=1.0, visual=1.0))
    return grads.map(lambda g: Ball(0.0, "l2").distance(g, torch.zeros_like(g)))


def _differ(a: Tensor, b: Tensor) -> NDArray[np.bool_]:
    differ: NDArray[np.bool_] = ((a - b).abs().amax(1) > SAME * a.abs().amax(1)).cpu().numpy()
    return differ


def _partners(y: Tensor) -> Tensor:
    """For each clip the next one of another class, or the next one where all are of one class."""
    n = len(y)
    ahead = (torch.arange(n)[:, None] + torch.arange(1, n + 1)) % n
    y = y.cpu().reshape(n, -1)
    other = (y[ahead] != y[:, None]).any(2)
    return ahead[torch.arange(n), other.int().argmax(1)]


def _share_of(x: Signals, differ: Callable[[Signals], NDArray[np.bool_]]) -> float:
    """The share of clips that `differ`: looked for on a few, and counted on all where one of these does."""
    few = differ(x.map(lambda s: s[:TRIED]))
    if not few.any():
        return 0.0
    every = differ(x)
    every[: len(few)] |= few  # what was seen once counts, whether or not it is seen again
    return _share(every)


def _share(clips: NDArray[np.bool_]) -> float:
    return float(clips.mean())
