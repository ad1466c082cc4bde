"""Robust accuracy over audio budget × visual budget, and the smallest joint budget that fools each clip, for few attacks.

`frontier` knows which answers some attacks imply; this file chooses and runs them.  Clips that are to be attacked inside
the same budgets go together, whichever batch they came in, so that batches stay full.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor

from avrobust.attacks import APGD, PGD
from avrobust.attacks.base import mode_of
from avrobust.attacks.search import random_perturbation
from avrobust.budget_check import check
from avrobust.evaluation.distortion import distortion
from avrobust.evaluation.evaluator import Evaluator
from avrobust.evaluation.frontier import Cells, Clips, Frontiers
from avrobust.evaluation.prepared import PreparedBatch, condition_columns
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.tasks.classification import prediction_columns
from avrobust.files import draft
from avrobust.objectives import display_name
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Attack, Batch, Signals

# Searches that use budgets through the methods of a `Ball` only, so clips of different budgets can go together.
MIXED = (PGD, APGD)


@dataclass(frozen=True)
class BudgetGrid:
    """Pairs of audio and visual budgets: `levels` equal steps of each budget of the threat, and 0.

    `ladder` are joint budgets that shrink together, in steps of `step_db`, to `floor_db` below the whole threat: the
    smallest that fools a clip is searched among them.

    >>> grid = BudgetGrid(Threat.linf(audio=0.08, visual="8/255"), levels=2, floor_db=12, step_db=6)
    >>> [str(cell) for cell in grid.cells[:2]], len(grid.cells)
    (['audio untouched, visual untouched', 'audio untouched, visual linf 4/255'], 9)
    >>> [f"{cell.audio.eps:.3f}" for cell in grid.ladder]
    ['0.020', '0.040', '0.080']
    """

    threat: Threat
    levels: int = 8
    floor_db: float = 40.0
    step_db: float = 1.0

    def __post_init__(self) -> None:
        if self.threat.subset != "AV":
            raise ValueError(f"a budget grid needs an audio and a visual budget, got {self.threat}. Give both.")
        if self.levels < 1 or self.step_db <= 0 or self.floor_db < 0:
            raise ValueError(
                f"expected 1 level at least, a step above 0 dB and a floor of 0 dB or more, got {self.levels}, "
                f"{self.step_db} and {self.floor_db}."
            )

    @property
    def cells(self) -> tuple[Threat, ...]:
        """Every pair of budgets, the clean clip first."""
        shares = [k / self.levels for k in range(self.levels + 1)]
        return tuple(self.at(AV(audio=a, visual=v)) for a in shares for v in shares)

    @property
    def ladder(self) -> tuple[Threat, ...]:
        """The same share of both budgets, from the smallest to all of it."""
        shares = [10 ** (-self.step_db * k / 20) for k in reversed(range(math.floor(self.floor_db / self.step_db) + 1))]
        return tuple(self.at(AV(audio=s, visual=s)) for s in shares)

    def at(self, share: AV[float]) -> Threat:
        """This share of each budget."""
        return Threat(*self.threat.map(Ball.scaled, share))


@dataclass(frozen=True, eq=False)
class EvaluatedBudgets:
    """Every clip under every threat: `rows` with one more column, `how` (see `frontier`).

    `attacks` counts the attacks that ran, one per clip.  Of the implied answers, `checked` were tested by an attack, one
    for each clip that resists somewhere; `missed` of these clips were fooled.
    """

    rows: pa.Table
    attacks: int
    checked: int
    missed: int

    @classmethod
    def concat(cls, parts: Sequence["EvaluatedBudgets"], threats: Sequence[Threat]) -> "EvaluatedBudgets":
        """Of several groups of clips: a row per threat and clip, threat by threat."""
        number = [np.repeat(np.arange(len(threats)), len(part.rows) // len(threats)) for part in parts]
        order = np.argsort(np.concatenate(number), kind="stable")
        counts = zip(*((part.attacks, part.checked, part.missed) for part in parts), strict=True)
        return cls(pa.concat_tables([part.rows for part in parts]).take(order), *map(sum, counts))

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """To a Parquet file, whole or not at all; `about` goes into its metadata."""
        told = {"about": dict(about) | {name: getattr(self, name) for name in ("attacks", "checked", "missed")}}
        with draft(path) as part:
            pq.write_table(self.rows.replace_schema_metadata({"avrobust": json.dumps(told)}), part)


def evaluate_budgets(
    evaluator: Evaluator,
    attack: Attack,
    threats: Iterable[Threat],
    *,
    seed: int = 0,
    recheck: bool = True,
    advance: Callable[[int], object] = lambda decided: None,
) -> EvaluatedBudgets:
    """Whether an attack fools each clip inside each of these threats: a grid, a curve, a ladder, or all of them together.

    An attack that takes a perturbation to start from begins where the clip's last attack ended, scaled to the budgets at
    hand.  An attack that can stop once a clip is misclassified does.  `recheck` tests one implied answer per clip by a
    fresh attack, whose result counts.  Results depend on (seed, clip), not on which clips happen to go together.

    Raises `ValueError` for an attack that may leave its budget, `BudgetError` for one that does.

    >>> from avrobust.attacks import FGSM
    >>> model = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)) - 0.5], 1)
    >>> x = AV(audio=torch.full((2, 8), 0.009), visual=torch.full((2, 1, 3, 2, 2), 0.5))
    >>> evaluator = Evaluator(model, [Batch(x, torch.tensor([0, 1]))])
    >>> found = evaluate_budgets(evaluator, FGSM(), [Threat.linf(audio=0.002 * k) for k in range(1, 9)])
    >>> Rows(found.rows).where(clip="0").column("correct").tolist()
    [True, True, True, True, False, False, False, False]
    >>> found.attacks
    5
    """
    if getattr(attack, "may_leave_budget", False):
        raise ValueError(
            f"expected an attack that stays inside its budget, got {display_name(attack)}. Its result says nothing about "
            "larger budgets: give PGD, or another attack that is projected."
        )
    attack = replace(attack, stop=True) if hasattr(attack, "stop") else attack  # type: ignore[type-var]
    every, clean, at = tuple(dict.fromkeys(threats)), evaluator.clean(seed).data, 0
    parts = []
    for clips in evaluator.joined():
        known = Frontiers(every, Rows(clean.slice(at, len(clips))))
        search = _Search(clips, evaluator.name, evaluator.largest_batch, attack, known, seed)
        parts.append(_evaluated(search, recheck, advance))
        at += len(clips)
    return EvaluatedBudgets.concat(parts, every)


def _evaluated(search: "_Search", recheck: bool, advance: Callable[[int], object]) -> EvaluatedBudgets:
    """Every one of the clips that are searched together under every threat."""
    known, ids = search.known, search.clips.batch.ids
    advance(known.decided)

    def follow(wanted: Cells, *, afresh: bool = False) -> None:
        before = known.decided
        search.run(clips := search.together(wanted), wanted[clips], afresh=afresh)
        wanted[clips] = -1
        advance(known.decided - before)

    while ((wanted := known.wanted()) >= 0).any():
        follow(wanted)
    drawn = known.drawn(Seeds(search.seed, ids)) if recheck else np.full(len(ids), -1)
    again, todo = np.flatnonzero(drawn >= 0), drawn.copy()
    while (todo >= 0).any():
        follow(todo, afresh=True)
    missed = int(known.fooled[again, drawn[again]].sum())
    return EvaluatedBudgets(known.rows(display_name(search.attack)), search.attacks, len(again), missed)


@dataclass
class _Search:
    """An attack on all clips of an evaluation, and where it ended on each of them."""

    clips: PreparedBatch
    model: str  # its name in rows
    at_once: int  # clips that fit into one batch
    attack: Attack
    known: Frontiers
    seed: int
    attacks: int = 0  # that ran, one per clip
    ends: AV[dict[str, Tensor]] = field(default_factory=lambda: AV(audio={}, visual={}))  # as shares of the budgets

    def together(self, wanted: Cells) -> Clips:
        """Clips to attack together, among those with a cell to be attacked in.

        They share a cell, or only which modalities are attacked if the attack takes a budget per clip.  When a clip is
        attacked does not change its result, so the most frequent kind goes first: batches stay full.
        """
        threats, todo = self.known.threats, np.flatnonzero(wanted >= 0)
        kinds = [threats[cell].subset if isinstance(self.attack, MIXED) else str(cell) for cell in wanted[todo]]
        most = Counter(kinds).most_common(1)[0][0]
        return todo[[kind == most for kind in kinds]][: self.at_once]

    def run(self, clips: Clips, cells: Clips, *, afresh: bool) -> None:
        """Attack these clips, each inside the budgets of its cell, from where their last attacks ended."""
        some, threats = self.clips.subset(clips), [self.known.threats[cell] for cell in cells]
        budgets = AV(*self.known.eps[cells].T)
        on_device = partial(PerClipBall.of, device=some.batch.label.device)
        threat = Threat(*threats[0].map(on_device, budgets))
        start = None if afresh else self._start(some.batch, threat, budgets)
        made = some.attacked(self.attack, threat, self.seed, start)
        rows = self._rows(some, made, threats)
        for ball, ends, after, x, eps in zip(threat, self.ends, made, some.batch.x, budgets, strict=True):
            if ball.active:
                ends.update(zip(some.batch.ids, (after - x) / _by_clip(x.new_tensor(eps.tolist()), x), strict=True))
        self.known.learn(clips, self.known.eps[cells], rows)
        self.attacks += len(clips)

    def _start(self, batch: Batch, threat: Threat, budgets: AV[Float[np.ndarray, " n"]]) -> Signals:
        """Where each clip's last attack ended, scaled to its budgets; a random place where there was none."""

        def fitted(
            ball: Ball, x: Tensor, drawn: Tensor, ends: dict[str, Tensor], eps: Float[np.ndarray, " n"]
        ) -> Tensor:
            if not ball.active:
                return drawn
            sizes = float(eps.max()) * x.new_tensor((eps / eps.max()).tolist())  # rounded as the ball's own
            last = zip(batch.ids, sizes, drawn, strict=True)
            return ball.project(torch.stack([ends[id] * size if id in ends else d for id, size, d in last]), x)

        drawn = random_perturbation(threat, batch.x, Seeds(self.seed, batch.ids))
        return threat.map(fitted, batch.x, drawn, self.ends, budgets)

    def _rows(self, clips: PreparedBatch, made: Signals, threats: Sequence[Threat]) -> Rows:
        """Rows of the adversarial clips, each inside a threat of its own; all in one pass."""
        batch, name, mode = clips.batch, display_name(self.attack), mode_of(self.attack)
        logits = clips.predict(clips.judge.fix_unattacked(batch.x, threats[0]), made)
        parts, order = [], []
        for threat in dict.fromkeys(threats):
            on = [i for i, t in enumerate(threats) if t == threat]
            some, adversarial = batch.subset(on), made.map(lambda s, on=on: s[on])
            check(threat, some.x, adversarial, some.ids, name)
            columns = condition_columns(self.model, name, mode, threat, self.seed)
            columns |= prediction_columns(some, clips.clean[on], logits[on])
            parts.append(Rows.of(columns | distortion(threat, some.x, adversarial)))
            order += on
        return Rows(Rows.concat(parts).data.take(np.argsort(order)))


@dataclass(frozen=True, eq=False)
class PerClipBall(Ball):
    """A ball of each clip's own size: `eps` is the largest, `shares` (b) are the clips' sizes as shares of it."""

    shares: Tensor | None = None

    @classmethod
    def of(cls, ball: Ball, budgets: Float[np.ndarray, " n"], device: torch.device) -> Ball:
        """The ball of clips with these budgets; a plain one where all are equal, which any attack can use."""
        if not ball.active:
            return ball
        eps = float(budgets.max())
        if bool((budgets == eps).all()):
            return replace(ball, eps=eps)
        return cls(
            eps, ball.norm, ball.scale, ball.low, ball.high, torch.tensor((budgets / eps).tolist(), device=device)
        )

    def for_clips(self, clips: Any) -> Ball:
        """The ball of some of the clips."""
        if self.shares is None:
            return self
        on = clips.to(self.shares.device) if isinstance(clips, Tensor) else clips
        return replace(self, shares=self.shares[on])

    def weight(self, x: Tensor) -> Tensor:
        """The scale, times each clip's share."""
        whole = super().weight(x)
        return whole if self.shares is None else whole * _by_clip(self.shares.to(whole), whole if self.masks else x)


def _by_clip(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 1))
