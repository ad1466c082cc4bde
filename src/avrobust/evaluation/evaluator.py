"""Models attacked on clips: one row per clip, attack and threat.  Every adversarial clip is checked, whoever made it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks import ANYTHING
from avrobust.attacks.base import at_rate, attack_info, channel_info, mode_of, raising
from avrobust.budget_check import check
from avrobust.certificates import Certificate, Smoothed
from avrobust.config import to_plain
from avrobust.evaluation import suspicion
from avrobust.evaluation.attribution import Slopes, halves
from avrobust.evaluation.batches import CheckedBatches, forms
from avrobust.evaluation.checks import check_classes, check_fits, check_kept, check_mode, check_told_apart
from avrobust.evaluation.conditions import NO_ATTACK
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.door import (
    as_attacks,
    as_batches,
    as_rate,
    as_seed,
    as_threats,
    check_answer,
    check_model,
    check_task,
)
from avrobust.evaluation.kept import Kept
from avrobust.evaluation.perception import perceived
from avrobust.evaluation.precision import compare, fallbacks, is_low
from avrobust.evaluation.prepared import PreparedBatch, condition_columns
from avrobust.evaluation.probe import CLIPS, probe
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.tasks import Classification, Gallery, Task
from avrobust.evaluation.untouched import Untouched
from avrobust.evaluation.voting import vote_columns
from avrobust.objectives import display_name
from avrobust.progress import part
from avrobust.seeds import Seeds
from avrobust.threat import Threat
from avrobust.types import Attack, Batch, Channel, InputError, Signals, T

CLASSIFICATION = Classification()
UNTOUCHED = Threat.linf()
# Clips are attacked together until they hold so many samples and pixels: 64 MB, and searches hold some ten times that.
JOINED = 2**24
# What is kept of clips between attacks holds so many numbers, 256 MB: embeddings to judge by; embeddings to attack, and
# clips at which gradients are known, which hold as many again for each loss.
KEPT = 2**26
# Clips that are attacked within a budget of their own each are held together: 1 GB.
HELD = 2**28
# (model, batch, the signals at hand) -> columns of the rows, one value per clip
Measure = Callable[[engine.Victim, Batch, Signals], Mapping[str, Sequence[float]]]


def evaluate(
    model: Any,
    batches: Any,
    attacks: Any,
    threat: Any,
    *,
    seed: Any = 0,
    name: str = "model",
    precision: str = "auto",
    task: Any = CLASSIFICATION,
    rate: Any = None,
) -> Rows:
    """Clean accuracy, and robust accuracy under each attack on audio, on visual and on both, as one row per clip.

    `task` says what the model is for, where that is not one class per clip: `avr.tasks.MultiLabel()`, `Binary()`,
    `Regression(tolerance)`, `Embedding(tolerance)` or `Retrieval()`.  Labels, success and metrics are then its own, and attacks
    without an `objective` raise that of the task.

    `rate` is the sampling rate of the audio in Hz: with it, rows also say how audible attacks are, threats may be masking
    thresholds, and corruptions and channels are of that rate.

    One `threat` is tried on each of its subsets (A, V, AV); several threats are tried as given.  Attacks are crafted in
    `precision`; every prediction in the rows comes from `model` itself.  `rows.table()` lists the numbers and, below them,
    what raises doubt, as `rows.flags()` does.

    `model` is any callable from `AV(audio, visual)` to logits; of a tuple, a dict or an object the logits are taken.
    `batches` is a `Batch`, several, or a loader of tuples (wave, frames, labels[, ids]) or of dicts.  They are read once
    per attack and threat and must be the same each time.  `attacks` is one attack or several.  The evaluation works on its
    own copies: a model or an attack that writes into its input is refused, and has changed nothing.

    Raises `InputError` for clips, a model or attacks that cannot be evaluated, and for two attacks of one name;
    `BudgetError` for an attack that leaves its threat.

    >>> from avrobust import AV, PGD, Batch, Threat
    >>> model = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)) - 0.5], 1)
    >>> x = AV(audio=torch.full((4, 8), 0.01), visual=torch.full((4, 1, 3, 2, 2), 0.5))
    >>> rows = evaluate(model, [Batch(x, torch.tensor([0, 0, 0, 1]))], [PGD()], Threat.linf(audio=0.02))
    >>> print(rows.table())
    model  attack  budget           robust accuracy           attack success
    model  none    —                75.0 % of 4 [30.1, 95.4]  —
    model  PGD-10  audio linf 0.02  0.0 % of 4 [0.0, 49.0]    100.0 % of 3 [43.9, 100.0]
    alarm: The smallest cell has 4 clips, so an accuracy near 50 % is known to ±35 points at best.
    alarm: model has a clean accuracy of 75.0 % of 4 [30.1, 95.4]; guessing gives 50.0 %.
    """
    todo = attacks_within(attacks, threat)
    # Attacks take gradients, although whoever evaluates may not.
    with torch.inference_mode(False), torch.enable_grad():
        seed, evaluator = as_seed(seed), Evaluator(model, batches, name=name, precision=precision, task=task, rate=rate)
        cells = [evaluator.clean(seed)] + [evaluator.under(attack, t, seed) for attack, t in todo]
        return Rows.concat(cells, evaluator.about)


def attacks_within(attacks: Any, threat: Any) -> list[tuple[Attack, Threat]]:
    """Every attack within every threat; of one threat, within each of its subsets.  A certificate is about its own threat.

    Raises `InputError` where two have one name.
    """
    threats = as_threats(threat)
    every = [
        (attack, t)
        for attack in as_attacks(attacks)
        for t in ([attack.threat] if isinstance(attack, Certificate) else threats)
    ]
    check_told_apart([(display_name(attack), t.budget) for attack, t in every])
    return every


class Evaluator:
    """A model and the clips that it is evaluated on, with what all attacks on them share.

    `also` measures more than the predictions: it gets the model, the batch and the signals at hand, and returns
    columns of the rows; see `localisation.Localisation`.

    A model whose two streams are known is attacked on many batches at once and takes as many clips at a time as fit into
    memory; any other model gets the batches as they come.
    """

    def __init__(
        self,
        model: Any,
        batches: Any,
        *,
        name: str = "model",
        precision: str = "auto",
        also: Measure | None = None,
        task: Any = CLASSIFICATION,
        rate: Any = None,
    ) -> None:
        check_model(model)
        as_judge = partial(engine.as_judge, model)
        self._task: Task = check_task(task)
        self._batches = CheckedBatches(
            as_batches(batches, self._task), lambda clip: JOINED if as_judge(clip).any_batch else 0
        )
        self._model, self._name = model, str(name)
        self._precision, self._also, self._rate = precision, also, as_rate(rate)
        self._judges, self._surrogates = Kept(KEPT), Kept(KEPT)
        self._clean: list[Tensor] = []  # per batch: the answers to the clean clips
        self._ids: tuple[str, ...] = ()
        self._slopes = Slopes(task.raised or task.objective)
        # Rows that say nothing measure accuracy.
        classes = isinstance(task, Classification)
        self._measures = {} if classes else {"measures": {self._name: to_plain(task.measures)}}
        self._low: dict[str, Any] = {}  # by threat, what a low precision cost
        self._untouched = Untouched(model)
        for number, batch in enumerate(self._batches):
            if not number:
                self._example = batch.x.map(lambda s: s[:1].clone())
                check_answer(model, self._example, task)
                self._exact = as_judge(self._example)
                self._suspects = bool(_suspected(self._exact, self._example))
            judge, lent = self._judge(number, batch), batch.x.map(torch.clone)
            with torch.no_grad():
                answer = task.answer(judge.output(lent, task.needs), len(batch))
            check_kept(batch.x, lent, batch.ids, "the model")
            task.check(answer, batch)
            self._clean.append(answer.float())
            check_classes(self._clean[0], self._clean[-1], batch)
            self._ids += batch.ids
        self._untouched.answered()
        if not self._clean:
            raise InputError("expected at least one batch of clips, got none. Give Batch(AV(wave, frames), labels).")

    def __len__(self) -> int:
        """The number of clips."""
        return sum(map(len, self._clean))

    def at_rate(self, what: T) -> T:
        """A threat, an attack or a channel for the sampling rate of the clips, where that is known."""
        return what if self._rate is None else at_rate(what, self._rate)

    @property
    def name(self) -> str:
        """What rows call the model."""
        return self._name

    @property
    def largest_batch(self) -> int:
        """The number of clips in the largest batch that was given: as many fit into memory."""
        return self._batches.largest

    @cached_property
    def answers(self) -> Tensor:
        """What the model says of the clean clips, in float32 (n k): logits, or what else its task asks for."""
        return torch.cat(self._clean)

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the rows cannot state about the model: what its task measures, and the answers to `probe.probe`."""
        probes = probe(self._model, self._first(CLIPS), self._task, self.largest_batch) | (
            {"low": self._low} if self._low else {}
        )
        if "_surrogate" in vars(self):  # somebody attacked it
            probes |= fallbacks(self._surrogate, self._precision)
        facts = {"probes": probes, **self._task.facts(self._clean[0])}
        return self._measures | {key: {self._name: fact} for key, fact in facts.items()}

    def _first(self, clips: int) -> Batch:
        """Of so many clips, or some more, those that have the form of the first, as far as they may be held together."""
        parts: list[Batch] = []
        for batch in self._batches:
            if not parts or forms(batch.x) == forms(parts[0].x):
                parts.append(batch)
            if (clips := clips - len(batch)) <= 0 or sum(s.numel() for part in parts for s in part.x) >= JOINED:
                break
        return Batch.join(parts)

    @cached_property
    def _gallery(self) -> Gallery:
        return Gallery(self._ids, self.answers)

    def _judge(self, number: int, batch: Batch) -> engine.Victim:
        """The model itself, with the embeddings of this batch's clean clips."""

        def make() -> engine.Victim:
            lent = batch.x.map(torch.clone)
            judge = self._exact.cache_embeddings(lent).fix_unattacked(lent, UNTOUCHED)
            check_kept(batch.x, lent, batch.ids, "the model")
            return judge

        return self._judges.get(number, make)

    @cached_property
    def _surrogate(self) -> engine.Victim:
        """A cheap surrogate of the model."""
        return engine.surrogate(self._model, self._example, self._precision)

    def _attacked(self, number: int, batch: Batch) -> engine.Victim:
        """The surrogate, with the embeddings of this batch's clean clips, and a place for the gradients there."""

        def make() -> engine.Victim:
            return self._surrogate.cache_embeddings(batch.x).cache_clean_gradients(batch.x, batch.label)

        return self._surrogates.get(number, make)

    def _prepared(self) -> Iterator[PreparedBatch]:
        """The batches as they are read."""
        for number, (batch, clean) in enumerate(zip(self._batches, self._clean, strict=True)):
            judge, surrogate = (engine.Deferred(partial(make, number, batch)) for make in (self._judge, self._attacked))
            yield PreparedBatch(batch, clean, judge, surrogate, self._task, self._untouched)

    def joined(self) -> Iterator[PreparedBatch]:
        """All clips in few large batches, each in memory, of which any clips can be attacked together."""
        parts: list[PreparedBatch] = []
        for clips in self._prepared():
            if parts and sum(s.numel() for part in (*parts, clips) for s in part.batch.x) > HELD:
                whole, parts = PreparedBatch.join(parts), []
                yield whole
                del whole  # before the next is put together
            parts.append(clips)
        yield PreparedBatch.join(parts)

    def clean(self, seed: int = 0) -> Rows:
        """Rows of the clean clips."""
        parts = []
        for clips in self._prepared():
            columns = condition_columns(self._name, "none", "corrected", UNTOUCHED, seed)
            columns |= self._task.columns(clips.batch, clips.clean, clips.clean, self._gallery)
            parts.append(Rows.of(columns | self._more(clips.deferred_judge, clips.batch, clips.batch.x)))
        return Rows.concat(parts, self._measures)

    def under(self, attack: Attack, threat: Threat, seed: int = 0, *, sent: Sequence[Channel] = ()) -> Rows:
        """Rows of the clips under one attack inside one threat.

        With `sent`, rows of mode "sent" instead: of the adversarial clips as made, and after each of these channels.  Of a
        certificate, or an attack on the model that it smooths, rows of mode "smoothed": see `voting`.
        """
        attack = attack if self._task.raised is None else raising(attack, self._task.raised)
        attack, threat, sent = self.at_rate(attack), self.at_rate(threat), [self.at_rate(channel) for channel in sent]
        title = display_name(attack)
        check_mode(attack, f"the attack {title}")
        mode = "sent" if sent else mode_of(attack)
        free = getattr(attack, "may_leave_budget", False)
        # Only a modality that was checked to be unchanged is taken for it; a channel changes both.
        touched = ANYTHING if free or sent else threat
        parts = []
        count = len(self._clean)
        for number, clips in enumerate(self._prepared()):
            batch = clips.batch
            if not number:
                check_fits(threat, batch)
            with part(1 / count, f"batch {number + 1} of {count}" if count > 1 else ""):
                adversarial = clips.attacked(attack, threat, seed)
            if not number and clips.deferred_surrogate.made and is_low(self._surrogate):
                self._note_precision(clips, threat, seed)
            if not free:
                check(threat, batch.x, adversarial, batch.ids, title)
            info = channel_info(attack) if sent else attack_info(attack)
            arrived = [(f"{title} > as made" if sent else title, info, adversarial)]
            for channel in sent:
                after, through = channel(adversarial.map(torch.clone)), display_name(channel)
                arrived.append((f"{title} > {through}", channel_info(attack, through), after))
            for name, info, x in arrived:
                judge = clips.judge.fix_unattacked(batch.x, touched).fix_at(x)
                columns = condition_columns(self._name, name, mode, threat, seed) | asdict(info)
                columns |= (
                    vote_columns(
                        attack, self._exact, clips, x, Seeds(seed, batch.ids), self._gallery, self.largest_batch
                    )
                    if isinstance(attack, Certificate | Smoothed)
                    else clips.columns(judge, x, self._gallery)
                )
                columns |= distortion(threat, batch.x, x) | self._more(judge, batch, x)
                if mode not in NO_ATTACK:
                    columns |= perceived(batch.x, x, self._rate)
                    if threat.subset == "AV":
                        columns |= halves(clips, judge, x, self._gallery)
                        columns |= {"slope_audio": self._slopes.audio_share(number, clips.surrogate, batch, threat)}
                parts.append(Rows.of(columns))
        return Rows.concat(parts, self._measures)

    def _note_precision(self, clips: PreparedBatch, threat: Threat, seed: int) -> None:
        """What an attack within this threat loses in low precision, once."""
        if threat.subset != "clean" and str(threat) not in self._low:
            self._low[str(threat)] = compare(self._model, clips, threat, self._gallery, seed)

    def _more(self, model: engine.Victim | engine.Deferred, batch: Batch, x: Signals) -> dict[str, Sequence[float]]:
        """What the model suspects, where it says so, and what `also` measures."""
        victim = engine.as_victim(model, x)
        suspected = _suspected(victim, x) if self._suspects else {}
        return suspected | (dict(self._also(victim, batch, x)) if self._also else {})


def _suspected(model: engine.Victim, x: Signals) -> dict[str, Sequence[float]]:
    """Which modalities a model takes for attacked, as columns; nothing of a model that does not say."""
    with torch.no_grad():
        found = model.output(x, ("suspicion",)).suspicion
    return {} if found is None else {suspicion.COLUMNS[name]: s.float().tolist() for name, s in found.items()}
