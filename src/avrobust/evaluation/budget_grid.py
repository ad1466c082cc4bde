"""Robust accuracy over audio budget x visual budget, and the smallest joint budget of each clip, for a few cells' work.

Signals that fool a model fool it inside every budget that holds them.  So each clip has a frontier: budgets on one side
fool it, budgets on the other do not, and a handful of attacks finds where it runs.  The rest is implied:

    fooled    exact: the very signals that fooled the clip lie inside this budget too
    stands    as good as the search: an attack inside a larger budget failed

Clips that are to be tried at the same budgets go together, whichever batch they came in, so that batches stay full.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from avrobust import engine
from avrobust.attacks import APGD, PGD
from avrobust.attacks.search import random_perturbation
from avrobust.budget_check import check
from avrobust.evaluation.door import as_batches, held
from avrobust.evaluation.evaluator import Evaluator, label, sizes
from avrobust.evaluation.schema import Rows
from avrobust.facts import BUDGET_COLUMNS
from avrobust.files import draft
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Attack, Batch, Model, Signals

Table = Bool[np.ndarray, "n c"]  # clips x cells
Clips = Int[np.ndarray, " m"]  # numbers of some clips
Cells = Int[np.ndarray, " n"]  # a cell's number for each clip, -1 for none
COMPUTED, FOOLED, STANDS = "computed", "fooled", "stands"  # how an answer is known
# Of rows that nothing was run for, no more than this is known.
KNOWN = {
    "model", "seed", "attack", "mode", "subset", *BUDGET_COLUMNS, "clip", "label", "status",
    "pred_clean", "margin_clean", "correct_clean", "correct",
}  # fmt: skip
# A clip that stands costs the whole search and one that falls a part of it, so budgets are tried where it likelier falls.
EAGER = 3.0
# Searches that use budgets through the methods of a `Ball` only, so clips of different budgets can go together.
MIXED = (PGD, APGD)


@dataclass(frozen=True)
class Plane:
    """The budgets of a plane: `levels` equal steps of each of the threat's, every pair of them, and 0.

    `ladder` are joint budgets that shrink together, in steps of `step_db`, `floor_db` down from the whole threat: among
    them each clip's smallest one is looked for.

    >>> plane = Plane(Threat.linf(audio=0.08, visual="8/255"), levels=2, floor_db=12, step_db=6)
    >>> [str(cell) for cell in plane.cells[:2]], len(plane.cells)
    (['audio untouched, visual untouched', 'audio untouched, visual linf 0.01569'], 9)
    >>> [f"{cell.audio.eps:.3f}" for cell in plane.ladder]
    ['0.020', '0.040', '0.080']
    """

    threat: Threat
    levels: int = 8
    floor_db: float = 40.0
    step_db: float = 1.0

    def __post_init__(self) -> None:
        if self.threat.subset != "AV":
            raise ValueError(f"a plane needs budgets for sound and picture, got {self.threat}. Give both.")
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
        return Threat(*self.threat.map(lambda ball, s: replace(ball, eps=ball.eps * s), share))


class Pool(Evaluator):
    """A subject of which any clips can be attacked together, from whichever batches they came."""

    def __init__(
        self, model: Model, batches: Iterable[Batch], *, name: str = "model", precision: engine.Precision = "auto"
    ) -> None:
        given = held(as_batches(batches))
        super().__init__(model, given, name=name, precision=precision)
        self._batch = Batch.join(given)
        self.ids = self._batch.ids
        self._logits = torch.cat(self._clean)
        self._judge = self._judges[0].join(self._judges[1:])
        self.room = max(map(len, given))  # as many clips at once as in the largest batch that was given

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, clips: Clips) -> Batch:
        """These clips in one batch."""
        return self._batch.subset(clips.tolist())

    def attacked(
        self, clips: Clips, attack: Attack, threat: Threat, seed: int, start: Signals | None = None
    ) -> Signals:
        """What the attack makes of these clips; an attack with an argument `start` gets the perturbation to begin at."""
        batch, victim = self.subset(clips), self._craft.subset(clips)
        seeds = Seeds(seed, batch.ids)
        more = {"start": start} if "start" in signature(attack).parameters else {}
        return attack(victim, batch.x, batch.label, threat, seeds, **more)

    def judged(self, clips: Clips, made: Signals, threats: Sequence[Threat], attack: Attack, seed: int) -> Rows:
        """Rows of these clips as the attack made them, each inside a threat of its own; all in one pass.

        Raises `BudgetError` for a clip that leaves its threat.
        """
        batch, clean = self.subset(clips), self._logits[clips]
        with torch.no_grad():
            logits = self._judge.subset(clips).fix_unattacked(batch.x, threats[0])(made).float()
        mode, parts, order = getattr(attack, "mode", "corrected"), [], []
        for threat in dict.fromkeys(threats):
            on = [i for i, t in enumerate(threats) if t == threat]
            some, its = batch.subset(on), made.map(lambda s, on=on: s[on])
            check(threat, some.x, its, some.ids, label(attack))
            columns = self._columns(some, clean[on], logits[on], label(attack), mode, threat, seed)
            parts.append(Rows.of(columns | sizes(threat, some.x, its)))
            order += on
        return Rows(Rows.concat(parts).data.take(np.argsort(order)))

    @cached_property
    def _craft(self) -> engine.Victim:
        return self._crafts[0].join(self._crafts[1:])


@dataclass(frozen=True, eq=False)
class Found:
    """Every clip under every threat: `rows` with one more column, `how`.

    `attacks` counts those that were run, a clip each.  Of the answers that another one implies, `checked` were tried
    after all, one for each clip that stands somewhere; `missed` of them fell.
    """

    rows: pa.Table
    attacks: int
    checked: int
    missed: int

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """To a Parquet file, whole or not at all; `about` goes into its metadata."""
        told = {"about": dict(about) | {name: getattr(self, name) for name in ("attacks", "checked", "missed")}}
        with draft(path) as part:
            pq.write_table(self.rows.replace_schema_metadata({"avrobust": json.dumps(told)}), part)


def frontiers(
    pool: Pool,
    attack: Attack,
    threats: Iterable[Threat],
    *,
    seed: int = 0,
    recheck: bool = True,
    advance: Callable[[int], object] = lambda decided: None,
) -> Found:
    """Whether each clip stands in each of these threats: a plane, a curve, a ladder, or all of them together.

    A search that begins somewhere random begins where the clip's last one ended, fitted to the budgets at hand.  An
    attack that can stop once a clip is wrong does.  `recheck` tries one implied answer per clip after all, afresh, and
    what it finds counts.  Results depend on (seed, clip), not on which clips happen to go together.

    >>> from avrobust.attacks import FGSM
    >>> model = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)) - 0.5], 1)
    >>> x = AV(audio=torch.full((2, 8), 0.009), visual=torch.full((2, 1, 3, 2, 2), 0.5))
    >>> pool = Pool(model, [Batch(x, torch.tensor([0, 1]))])
    >>> found = frontiers(pool, FGSM(), [Threat.linf(audio=0.002 * k) for k in range(1, 9)])
    >>> Rows(found.rows).where(clip="0").column("correct").tolist()
    [True, True, True, True, False, False, False, False]
    >>> found.attacks
    5
    """
    if getattr(attack, "may_leave_budget", False):
        raise ValueError(
            f"expected an attack that stays in its budget, got {label(attack)}. What it finds says nothing of larger ones."
        )
    attack = replace(attack, stop=True) if hasattr(attack, "stop") else attack  # type: ignore[type-var]
    known = _Known(tuple(dict.fromkeys(threats)), pool.clean(seed))
    search = _Search(pool, attack, known, seed)
    advance(known.decided)

    def follow(wanted: Cells, *, afresh: bool = False) -> None:
        before = known.decided
        search.run(clips := search.lot(wanted), wanted[clips], afresh=afresh)
        wanted[clips] = -1
        advance(known.decided - before)

    while ((wanted := known.wanted()) >= 0).any():
        follow(wanted)
    drawn = known.drawn(Seeds(seed, pool.ids)) if recheck else np.full(len(pool), -1)
    again, todo = np.flatnonzero(drawn >= 0), drawn.copy()
    while (todo >= 0).any():
        follow(todo, afresh=True)
    return Found(known.rows(label(attack)), search.attacks, len(again), int(known.fooled[again, drawn[again]].sum()))


@dataclass
class _Search:
    """An attack at work on some clips, and where it ended on each of them."""

    pool: Pool
    attack: Attack
    known: "_Known"
    seed: int
    attacks: int = 0  # that were run, a clip each
    ends: AV[dict[str, Tensor]] = field(default_factory=lambda: AV(audio={}, visual={}))  # as shares of the budgets

    def lot(self, wanted: Cells) -> Clips:
        """Clips to attack together, of those that have a cell to be tried at.

        They share a cell, or no more than which modalities may be touched, if the attack can take budgets clip by clip.
        What a clip gets does not depend on when, so those go first of which there are most: batches stay full.
        """
        threats, todo = self.known.threats, np.flatnonzero(wanted >= 0)
        kinds = [threats[cell].subset if isinstance(self.attack, MIXED) else str(cell) for cell in wanted[todo]]
        most = Counter(kinds).most_common(1)[0][0]
        return todo[[kind == most for kind in kinds]][: self.pool.room]

    def run(self, clips: Clips, cells: Clips, *, afresh: bool) -> None:
        """Attack these clips, each inside the budgets of its cell, from where their last attacks ended."""
        batch, threats = self.pool.subset(clips), [self.known.threats[cell] for cell in cells]
        budgets = AV(*self.known.eps[cells].T)
        threat = Threat(*threats[0].map(_PerClip.of, budgets))
        start = None if afresh else self._start(batch, threat, budgets)
        made = self.pool.attacked(clips, self.attack, threat, self.seed, start)
        rows = self.pool.judged(clips, made, threats, self.attack, self.seed)
        for ball, before, after, x, eps in zip(threat, self.ends, made, batch.x, budgets, strict=True):
            if ball.active:
                before.update(zip(batch.ids, (after - x) / _by_clip(x.new_tensor(eps.tolist()), x), strict=True))
        self.known.learn(clips, self.known.eps[cells], rows)
        self.attacks += len(clips)

    def _start(self, batch: Batch, threat: Threat, budgets: AV[Float[np.ndarray, " n"]]) -> Signals:
        """Where each clip's last attack ended, fitted to its budgets; a random place where there was none."""

        def fitted(
            ball: Ball, x: Tensor, drawn: Tensor, ends: dict[str, Tensor], eps: Float[np.ndarray, " n"]
        ) -> Tensor:
            if not ball.active:
                return drawn
            last = zip(batch.ids, x.new_tensor(eps.tolist()), drawn, strict=True)
            return ball.project(torch.stack([ends[id] * size if id in ends else d for id, size, d in last]), x)

        drawn = random_perturbation(threat, batch.x, Seeds(self.seed, batch.ids))
        return threat.map(fitted, batch.x, drawn, self.ends, budgets)


@dataclass(frozen=True, eq=False)
class _PerClip(Ball):
    """A ball of each clip's own size: `eps` is the largest, `shares` (b) are the clips' sizes as shares of it."""

    shares: Tensor | None = None

    @classmethod
    def of(cls, ball: Ball, budgets: Float[np.ndarray, " n"]) -> Ball:
        """The ball of clips that have these budgets; a plain one where all are equal, for many an attack knows no others."""
        if not ball.active:
            return ball
        eps = float(budgets.max())
        if bool((budgets == eps).all()):
            return replace(ball, eps=eps)
        shares = torch.tensor((budgets / eps).tolist())
        return cls(eps, ball.norm, ball.scale, ball.low, ball.high, shares)

    def for_clips(self, clips: Any) -> Ball:
        """The ball of some of the clips."""
        if self.shares is None:
            return self
        on = clips.to(self.shares.device) if isinstance(clips, Tensor) else clips
        return replace(self, shares=self.shares[on])

    def weight(self, x: Tensor) -> Tensor:
        """The scale, times each clip's share."""
        whole = super().weight(x)
        return whole if self.shares is None else whole * _by_clip(self.shares.to(x), x)


def _by_clip(values: Tensor, x: Tensor) -> Tensor:
    return values.view(-1, *[1] * (x.ndim - 1))


class _Known:
    """What tests have shown so far.  The first tests are the clean clips: no budget at all."""

    def __init__(self, threats: Sequence[Threat], clean: Rows) -> None:
        kinds = {(name, ball.norm, ball.scale) for t in threats for name, ball in t.items() if ball.active}
        if len(kinds) != len({name for name, *_ in kinds}) or not kinds:
            raise ValueError(
                f"expected budgets that differ by their size only, got {len(kinds)} kinds in {len(threats)} threats. "
                "Give linf budgets or L2 budgets, all of them in one unit."
            )
        self.threats = threats
        self.eps = np.array([[ball.eps for ball in t] for t in threats])  # (cells, 2)
        self.fooled: Table = np.zeros((len(clean), len(threats)), bool)
        self._test = np.full(self.fooled.shape, -1)  # the number of the test that tells; -1 where none does yet
        self._at = np.zeros((0, 2))  # the budgets of each test
        self._answers: list[Rows] = []
        self._inside = (self.eps[:, None] <= self.eps).all(2).astype(np.float32)  # cell i lies in cell j
        self.learn(np.arange(len(clean)), np.zeros((len(clean), 2)), clean)

    @property
    def decided(self) -> int:
        """How many answers are known."""
        return int((self._test >= 0).sum())

    def learn(self, clips: Clips, eps: Float[np.ndarray, "m 2"], rows: Rows) -> None:
        """Take in what came of these clips, each inside budgets of its own."""
        number = len(self._at) + np.arange(len(clips))
        self._at = np.concatenate([self._at, eps])
        self._answers.append(rows)
        size = eps * np.nan_to_num(np.stack([rows.column("used_audio"), rows.column("used_visual")], 1))
        eps = eps[:, None]
        holds = ((eps <= self.eps) | (size[:, None] <= self.eps)).all(2)  # which cells hold these very signals
        wrong = ~rows.column("correct").astype(bool)[:, None]
        here, below = (self.eps == eps).all(2), (self.eps <= eps).all(2)
        tells = np.where(wrong, holds, here | (below & (self._test[clips] < 0))) & ~self.fooled[clips]
        self._test[clips] = np.where(tells, number[:, None], self._test[clips])
        self.fooled[clips] |= wrong & holds

    def wanted(self) -> Cells:
        """The cell to try next for each clip, the one that settles most however it ends; -1 where all is known."""
        open = (self._test < 0).astype(np.float32)
        settles = np.minimum(EAGER * (open @ self._inside.T), open @ self._inside)
        settles[:, self._inside.all(0)] = np.inf  # first of all the cell that holds all others
        return np.where(open.any(1), np.where(open > 0, settles, -np.inf).argmax(1), -1)

    def drawn(self, seeds: Seeds) -> Cells:
        """For each clip a cell, at random, that it stands in by implication; -1 where there is none."""
        implied = ~self.fooled & ~self._own
        options = [np.flatnonzero(cells) for cells in implied]
        return np.array([seeds.generator(i, "recheck").choice(o) if len(o) else -1 for i, o in enumerate(options)])

    @property
    def _own(self) -> Table:
        """Whether an answer comes from a test inside the same budgets."""
        own: Table = (self._at[self._test] == self.eps).all(2)
        return own

    def rows(self, attack: str) -> pa.Table:
        """A row per threat and clip, threat by threat."""
        clips = len(self.fooled)
        test, own, fooled = (t.T.ravel() for t in (self._test, self._own, self.fooled))
        how = np.where(own, COMPUTED, np.where(fooled, FOOLED, STANDS))
        found = Rows.concat(self._answers).data.take(test)
        at, eps = self._at[test], np.repeat(self.eps, clips, 0)
        used = [
            np.nan_to_num(found[name].to_numpy()) * at[:, i] for i, name in enumerate(("used_audio", "used_visual"))
        ]
        share = [np.divide(u, e, out=np.full(len(u), np.nan), where=e > 0) for u, e in zip(used, eps.T, strict=True)]
        budgets = [t.budget.columns() for t in self.threats]
        told = {
            "attack": np.repeat([attack if t.subset != "clean" else "none" for t in self.threats], clips),
            "subset": np.repeat([t.subset for t in self.threats], clips),
            **{name: np.repeat([budget[name] for budget in budgets], clips) for name in BUDGET_COLUMNS},
            "used_audio": share[0], "used_visual": share[1],
        }  # fmt: skip
        columns = {name: pa.array(told[name]) if name in told else found[name] for name in found.column_names}
        nothing = pa.array(how == STANDS)
        for name in columns.keys() - KNOWN:
            columns[name] = pc.if_else(nothing, pa.scalar(None, columns[name].type), columns[name])
        return pa.table({**columns, "how": how})
