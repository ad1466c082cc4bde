"""A verdict on each defense: under FGSM, and in the worst case over every attack that ran on all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from avrobust.evaluation.comparison import Paired, clips_needed, paired
from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import Estimate
from avrobust.report import charts
from avrobust.report.claims import mean_attacked
from avrobust.report.figures import Figure
from avrobust.report.formatting import ATTACKED, anchor, budgets, joined, listing
from avrobust.report.measured import accuracy, heading
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Table, points, share, table

Verdict = Literal["more robust", "not more robust", "not reliable", "undecided", "baseline"]
POINTS = 0.03  # a difference that people care about
NAMED = 3  # so many are named in a sentence


@dataclass(frozen=True)
class Row:
    """One defense.  `weak` and `strong`: the means of A, V and AV under FGSM and in the worst case.

    `gap` is `strong` minus that of the baseline, its interval and p adjusted alike for the table (a family), `needed`
    the clips that would show a difference of `POINTS`.  `alarms` are the flags that say that its numbers do not mean
    what they seem.
    """

    model: str
    clean: Estimate
    weak: Estimate
    worst: dict[str, Estimate]
    strong: Estimate
    gap: Paired | None
    needed: int
    alarms: tuple[str, ...]

    @property
    def verdict(self) -> Verdict:
        """In a word.  "not more robust": it is worse, or the interval of its gain ends below `POINTS`."""
        if self.alarms:
            return "not reliable"
        if self.gap is None:
            return "baseline"
        if self.gap.low > 0:
            return "more robust"
        return "not more robust" if self.gap.high < POINTS else "undecided"


@dataclass(frozen=True)
class DefenseTable:
    """One set of budgets; `baseline` is the model that defenses are compared with, `attacks` those of the worst case."""

    level: Level
    heading: str
    baseline: str
    attacks: tuple[str, ...]
    rows: tuple[Row, ...]
    points: float = POINTS

    @property
    def words(self) -> str:
        """Which defenses are more robust, as a sentence."""
        robust = [r for r in self.rows if r.verdict == "more robust"]
        tried = len([r for r in self.rows if r.gap is not None and r.gap.n])
        if not robust:
            return f"None of the {tried} defenses is shown to be more robust than {self.baseline} in the worst case."
        verb = "is" if len(robust) == 1 else "are"
        best = max(robust, key=lambda r: r.strong.value)
        which = (
            f": {listing([r.model for r in robust])}"
            if len(robust) <= NAMED
            else f", most of all {best.model} ({best.strong})"
        )
        return f"Of {tried} defenses, {len(robust)} {verb} more robust than {self.baseline} in the worst case{which}."


@lru_cache(maxsize=2)  # the headline and the section ask for the same
def tables(run: Run) -> list[DefenseTable]:
    """A table per set of budgets at which the strongest attack met two models; empty where it met none."""
    return [table for level in run.defense_levels if set(level) == set(SUBSETS) and (table := _table(run, level))]


def _table(run: Run, level: Level) -> DefenseTable | None:
    strongest = next((attack for attack, info in run.infos.items() if info.strongest), None)
    weak = next((a for a, info in run.infos.items() if info.plain and info.family == "FGSM"), "")
    met = [m for m in run.defenses if strongest and run.attacked(m, strongest, "AV", level["AV"]) is not None]
    if len(met) < 2:
        return None
    conditions = [(m, s) for m in met for s in SUBSETS]
    wanted = [(m, s, level[s]) for m, s in conditions]
    worst = dict(zip(conditions, run.worst_case(wanted), strict=True))
    strong = {m: mean_attacked([worst[m, s] for s in SUBSETS]) for m in met}
    baseline = _baseline(run, met)
    gaps = {m: _gap(strong[m], strong[baseline]) for m in met if m not in (baseline, run.model("AV"))}
    # Of a run that is still going, some have no clip in common yet.
    compared = {m: g for m, g in gaps.items() if g[0].size}
    rows = tuple(
        Row(
            model=m,
            clean=accuracy(run.clean(m)),
            weak=accuracy(mean_attacked([run.attacked(m, weak, s, level[s]) for s in SUBSETS])),
            worst={s: accuracy(worst[m, s]) for s in SUBSETS},
            strong=accuracy(strong[m]),
            gap=paired(*gaps[m]).as_one_of(len(compared)) if m in gaps else None,
            needed=clips_needed(gaps[m][0] - gaps[m][1], POINTS, m=len(compared)) if m in compared else 0,
            alarms=tuple(dict.fromkeys(f.name for f in run.flags if f.level == "alarm" and f.model == m)),
        )
        for m in met
    )
    inside = [a for a in run.infos if a not in run.over_budget]
    attacks = tuple(a for a in inside if all(run.attacked(m, a, s, b) is not None for m, s, b in wanted))
    return DefenseTable(level, heading(run, level, defenses=True), baseline, attacks, rows)


def _baseline(run: Run, met: list[str]) -> str:
    """The baseline of the study: what a defense gains beyond it is its own."""
    baseline = run.role("baseline")
    return baseline if baseline in met else met[0]


def _gap(high: Predictions | None, low: Predictions | None) -> tuple[np.ndarray, np.ndarray]:
    if high is None or low is None:
        return np.zeros((0, 0)), np.zeros((0, 0))
    a, b = shared(high, low)
    return a["correct"].astype(float), b["correct"].astype(float)


def figure(table: DefenseTable) -> Figure:
    """The models of a table: clean accuracy, and the worst case by attacked modality."""
    look = charts.by_condition(("clean", *SUBSETS))
    rows = [
        {"model": row.model, "attacked": ATTACKED[subset]} | charts.shares(e)
        for row in table.rows
        for subset, e in {"clean": row.clean, **row.worst}.items()
    ]
    title = "Clean accuracy and the worst case over attacks"
    return Figure(
        anchor(f"defenses {table.heading}"),
        title,
        f"{title}, by model and attacked modality. {table.words}",
        rows,
        charts.bars("model", "attacked", look, ["model", "attacked", *charts.SHARES, "clips"]),
        charts.bars_size(len(table.rows), len(look)),
        f"{title} ({listing(table.attacks)}), by model and attacked modality; lines are 95 % intervals.",
    )


def data(run: Run) -> Mapping[str, Any] | None:
    found = tables(run)
    return {"tables": [(t, verdicts(t), figure(t)) for t in found], "result": found[0].words} if found else None


def verdicts(found: DefenseTable) -> Table:
    """A row per defense: its accuracies, its gain over the baseline and the verdict."""
    gain = f"Gain over {found.baseline}, points"
    heads: list[str | Column] = [
        "Model", "Clean accuracy", "FGSM, mean", "Worst case, mean", *(Column(ATTACKED[s], "Worst case") for s in SUBSETS),
        gain, "Verdict",
    ]  # fmt: skip
    body: list[Line] = []
    for r in found.rows:
        why = r.alarms
        if r.verdict == "undecided" and r.needed:
            why = (f"{r.needed:,} clips would show {100 * found.points:.0f} points",)
        shown = share(r.clean), share(r.weak), share(r.strong, role="strong"), *(share(r.worst[s]) for s in SUBSETS)
        body.append([r.model, *shown, points(r.gap, p=True), Cell(r.verdict, why)])
    title = joined("Which defense is more robust", found.heading.lower())
    return table(title, heads, body, above=budgets(found.level))


SECTION = Section("robustness", "Which defense is more robust", data)
