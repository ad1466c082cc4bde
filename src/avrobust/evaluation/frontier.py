"""Which budgets fool each clip, as far as attacks inside some of them imply: the frontier between the two kinds.

Signals that fool a model fool it inside every budget that holds them.  So each answer is known in one of three ways:

    computed   an attack inside this very budget
    fooled     exact: the very signals that fooled the clip lie inside this budget too
    stands     as good as the search: an attack inside a larger budget failed
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from avrobust.evaluation.schema import Rows
from avrobust.facts import BUDGET_COLUMNS
from avrobust.seeds import Seeds
from avrobust.threat import Threat

Table = Bool[np.ndarray, "n c"]  # clips x cells
Clips = Int[np.ndarray, " m"]  # numbers of some clips
Cells = Int[np.ndarray, " n"]  # a cell's number for each clip, -1 for none
COMPUTED, FOOLED, STANDS = "computed", "fooled", "stands"
# Of rows that nothing was run for, no more than this is known.
KNOWN = {
    "model", "seed", "attack", "mode", "subset", *BUDGET_COLUMNS, "clip", "label", "status",
    "pred_clean", "margin_clean", "correct_clean", "correct",
}  # fmt: skip
# A clip that stands costs the whole search and one that falls a part of it, so budgets are tried where it likelier falls.
EAGER = 3.0


class Frontiers:
    """What the attacks so far show about every clip and cell.  The first row of each clip is its clean one: no budget at all."""

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
        columns = {
            name: pa.array(told[name], found.schema.field(name).type) if name in told else found[name]
            for name in found.column_names
        }
        nothing = pa.array(how == STANDS)
        for name in columns.keys() - KNOWN:
            columns[name] = pc.if_else(nothing, pa.scalar(None, columns[name].type), columns[name])
        return pa.table({**columns, "how": how})
