"""Model × clips × attacks × threats → rows.  Attacks are checked here, whoever wrote them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avrobust import engine
from avrobust.attacks import ANYTHING
from avrobust.attacks.base import attack_info, channel_info
from avrobust.budget_check import check
from avrobust.evaluation.attribution import Slopes, halves
from avrobust.evaluation.checks import (
    Fingerprints,
    check_again,
    check_batch,
    check_classes,
    check_ids,
    check_kept,
    check_logits,
    check_mode,
    check_shape,
    check_told_apart,
    fingerprints,
    own_copy,
)
from avrobust.evaluation.door import as_attacks, as_batches, as_seed, as_threats, check_answer, check_model
from avrobust.evaluation.precision import compare, is_low
from avrobust.evaluation.probe import probe
from avrobust.evaluation.schema import Rows
from avrobust.objectives import correct, margins
from avrobust.seeds import Seeds
from avrobust.threat import NORMS, Ball, Threat
from avrobust.types import AV, Attack, Batch, Channel, InputError, Signals

UNTOUCHED = Threat.linf()
# Clips are attacked together until they hold so many samples and pixels: 64 MB, and searches hold some ten times that.
TOGETHER = 2**24
# Gradients at the clean clips are kept for as many of them as hold so many: 256 MB for each loss.
KEPT = 2**26
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
) -> Rows:
    """How often the model is right: clean, and under each attack on sound, on picture and on both.

    One `threat` is tried on each of its subsets (A, V, AV); several threats are tried as they are.  Attacks
    are crafted in `precision`; every prediction that is reported comes from `model` itself.  What raises doubt in the
    numbers stands below their table, and in `rows.flags()`.

    `model` is any callable from `AV(audio, visual)` to logits; of a tuple, a dict or an object the logits are taken.
    `batches` is a `Batch`, several, or a loader of tuples (wave, frames, labels[, ids]) or of dicts; they are gone through
    once per attack and threat, and have to be the same each time.  `attacks` is one attack or several.  The harness works
    on its own copies: what a model or an attack writes into its input is found, and changes nothing.

    Raises `InputError` for clips, a model or attacks that are not fit to be measured, and for two attacks of one name;
    `BudgetError` for an attack that leaves its threat.

    >>> from avrobust import AV, PGD, Batch, Threat
    >>> model = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)) - 0.5], 1)
    >>> x = AV(audio=torch.full((4, 8), 0.01), visual=torch.full((4, 1, 3, 2, 2), 0.5))
    >>> rows = evaluate(model, [Batch(x, torch.tensor([0, 0, 0, 1]))], [PGD()], Threat.linf(audio=0.02))
    >>> print(rows.table())
    model  attack  on     budget                             accuracy
    model  none    clean  audio untouched, visual untouched  75.0 % of 4 [30.1, 95.4]
    model  PGD-10  A      audio linf 0.02, visual untouched  0.0 % of 4 [0.0, 49.0]
    alarm: The smallest cell has 4 clips, so an accuracy near 50 % is known to ±35 points at best.
    alarm: model is right on 75.0 % of 4 [30.1, 95.4] without any attack; guessing gives 50.0 %.
    """
    todo = tasks(attacks, threat)
    # Attacks take gradients, although whoever evaluates may not.
    with torch.inference_mode(False), torch.enable_grad():
        seed, subject = as_seed(seed), Evaluator(model, batches, name=name, precision=precision)
        cells = [subject.clean(seed)] + [subject.under(attack, t, seed) for attack, t in todo]
        return Rows.concat(cells, subject.about)


def tasks(attacks: Any, threat: Any) -> list[tuple[Attack, Threat]]:
    """Every attack within every threat; of one threat, within each of its subsets.

    Raises `InputError` where two have one name.
    """
    threats = as_threats(threat)
    every = [(attack, t) for attack in as_attacks(attacks) for t in threats]
    check_told_apart([f"{label(attack)} within {t}" for attack, t in every])
    return every


class Evaluator:
    """A model and the clips that it is tried on, with what all attacks on them share.

    `also` measures more than right or wrong: it gets the model, the batch and the signals at hand, and returns
    columns of the rows; see `localisation.Localisation`.

    An `AVNet` is attacked on many batches at once, and takes as many clips at a time as it has room for; any other
    model gets the batches as they come.
    """

    def __init__(
        self,
        model: Any,
        batches: Any,
        *,
        name: str = "model",
        precision: str = "auto",
        also: Measure | None = None,
    ) -> None:
        check_model(model)
        as_judge = partial(engine.as_judge, model)
        self._batches = _Together(as_batches(batches), lambda example: TOGETHER if as_judge(example).any_batch else 0)
        self._model, self._name = model, str(name)
        self._precision, self._also = precision, also
        self._judges: list[
            engine.Victim
        ] = []  # per batch: the model itself, with what its streams make of the clean clips
        self._clean: list[Tensor] = []
        self._slopes = Slopes()
        self._low: dict[str, Any] = {}  # by threat, what a low precision cost
        for batch in self._batches:
            if not self._judges:
                check_answer(model, example := batch.x.map(lambda s: s[:1]))
                exact = as_judge(example)
            lent = batch.x.map(torch.clone)
            judge = exact.cache_embeddings(lent).fix_unattacked(lent, UNTOUCHED)
            with torch.no_grad():
                logits = judge(lent)
            check_kept(batch.x, lent, batch.ids, "the model")
            self._clean.append(check_logits(logits, batch).float())
            check_classes(self._clean[0], self._clean[-1], batch)
            self._judges.append(judge)
        if not self._judges:
            raise InputError("expected at least one batch of clips, got none. Give Batch(AV(wave, frames), labels).")

    @cached_property
    def about(self) -> dict[str, Any]:
        """What the rows cannot say of the model: how many classes it has, and what it is like to an attacker."""
        batch = next(iter(self._batches))
        probes = probe(self._model, batch) | ({"low": self._low} if self._low else {})
        return {"classes": self._clean[0].shape[1], "probes": {self._name: probes}}

    @cached_property
    def _crafts(self) -> list[engine.Victim]:
        """Per batch: a cheap stand-in for the model, with what it makes of the clean clips kept."""
        example = next(iter(self._batches)).x.map(lambda s: s[:1])
        craft = engine.surrogate(self._model, example, self._precision)
        crafts, left = [], KEPT
        for batch in self._batches:
            known = craft.cache_embeddings(batch.x)
            left -= sum(s.numel() for s in batch.x)
            crafts.append(known.cache_clean_gradients(batch.x, batch.label) if left >= 0 else known)
        return crafts

    def clean(self, seed: int = 0) -> Rows:
        """Rows of the clips as they are."""
        parts = []
        for batch, clean, judge in zip(self._batches, self._clean, self._judges, strict=True):
            columns = self._columns(batch, clean, clean, "none", "corrected", UNTOUCHED, seed)
            parts.append(Rows.of(columns | self._more(judge, batch, batch.x)))
        return Rows.concat(parts)

    def under(self, attack: Attack, threat: Threat, seed: int = 0, *, sent: Sequence[Channel] = ()) -> Rows:
        """Rows of the clips under one attack inside one threat.

        With `sent`, rows of mode "sent" instead: of these clips as made, and of what each channel leaves of them.
        """
        check_mode(attack, f"the attack {label(attack)}")
        title, mode = label(attack), "sent" if sent else getattr(attack, "mode", "corrected")
        free = getattr(attack, "may_leave_budget", False)
        # Only what was checked to be untouched is taken for it; a channel changes both modalities.
        touched = ANYTHING if free or sent else threat
        parts = []
        every = zip(self._batches, self._clean, self._judges, self._crafts, strict=True)
        for number, (batch, clean, judge, craft) in enumerate(every):
            lent = batch.x.map(torch.clone)
            if number == 0 and is_low(craft) and threat.subset != "clean" and str(threat) not in self._low:
                self._low[str(threat)] = compare(self._model, craft, batch, threat, seed)
            adversarial = _signals(attack(craft, lent, batch.label.clone(), threat, Seeds(seed, batch.ids)), title)
            check_kept(batch.x, lent, batch.ids, f"{title}, or the model under it,")
            if not free:
                check(threat, batch.x, adversarial, batch.ids, title)
            info = channel_info(attack) if sent else attack_info(attack)
            arrived = [(f"{title} > as made" if sent else title, info, adversarial)]
            for channel in sent:
                after = channel(adversarial.map(torch.clone))
                arrived.append((f"{title} > {label(channel)}", channel_info(attack, label(channel)), after))
            for name, info, x in arrived:
                fooled = judge.fix_unattacked(batch.x, touched).fix_at(x)
                lent = x.map(torch.clone)
                with torch.no_grad():
                    logits = check_shape(fooled(lent), len(batch)).float()
                check_kept(x, lent, batch.ids, "the model")
                columns = self._columns(batch, clean, logits, name, mode, threat, seed) | asdict(info)
                more = sizes(threat, batch.x, x) | self._more(fooled, batch, x)
                if mode != "sent" and threat.subset == "AV":
                    more |= halves(judge, fooled, batch, x)
                    more |= {"slope_audio": self._slopes.audio_share(number, craft, batch, threat)}
                parts.append(Rows.of(columns | more))
        return Rows.concat(parts)

    def _more(self, model: engine.Victim, batch: Batch, x: Signals) -> dict[str, Sequence[float]]:
        """What `also` measures."""
        return dict(self._also(model, batch, x)) if self._also else {}

    def _columns(
        self, batch: Batch, clean: Tensor, logits: Tensor, attack: str, mode: str, threat: Threat, seed: int
    ) -> dict[str, object]:
        y = batch.label
        return {
            "model": self._name, "seed": seed, "attack": attack, "mode": mode, "subset": threat.subset,
            **threat.budget.columns(), "clip": batch.ids, "label": y.tolist(), "status": "ok",
            "pred_clean": clean.argmax(1).tolist(), "pred": predicted(logits).tolist(),
            "margin_clean": margins(clean, y).tolist(), "margin": margins(logits, y).tolist(),
            "correct_clean": correct(clean, y).tolist(), "correct": correct(logits, y).tolist(),
            "finite": logits.isfinite().all(1).tolist(),
        }  # fmt: skip


class _Together:
    """Batches fit to be measured, joined as long as they hold no more numbers than `limit` says of a first clip.

    Read anew each time, for they may come from a disk; they have to be the same then.
    """

    def __init__(self, batches: Iterable[Batch], limit: Callable[[Signals], int]) -> None:
        self._batches, self._limit = batches, limit
        self._met: Fingerprints = []  # of the clips of the first whole pass

    def __iter__(self) -> Iterator[Batch]:
        now: Fingerprints = []
        for batch in self._joined():
            here = fingerprints(batch)
            if self._met:
                check_again(here, self._met[len(now) : len(now) + len(here)], at=len(now))
            now += here
            yield batch
        if self._met:
            check_again([], self._met[len(now) :], at=len(now))
        else:
            check_ids([clip[0] for clip in now])
        self._met = now

    def _joined(self) -> Iterator[Batch]:
        held: list[Batch] = []
        limit: int | None = None
        for batch in self._batches:
            check_batch(batch)
            limit = self._limit(batch.x.map(lambda s: s[:1])) if limit is None else limit
            same = held and held[0].x.map(lambda s: s.shape[1:]) == batch.x.map(lambda s: s.shape[1:])
            if held and not (same and sum(s.numel() for b in (*held, batch) for s in b.x) <= limit):
                yield Batch.join(held)
                held = []
            held.append(own_copy(batch))  # a loader may fill the same memory again with the next batch
        if held:
            yield Batch.join(held)


def _signals(adversarial: object, attack: str) -> Signals:
    """What an attack returned, if it is signals."""
    if not (isinstance(adversarial, AV) and all(isinstance(s, Tensor) for s in adversarial)):
        raise InputError(
            f"{attack} should return AV(audio, visual) of tensors, got {_words(adversarial)}. "
            "Return AV(audio=..., visual=...), shaped as the clean signals."
        )
    return adversarial.map(Tensor.detach)


def _words(thing: object) -> str:
    parts = f" of {' and '.join(type(s).__name__ for s in thing)}" if isinstance(thing, AV) else ""
    return type(thing).__name__ + parts


def predicted(logits: Tensor) -> Tensor:
    """The class of each clip; -1 where logits are not finite, which is no answer."""
    return torch.where(logits.isfinite().all(1), logits.argmax(1), -1)


def label(attack: Attack | Channel) -> str:
    """How a table calls an attack, or a channel: its `name`, or else its own."""
    return str(getattr(attack, "name", None) or getattr(attack, "__name__", type(attack).__name__))


def sizes(threat: Threat, x: Signals, adversarial: Signals) -> dict[str, list[float]]:
    """How far the adversarial clips lie from the clean ones: raw norms, share of the budget, SNR and PSNR in dB."""
    linf, l2 = (AV(*map(Ball(0.0, norm).distance, adversarial, x)) for norm in NORMS)
    used = threat.map(lambda b, a, s: b.used(a, s) if b.active else np.full(len(s), np.nan), adversarial, x)
    loud, pixels = Ball(0.0, "l2").distance(x.audio, torch.zeros_like(x.audio)), x.visual.shape[1:].numel()
    with np.errstate(divide="ignore", invalid="ignore"):
        # inf when untouched; a silent clip gives -inf, and nan when it is untouched too
        snr, psnr = 20 * np.log10(loud / l2.audio), -20 * np.log10(l2.visual / pixels**0.5)
    return {
        "linf_audio": linf.audio.tolist(), "linf_visual": linf.visual.tolist(),
        "l2_audio": l2.audio.tolist(), "l2_visual": l2.visual.tolist(),
        "used_audio": used.audio.tolist(), "used_visual": used.visual.tolist(),
        "snr_db": snr.tolist(), "psnr_db": psnr.tolist(),
    }  # fmt: skip
