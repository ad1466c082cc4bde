"""Clips with the model prepared for them: attacked through a cheap surrogate, judged by the model itself."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from inspect import Parameter, signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from avrobust.engine import Deferred, Victim
from avrobust.evaluation.checks import check_kept
from avrobust.evaluation.tasks import Gallery, Task
from avrobust.evaluation.untouched import Untouched
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Batch, InputError, Signals


@dataclass(frozen=True, eq=False)
class PreparedBatch:
    """A batch, the model's answers to its clean clips (b k), the model that judges, and the surrogate that is attacked.

    Both victims are made when they are first asked, and hold what is cached of these clips.
    """

    batch: Batch
    clean: Float[Tensor, "b k"]
    deferred_judge: Deferred
    deferred_surrogate: Deferred
    task: Task
    untouched: Untouched

    @property
    def judge(self) -> Victim:
        """The model itself."""
        return self.deferred_judge.victim

    @property
    def surrogate(self) -> Victim:
        """What gradients are taken of."""
        return self.deferred_surrogate.victim

    def __len__(self) -> int:
        return len(self.batch)

    @classmethod
    def join(cls, parts: Sequence["PreparedBatch"]) -> "PreparedBatch":
        """Several as one: clips of any of them can then be attacked together."""
        # Made now: victims that wait would hold the parts.
        judge, surrogate = (
            first.join(others)
            for first, *others in ([part.judge for part in parts], [part.surrogate for part in parts])
        )
        batch, clean = Batch.join([part.batch for part in parts]), torch.cat([part.clean for part in parts])
        return cls(
            batch, clean, Deferred(lambda: judge), Deferred(lambda: surrogate), parts[0].task, parts[0].untouched
        )

    def subset(self, clips: Any) -> "PreparedBatch":
        """Some of the clips, by an array of their numbers."""
        return replace(
            self,
            batch=self.batch.subset(clips.tolist()),
            clean=self.clean[clips],
            deferred_judge=Deferred(lambda: self.judge.subset(clips)),
            deferred_surrogate=Deferred(lambda: self.surrogate.subset(clips)),
        )

    def attacked(self, attack: Attack, threat: Threat, seed: int, start: Signals | None = None) -> Signals:
        """The adversarial clips; an attack that takes a perturbation to `start` from gets it.

        Raises `InputError` where the attack returns no signals, changes the model, or it, or the model, writes into its input.
        """
        name, batch, lent = display_name(attack), self.batch, self.batch.x.map(torch.clone)
        given = {} if start is None or not takes_start(attack) else {"start": start}
        # Any callable that takes five arguments is an attack; those that take a start are told by their signature.
        run: Any = attack
        adversarial = run(self.deferred_surrogate, lent, batch.label.clone(), threat, Seeds(seed, batch.ids), **given)
        check_kept(batch.x, lent, batch.ids, f"{name}, or the model under it,")
        self.untouched.check(name)
        return _signals(adversarial, name)

    def predict(self, victim: Victim, x: Signals) -> Float[Tensor, "b k"]:
        """The answers to `x`, which the model must leave as it is."""
        lent = x.map(torch.clone)
        with torch.no_grad():
            answers = self.task.answer(victim.output(lent, self.task.needs), len(self)).float()
        check_kept(x, lent, self.batch.ids, "the model")
        return answers

    def columns(self, victim: Victim, x: Signals, gallery: Gallery) -> dict[str, Any]:
        """What rows say about the answers of `victim` to `x`; `gallery` are those to all clean clips of the evaluation."""
        return self.task.columns(self.batch, self.clean, self.predict(victim, x), gallery)


def takes_start(attack: Any) -> bool:
    """Whether an attack has an argument `start`, the perturbation at which it begins."""
    try:
        named = signature(attack).parameters.get("start")
    except (TypeError, ValueError):  # its signature is not known
        return False
    return named is not None and named.kind is not Parameter.VAR_KEYWORD


def condition_columns(model: str, attack: str, mode: str, threat: Threat, seed: int) -> dict[str, Any]:
    """What rows state about what was done."""
    what = {"model": model, "seed": seed, "attack": attack, "mode": mode, "subset": threat.subset}
    return what | threat.budget.columns()


def _signals(adversarial: object, attack: str) -> Signals:
    """What an attack returned, if it is signals."""
    if isinstance(adversarial, AV) and all(isinstance(s, Tensor) for s in adversarial):
        return adversarial.map(Tensor.detach)
    parts = f" of {' and '.join(type(s).__name__ for s in adversarial)}" if isinstance(adversarial, AV) else ""
    raise InputError(
        f"{attack} should return AV(audio, visual) of tensors, got {type(adversarial).__name__}{parts}. "
        "Return AV(audio=..., visual=...), shaped as the clean signals."
    )
