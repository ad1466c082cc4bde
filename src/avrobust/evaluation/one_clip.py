"""One clip attacked: what a model answers before and after, in memory and after files or codecs, and how the search went.

An evaluation says how often an attack succeeds; this says what it does to one clip that people want to see and hear.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from avrobust.attacks.base import at_rate
from avrobust.budget_check import check
from avrobust.engine import Deferred, Victim, Watched, as_judge
from avrobust.evaluation.checks import check_kept, check_logits, check_shape
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.door import as_rate, check_answer
from avrobust.evaluation.perception import perceived
from avrobust.evaluation.prepared import PreparedBatch
from avrobust.evaluation.tasks import Classification
from avrobust.evaluation.untouched import Untouched
from avrobust.objectives import Targeted, display_name
from avrobust.threat import Threat
from avrobust.types import AV, Attack, Batch, Channel, Model, Output, Signals

CLEAN, ADVERSARIAL = "clean", "adversarial"  # forms of a clip; for the others see `after`


def after(channel: str) -> str:
    """What the adversarial clip after a channel of this name is called."""
    return f"{ADVERSARIAL}, {channel}"


class Answer(NamedTuple):
    """What the model answers for one form of the clip."""

    probabilities: Float32[np.ndarray, " k"]
    heat: Float32[np.ndarray, "t h w"] | None  # None for a model without a heat map
    success: bool  # misclassified, or the target class


@dataclass(frozen=True, eq=False)
class AttackedClip:
    """A clip, what an attack made of it, and what the model answers for both.

    `x` and `adversarial` are batches of one clip.  `answers` are by form: "clean", "adversarial", and "adversarial, <name>" for
    each channel.  `history` holds the probabilities of the model's answers during the search, in their order.  `distortion` is
    that of `evaluation.distortion`.
    """

    attack: str
    threat: Threat
    classes: tuple[str, ...]
    label: int
    target: int | None
    x: Signals
    adversarial: Signals
    answers: Mapping[str, Answer]
    channels: tuple[str, ...]
    distortion: Mapping[str, float]
    history: Float32[np.ndarray, "m k"]

    def ranking(self, form: str, count: int = 3) -> list[tuple[str, float]]:
        """The most likely classes of one form of the clip, with their probabilities."""
        p = self.answers[form].probabilities
        return [(self.classes[k], float(p[k])) for k in np.argsort(-p, kind="stable")[:count]]

    def predicted(self, form: str) -> str:
        """The class that the model names for one form of the clip."""
        return self.ranking(form, 1)[0][0]

    @property
    def won_already(self) -> bool:
        """Whether the clean clip meets the attack's goal, so that success of the attack says nothing."""
        return self.answers[CLEAN].success

    @property
    def success(self) -> dict[str, bool | None]:
        """Whether the attack succeeds, by form of the adversarial clip; None if it has `won_already`."""
        forms = {form: answer for form, answer in self.answers.items() if form != CLEAN}
        return {form: None if self.won_already else answer.success for form, answer in forms.items()}

    @property
    def outcome(self) -> str:
        """What came of the attack, in a sentence or two: it names the forms in which the clip is adversarial no more."""
        (before, p), (then, q) = (self.ranking(form, 1)[0] for form in (CLEAN, ADVERSARIAL))
        if self.won_already:
            wrong = f"misclassified: {before} ({p:.0%}), not {self.classes[self.label]}"
            told = wrong if self.target is None else f"{self.goal} ({p:.0%})"
            return f"The clean clip is already {told}. The attack has nothing to win; it ends with {then} ({q:.0%})."
        wins = self.answers[ADVERSARIAL].success
        moved = f"changes from {before} ({p:.0%}) to {then} ({q:.0%})"
        if before == then:
            moved = f"stays {before}, {p:.0%} before and {q:.0%} after"
        aim = f" It was to be {self.goal}." if self.target is not None else ""
        lost = [name for name in self.channels if not self.answers[after(name)].success]
        undone = f" Not adversarial any more: {'; '.join(lost)}." if lost and wins else ""
        return f"The attack {'succeeds' if wins else 'fails'}: the prediction {moved}.{aim}{undone}"

    @property
    def goal(self) -> str:
        """What the attack wants, in words."""
        if self.target is not None:
            return f"classified as {self.classes[self.target]}"
        return f"not classified as {self.classes[self.label]}"


def attack_clip(
    model: Model,
    x: Signals,
    attack: Attack,
    threat: Threat,
    *,
    classes: Sequence[str],
    label: int | None = None,
    target: int | None = None,
    seed: int = 0,
    id: str = "clip",
    rate: Any = None,
    channels: Mapping[str, Channel] | None = None,
    watch: Callable[[], object] = lambda: None,
) -> AttackedClip:
    """Attack one clip `x` (1 n), (1 t 3 h w) and describe the outcome.

    `label` None is the class that the model names for the clean clip.  With a `target`, the attack is to reach that class; see
    `towards`.  The adversarial clip is also judged after each of the `channels`, which may write it to a file.  `watch` is called
    with each answer that the attack gets, and ends it by raising an exception.  `rate` is the sampling rate of the audio in Hz: a
    masking threshold needs it, and so does what is said about how audible the attack is.

    Raises `InputError` for a model that cannot be attacked, for a model or an attack that writes into its input, and for an attack that changes the model,
    `ValueError` for another number of classes than it has, `BudgetError` for an attack that leaves its threat.

    >>> from avrobust.attacks import PGD
    >>> model = lambda s: torch.stack([s.audio.mean(1), s.visual.mean((1, 2, 3, 4)) - 0.5], 1)
    >>> x = AV(audio=torch.full((1, 8), 0.009), visual=torch.full((1, 1, 3, 2, 2), 0.5))
    >>> clip = attack_clip(model, x, PGD(steps=4), Threat.linf(audio=0.02), classes=("dog", "cat"))
    >>> clip.predicted("clean"), clip.predicted("adversarial"), clip.answers["adversarial"].success, len(clip.history)
    ('dog', 'cat', True, 5)
    """
    named = tuple(classes)
    logits = check_answer(model, x)
    outputs = logits.shape[1]
    if outputs != len(named):
        raise ValueError(
            f"expected a class name for each of the model's {outputs} outputs, got {len(named)} ({', '.join(named[:8])}). "
            "Name all classes in the order of the outputs."
        )
    where, net, untouched = x.audio.device, as_judge(model, x), Untouched(model)
    clean = _answered(net, x, id)
    untouched.answered()
    if label is None:
        label = int(clean[0].argmax())
    if target is not None:
        attack = towards(target, attack)
    if (rate := as_rate(rate)) is not None:
        attack, threat = at_rate(attack, rate), at_rate(threat, rate)
        channels = {name: at_rate(channel, rate) for name, channel in (channels or {}).items()}
    history: list[Tensor] = []

    def told(out: Output) -> None:
        history.append(out.logits.detach().float().softmax(1).cpu())
        watch()

    batch, watched = Batch(x, torch.tensor([label], device=where), (id,)), Watched(net, told)
    prepared = PreparedBatch(
        batch, logits, Deferred(lambda: net), Deferred(lambda: watched), Classification(), untouched
    )
    adversarial = prepared.attacked(attack, threat, seed)
    check(threat, x, adversarial, (id,), display_name(attack))

    def judged(probabilities: Float32[np.ndarray, " k"], heat: Float32[np.ndarray, "t h w"] | None) -> Answer:
        predicted = int(probabilities.argmax())
        return Answer(probabilities, heat, predicted != label if target is None else predicted == target)

    answers = {CLEAN: judged(*clean), ADVERSARIAL: judged(*_answered(net, adversarial, id))}
    for name, channel in (channels or {}).items():
        left = channel(adversarial.map(torch.clone)).map(lambda s: s.to(where))
        answers[after(name)] = judged(*_answered(net, left, id))
    moved = distortion(threat, x, adversarial) | perceived(x, adversarial, rate)
    return AttackedClip(
        attack=display_name(attack), threat=threat, classes=named, label=label, target=target, x=x, adversarial=adversarial,
        answers=answers, channels=tuple(channels or ()), distortion={name: column[0] for name, column in moved.items()},
        history=torch.cat([*history, torch.empty(0, outputs)]).numpy(),
    )  # fmt: skip


def towards(number: int, attack: Attack) -> Attack:
    """The attack, or the one that it wraps, with a class to reach.  Raises `ValueError` if it has no objective to change."""
    own = {field.name for field in fields(attack)} if is_dataclass(attack) else set()
    if "objective" in own:
        return replace(attack, objective=Targeted(number))  # type: ignore[type-var]
    if "attack" in own:
        return replace(attack, attack=towards(number, attack.attack))  # type: ignore[type-var, attr-defined]
    raise ValueError(
        f"expected for a targeted attack one that has an objective, got {display_name(attack)}. Use FGSM, PGD, MIM, APGD, "
        "Square, AVAutoAttack, or your own attack with a field `objective`; or leave out the target."
    )


def as_signals(x: AV[Any]) -> Signals:
    """One clip as `training.views.cut` gives it (audio floats (n), frames uint8 (t h w 3)), as a batch of signals.

    >>> as_signals(AV(np.zeros(8, np.float32), np.zeros((1, 4, 4, 3), np.uint8))).visual.shape
    torch.Size([1, 1, 3, 4, 4])
    """
    visual = torch.from_numpy(x.visual.copy()).permute(0, 3, 1, 2).float() / 255
    return AV(audio=torch.from_numpy(x.audio.copy())[None], visual=visual[None])


def as_arrays(x: Signals) -> AV[Any]:
    """The first clip of a batch as files take it: audio floats (n) in [-1, 1], frames floats (t h w 3) in [0, 1]."""
    return AV(audio=x.audio[0].cpu().numpy(), visual=x.visual[0].permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def _answered(
    net: Victim, x: Signals, id: str
) -> tuple[Float32[np.ndarray, " k"], Float32[np.ndarray, "t h w"] | None]:
    """Probabilities and heat map for one clip, which the model must leave as it is."""
    lent = x.map(torch.clone)
    out = net.output(lent, ("heat",))
    check_kept(x, lent, (id,), "the model")
    logits = check_shape(out.logits, 1)
    check_logits(logits, Batch(x, torch.zeros(1, dtype=torch.long)))
    return logits.float().softmax(1)[0].cpu().numpy(), None if out.heat is None else out.heat[0].float().cpu().numpy()
