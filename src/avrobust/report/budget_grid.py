"""A grid of audio and visual budgets, as `avrobust grid` wrote it: its numbers, in sentences and as text."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float
from scipy import stats

from avrobust.evaluation.conditions import Condition, Predictions, tabulate
from avrobust.evaluation.flags import Evidence, Flag, flags
from avrobust.evaluation.stats import Estimate, columns, percent, proportion
from avrobust.facts import Budget, ModalityBudget
from avrobust.progress import duration
from avrobust.report.formatting import at, joined, machine, physical, size, software
from avrobust.report.load import RunError


@dataclass(frozen=True)
class Median:
    """The middle of some numbers, and its 95 % interval; inf: beyond what was tried."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, eq=False)
class GridResult:
    """The predictions at every pair of budgets.  `about` says what was asked."""

    about: Mapping[str, Any]
    table: Mapping[Condition, Predictions]

    @classmethod
    def read(cls, path: Path) -> "GridResult":
        """From the Parquet file of a grid.  Raises `RunError` when it is something else."""
        try:
            rows = pq.read_table(path)
            return cls(json.loads(rows.schema.metadata[b"avrobust"])["about"], tabulate(rows))
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}: expected the rows of a budget grid: {error}. Pass what `avrobust grid` wrote."
            ) from None

    @cached_property
    def flags(self) -> tuple[Flag, ...]:
        """What raises doubt in these numbers, gravest first."""
        known = self.about.get("evaluated", {})
        classes = known.get("classes", {})
        labels = 1 + max((int(p["label"].max()) for p in self.table.values() if p["label"].size), default=1)
        seen = max(classes.values(), default=labels)
        return flags(Evidence(self.table, seen, probes=known.get("probes", {}), classes_of=classes))

    @property
    def top(self) -> Budget:
        """Both budgets in full."""
        return max(c.budget for c in self.table)

    def share(self, budget: Budget) -> tuple[float, float]:
        """These budgets as shares of the largest (audio, visual) ones."""
        return budget.audio.eps / self.top.audio.eps, budget.visual.eps / self.top.visual.eps

    @cached_property
    def cells(self) -> list[list[Predictions]]:
        """A row for each visual budget, from 0 on, and in it the predictions for each audio budget."""
        levels = [k / self.about["levels"] for k in range(self.about["levels"] + 1)]
        place = {tuple(round(s, 9) for s in self.share(c.budget)): p for c, p in self.table.items()}
        return [[place[round(a, 9), round(v, 9)] for a in levels] for v in levels]

    def budgets(self, modality: str) -> list[ModalityBudget]:
        """The budgets of one modality, from 0 on."""
        if modality == "audio":
            return [p.condition.budget.audio for p in self.cells[0]]
        return [row[0].condition.budget.visual for row in self.cells]

    @cached_property
    def together(self) -> dict[float, Predictions]:
        """The predictions by the share of both budgets, where it is the same one, from 0 on."""
        shares = {c: self.share(c.budget) for c in self.table}
        return {a: self.table[c] for c, (a, v) in sorted(shares.items(), key=lambda i: i[1]) if math.isclose(a, v)}

    @cached_property
    def smallest(self) -> Float[np.ndarray, " n"]:
        """The smallest share of both budgets that fools each clip: 0 if it is wrong when clean, inf if none does."""
        right = np.stack([p["correct"][0] for p in self.together.values()], 1)
        shares = np.array([*self.together, math.inf])
        smallest: np.ndarray = shares[np.where(right.all(1), right.shape[1], right.argmin(1))]
        return smallest

    def correct(self) -> Bool[np.ndarray, " n"]:
        """Which clips the model classifies correctly when clean."""
        clean: np.ndarray = self.cells[0][0]["correct"][0]
        return clean


def median(values: Float[np.ndarray, " n"]) -> Median:
    """The middle value, and the 95 % interval that the ranks give (exact whatever the values' distribution).

    >>> median(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, np.inf, np.inf]))
    Median(value=0.5, low=0.2, high=inf, n=9)
    """
    n, ranked = len(values), np.sort(values)
    if not n:
        return Median(math.nan, math.nan, math.nan, 0)
    rank = int(stats.binom.ppf(0.025, n, 0.5))
    low, high = (ranked[rank - 1], ranked[n - rank]) if rank else (0.0, math.inf)
    return Median(float(ranked[(n - 1) // 2]), float(low), float(high), n)


def name(model: str) -> str:
    """A model as a heading calls it.

    >>> name("runs/quick/models/AV-0/net.safetensors"), name("my_package:model")
    ('AV-0', 'my_package:model')
    """
    return Path(model).parent.name if Path(model).stem == "net" else Path(model).name


def known(grid: GridResult) -> dict[str, int]:
    """How many predictions were computed, and how many are implied."""
    how = np.concatenate([p["how"][0] for c, p in grid.table.items() if c.subset != "clean"])
    return {name: int((how == name).sum()) for name in ("computed", "fooled", "stands")}


def checked(grid: GridResult) -> Estimate:
    """Of the implied predictions that were computed after all, how many were as implied."""
    return proportion(grid.about["checked"] - grid.about["missed"], grid.about["checked"])


def unread(grid: GridResult) -> str:
    """How many clips could not be read, as a sentence; empty if all could."""
    count = grid.about.get("unread")
    if not count:
        return ""
    return (
        f"{count} of {grid.about['listed']} clips could not be read and are not counted: "
        f"avrobust show {grid.about['prepared']}"
    )


def half(grid: GridResult) -> str:
    """At which budgets half of the correctly classified clips are fooled, as a sentence with its interval."""
    m = median(grid.smallest[grid.correct()])
    if not m.n:
        return "The model classifies no clip correctly, so there is nothing to fool."
    if math.isinf(m.value):
        return f"More than half of the {m.n} correctly classified clips withstand the full budgets: {both(grid.top)}."
    ends = "all of them, or more" if math.isinf(m.high) else f"{100 * m.high:.3g} %"
    return (
        f"Half of the {m.n} correctly classified clips are fooled at {100 * m.value:.3g} % of both budgets or less: "
        f"{both(grid.together[m.value].condition.budget)}. The 95 % interval of that share runs from "
        f"{100 * m.low:.3g} % to {ends}."
    )


def answer(grid: GridResult) -> str:
    """The page's one sentence."""
    m = median(grid.smallest[grid.correct()])
    if not m.n or math.isinf(m.value):
        return half(grid)
    return f"Half of the correctly classified clips are fooled with {both(grid.together[m.value].condition.budget)}, or less."


def both(budget: Budget) -> str:
    """Both budgets as a phrase."""
    return f"an audio budget of {physical(budget.audio, 'audio')} and a visual budget of {physical(budget.visual, 'visual')}"


def facts(grid: GridResult) -> list[tuple[str, str]]:
    """What was asked, as (name, text)."""
    about, clips = grid.about, len(grid.smallest)
    steps = f"{about['levels']} equal steps of each, and {len(grid.together) - 1} shares of both"
    cost = f"{about['attacks']:,} attacks, {about['attacks'] / clips:.1f} per clip; {duration(about['seconds'])}"
    found = [
        ("Model", str(about["model"])),
        ("Attack", str(about["attack"])),
        ("Budgets", f"up to {at('AV', grid.top)}; {steps}"),
        ("Clips", joined(f"{clips}", about.get("data"))),
        ("Seed", str(about["seed"])),
        ("Cost", cost),
        ("Machine", machine(about.get("world") or {})),
        ("Code", software(about.get("code") or {})),
    ]
    return [(name, text) for name, text in found if text]


def summary(grid: GridResult) -> str:
    """The grid in a few lines: accuracy in per cent, visual budgets upwards, audio budgets to the right."""
    audio, visual = (
        [size(budget, modality) for budget in grid.budgets(modality)[1:]] for modality in ("audio", "visual")
    )
    rows = [[f"visual, {visual[-1].unit}", "0", *(s.number for s in audio)]]
    for height, row in reversed(list(zip(["0", *(s.number for s in visual)], grid.cells, strict=True))):
        rows.append([height, *(percent(float(p["correct"].mean())) for p in row)])
    return "\n".join(
        [
            f"Robust accuracy on {len(grid.smallest)} clips, in per cent; to the right the audio budget, {audio[-1].unit}:",
            *columns(rows, right=True),
            half(grid),
            f"Of {grid.about['checked']} implied predictions that were computed after all, {grid.about['missed']} were wrong.",
            *filter(None, [unread(grid)]),
            *(f"{f.level}: {f.text}" for f in grid.flags if f.level != "note"),
        ]
    )
