"""Robust accuracy over audio budget x visual budget, and the smallest joint budget of each clip, for a few cells' work.

Signals that fool a model fool it inside every budget that holds them.  So each clip has a frontier: budgets on one side
fool it, budgets on the other do not, and a handful of attacks finds where it runs.  The rest is implied:

    fooled    exact: the very signals that fooled the clip lie inside this budget too
    stands    as good as the search: an attack inside a larger budget failed

Clips that are to be tried at the same budgets go together, whichever batch they came in, so that batches stay full.
"""

import copy
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from avrobust.attacks import engine
from avrobust.evaluation.record import Rows
from avrobust.evaluation.run import Subject, label
from avrobust.seeds import Seeds
from avrobust.threat import Ball, Threat
from avrobust.types import AV, Attack, Batch, Model, Signals

T = TypeVar("T")
Table = Bool[np.ndarray, "n c"]  # clips x cells
Clips = Int[np.ndarray, " m"]  # their numbers
COMPUTED, FOOLED, STANDS = "computed", "fooled", "stands"  # how an answer is known
# What an attack leaves behind; nothing is known of it where none was run.
MEASURED = (
    "pred", "margin", "linf_audio", "linf_visual", "l2_audio", "l2_visual", "used_audio", "used_visual", "snr_db", "psnr_db",
)  # fmt: skip
# A clip that stands costs the whole search, one that falls a part of it: so try budgets where it is likelier to fall.
EAGER = 2.0
WARM = True


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


class Pool(Subject):
    """A subject of which any clips can be taken, from whichever batches they came."""

    def __init__(
        self, model: Model, batches: Iterable[Batch], *, name: str = "model", precision: engine.Precision = "auto"
    ) -> None:
        self._all = list(batches)
        super().__init__(model, self._all, name=name, precision=precision)
        self._places = [(b, row) for b, batch in enumerate(self._all) for row in range(len(batch))]
        self.ids = tuple(id for batch in self._all for id in batch.ids)
        if len(set(self.ids)) < len(self.ids):
            twice = next(id for id in self.ids if self.ids.count(id) > 1)
            raise ValueError(f"clip id '{twice}' stands in two batches. Ids name clips: give each its own.")
        self.room = max(map(len, self._all))  # as many clips at once as in the largest batch that was given

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, clips: Clips) -> Subject:
        """These clips in one batch, with what is known of them already."""
        places = [self._places[clip] for clip in clips.tolist()]

        def rows(parts: Sequence[Tensor]) -> Tensor:
            return torch.stack([parts[b][row] for b, row in places])

        def each(parts: Sequence[AV[Tensor]]) -> AV[Tensor]:
            return AV(audio=rows([p.audio for p in parts]), visual=rows([p.visual for p in parts]))

        def known(models: Sequence[Model]) -> Model:
            clean = [m.clean for m in models if isinstance(m, engine.Streams) and m.clean is not None]
            return replace(models[0], clean=each(clean)) if isinstance(models[0], engine.Streams) else models[0]

        ids = tuple(self._all[b].ids[row] for b, row in places)
        some = copy.copy(self)
        some._batches = [Batch(each([b.x for b in self._all]), rows([b.label for b in self._all]), ids)]
        some._clean = [rows(self._clean)]
        some._judges, some._crafts = [known(self._judges)], [known(self._crafts)]
        return some


@dataclass(frozen=True, eq=False)
class Found:
    """Every clip under every threat: `rows` with one more column, `how`.

    `tests` counts the attacks that were run, a clip each.  Of the implied answers, `checked` were tried after all, one
    per clip that stands somewhere, drawn at random; `missed` of them fell.
    """

    rows: pa.Table
    tests: int
    checked: int
    missed: int

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """To a Parquet file, whole or not at all; `about` goes into its metadata."""
        told = {"about": dict(about) | {name: getattr(self, name) for name in ("tests", "checked", "missed")}}
        half = path.with_name(f".{path.name}")
        pq.write_table(self.rows.replace_schema_metadata({"avrobust": json.dumps(told)}), half)
        half.replace(path)


def frontiers(
    pool: Pool,
    attack: Attack,
    threats: Iterable[Threat],
    *,
    seed: int = 0,
    check: bool = True,
    advance: Callable[[int], object] = lambda decided: None,
) -> Found:
    """Whether each clip stands in each of these threats, whatever their order: a plane, a curve, a ladder, or all of them.

    A computed answer is the attack's own, with nothing carried over.  An attack that can stop once a clip is wrong does.
    `check` tries one implied answer per clip, and what it finds counts.  Results depend on (seed, clip), not on which
    clips happen to go together.

    >>> from avrobust.attacks import FGSM
    >>> model = lambda x: torch.stack([x.audio.mean(1), x.visual.mean((1, 2, 3, 4)) - 0.5], 1)
    >>> x = AV(audio=torch.full((2, 8), 0.009), visual=torch.full((2, 1, 3, 2, 2), 0.5))
    >>> pool = Pool(model, [Batch(x, torch.tensor([0, 1]))])
    >>> found = frontiers(pool, FGSM(), [Threat.linf(audio=0.002 * k) for k in range(1, 9)])
    >>> Rows(found.rows).where(clip="0").column("correct").tolist(), found.tests
    ([True, True, True, True, False, False, False, False], 4)
    """
    if getattr(attack, "may_leave_budget", False):
        raise ValueError(
            f"expected an attack that stays in its budget, got {label(attack)}. What it finds says nothing of larger ones."
        )
    attack = replace(attack, stop=True) if hasattr(attack, "stop") else attack  # type: ignore[type-var]
    known = _Known(tuple(dict.fromkeys(threats)), pool.clean(seed))
    advance(known.decided)

    def run(attack: Attack, cell: int, clips: Clips) -> None:
        before = known.decided
        known.learn(clips, known.eps[cell], pool.take(clips).under(attack, known.threats[cell], seed))
        advance(known.decided - before)

    warm = Warm(attack) if WARM else attack

    while (wanted := known.wanted()).any():
        # The budgets that most clips wait for: batches stay full, and what a clip gets does not depend on when.
        cell = int(wanted.sum(0).argmax())
        run(warm, cell, np.flatnonzero(wanted[:, cell])[: pool.room])
    drawn = known.drawn(Seeds(seed, pool.ids)) if check else np.zeros_like(known.fooled)
    for cell in np.flatnonzero(drawn.any(0)).tolist():
        clips = np.flatnonzero(drawn[:, cell])
        for first in range(0, len(clips), pool.room):
            run(attack, cell, clips[first : first + pool.room])
    return Found(known.rows(label(attack)), known.tests, int(drawn.sum()), int((drawn & known.fooled).sum()))


@dataclass(frozen=True)
class Warm:
    """`attack`, whose searches that begin somewhere random begin where the clip's last one ended, fitted to this budget.

    What was found inside other budgets is stretched or shrunk to this one.  It is remembered clip by clip, so what a
    clip gets does not depend on others.  Restarts after the first begin at random, and so does what is not a search.
    """

    attack: Attack
    ends: AV[dict[str, Tensor]] = field(default_factory=lambda: AV(audio={}, visual={}))  # as shares of the budget

    @property
    def name(self) -> str:
        """How a table calls it."""
        return label(self.attack)

    @property
    def mode(self) -> str:
        """As the attack's."""
        return str(getattr(self.attack, "mode", "corrected"))

    def __call__(self, model: Model, x: Signals, y: Tensor, threat: Threat, seeds: Seeds) -> Signals:
        """Adversarial signals inside `threat`, shaped as `x`."""
        begun = Threat(*threat.map(_begun, self.ends))
        adversarial = self.attack(model, x, y, begun, seeds)

        def remember(ball: Ball, ends: dict[str, Tensor], a: Tensor, s: Tensor) -> None:
            if ball.active:
                ends.update(zip(seeds.ids, (a - s) / ball.eps, strict=True))

        threat.map(remember, self.ends, adversarial, x)
        return adversarial


@dataclass(frozen=True)
class _Begun(Ball):
    """A ball that knows where each clip's search begins."""

    ends: Mapping[str, Tensor] = field(default_factory=dict, compare=False, repr=False)

    def random(self, x: Tensor, seeds: Seeds, *purpose: object) -> Tensor:
        drawn = super().random(x, seeds, *purpose)
        if purpose[:1] != ("start",) or purpose[-1] != 0:
            return drawn
        begun = [self.ends[id] * self.eps if id in self.ends else d for id, d in zip(seeds.ids, drawn, strict=True)]
        return self.project(torch.stack(begun), x)


def _begun(ball: Ball, ends: Mapping[str, Tensor]) -> Ball:
    return _Begun(ball.eps, ball.norm, ball.scale, ball.low, ball.high, ends)


class _Known:
    """What tests have shown so far.  The first tests are the clean clips: no budget at all."""

    def __init__(self, threats: Sequence[Threat], clean: Rows) -> None:
        kinds = {tuple((ball.norm, ball.scale) for ball in t if ball.active) for t in threats if t.subset == "AV"}
        if not threats or len(kinds) > 1:
            raise ValueError(
                f"expected threats of one kind, whose budgets differ by their size only; got {len(kinds)} kinds."
            )
        self.threats = threats
        self.eps = np.array([[ball.eps for ball in t] for t in threats])  # (cells, 2)
        self.fooled: Table = np.zeros((len(clean), len(threats)), bool)
        self._test = np.full(self.fooled.shape, -1)  # the number of the test that tells; -1 where none does yet
        self._at = np.zeros((0, 2))  # the budgets of each test
        self._answers: list[Rows] = []
        self._inside = (self.eps[:, None] <= self.eps).all(2).astype(np.float32)  # cell i lies in cell j
        self.learn(np.arange(len(clean)), np.zeros(2), clean)

    @property
    def tests(self) -> int:
        """How many attacks were run, a clip each."""
        return len(self._at) - len(self.fooled)

    @property
    def decided(self) -> int:
        """How many answers are known."""
        return int((self._test >= 0).sum())

    def learn(self, clips: Clips, eps: np.ndarray, rows: Rows) -> None:
        """Take in what came of these clips inside these budgets."""
        number = len(self._at) + np.arange(len(clips))
        self._at = np.concatenate([self._at, np.broadcast_to(eps, (len(clips), 2))])
        self._answers.append(rows)
        size = eps * np.nan_to_num(np.stack([rows.column("used_audio"), rows.column("used_visual")], 1))
        holds = ((eps <= self.eps) | (size[:, None] <= self.eps)).all(
            2
        )  # (clips, cells): these very signals are allowed
        wrong = ~rows.column("correct").astype(bool)[:, None]
        here, below = (self.eps == eps).all(1), (self.eps <= eps).all(1)
        tells = np.where(wrong, holds, here | (below & (self._test[clips] < 0))) & ~self.fooled[clips]
        self._test[clips] = np.where(tells, number[:, None], self._test[clips])
        self.fooled[clips] |= wrong & holds

    def wanted(self) -> Table:
        """For each clip with open answers, the budgets to try next: those that settle most, however it ends."""
        open = (self._test < 0).astype(np.float32)
        settles = np.minimum(EAGER * (open @ self._inside.T), open @ self._inside) * open
        settles = np.where(
            self._inside.all(0) & (open > 0), np.inf, settles
        )  # first of all the budgets that hold all others
        best = settles.argmax(1)
        wanted: Table = (np.arange(len(self.eps)) == best[:, None]) & (open.sum(1) > 0)[:, None]
        return wanted

    def drawn(self, seeds: Seeds) -> Table:
        """One of each clip's answers that only the failure inside larger budgets speaks for, drawn at random."""
        implied = ~self.fooled & ~self._own
        drawn: Table = np.zeros_like(implied)
        for clip in np.flatnonzero(implied.any(1)).tolist():
            drawn[clip, seeds.generator(clip, "check").choice(np.flatnonzero(implied[clip]))] = True
        return drawn

    @property
    def _own(self) -> Table:
        """Whether an answer comes from a test inside the same budgets."""
        own: Table = (self._at[self._test] == self.eps).all(2)
        return own

    def rows(self, attack: str) -> pa.Table:
        """A row per threat and clip, threat by threat."""
        clips, cells = self.fooled.shape
        order = self._test.T.ravel()
        how = np.where(self._own, COMPUTED, np.where(self.fooled, FOOLED, STANDS)).T.ravel()
        data = Rows.concat(self._answers).data.take(order)
        cell = np.repeat(np.arange(cells), clips)
        told = {
            "attack": [attack if t.subset != "clean" else "none" for t in self.threats],
            "subset": [t.subset for t in self.threats], "threat": [str(t) for t in self.threats],
            "eps_audio": self.eps[:, 0], "eps_visual": self.eps[:, 1],
        }  # fmt: skip
        columns = {name: data[name] for name in data.column_names}
        columns |= {name: pa.array(np.asarray(values)[cell]) for name, values in told.items()}
        for i, name in enumerate(("used_audio", "used_visual")):
            size = self._at[order, i] * np.nan_to_num(columns[name].to_numpy(zero_copy_only=False))
            with np.errstate(invalid="ignore"):
                columns[name] = pa.array(
                    np.where(
                        self.eps[cell, i] > 0, size / np.where(self.eps[cell, i] > 0, self.eps[cell, i], 1), np.nan
                    ),
                    from_pandas=False,
                )
        unknown = pa.array(how == STANDS)  # how wrong it could be made there was not tried
        for name in MEASURED:
            columns[name] = pc.if_else(unknown, pa.scalar(None, columns[name].type), columns[name])
        return pa.table(columns).append_column("how", pa.array(how))
