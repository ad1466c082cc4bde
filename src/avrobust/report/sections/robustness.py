"""Table 3 read twice: under FGSM, as the paper measured its defenses, and under the worst case over all that was tried."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, Paired, clips_needed, estimate, paired
from avrobust.report.comparisons import mean_attacked
from avrobust.report.load import SUBSETS, Level, Run

Stands = Literal["stands", "falls", "not to be believed", "undecided", "what it is measured by"]
POINTS = 0.03  # a difference that people care about


@dataclass(frozen=True)
class Row:
    """One defense.  `weak` and `strong`: the means of A, V and AV under FGSM and in the worst case.

    `gap` is `strong` minus that of the model it is measured by, its interval and p adjusted alike for the table (a
    family), `needed` the clips that would show a difference of `POINTS`.  `alarms` are the flags that say that its numbers do not mean what they seem.
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
    def verdict(self) -> Stands:
        """In a word.  "falls": it is worse, or the interval of what it adds ends below `POINTS`."""
        if self.alarms:
            return "not to be believed"
        if self.gap is None:
            return "what it is measured by"
        if self.gap.low > 0:
            return "stands"
        return "falls" if self.gap.high < POINTS else "undecided"


@dataclass(frozen=True)
class Table:
    """One set of budgets; `against` is the model that defenses are measured by, `attacks` what the worst case is over."""

    level: Level
    against: str
    attacks: tuple[str, ...]
    rows: tuple[Row, ...]
    points: float = POINTS

    @property
    def words(self) -> str:
        """Which defenses stand, as a sentence."""
        stand = [r.model for r in self.rows if r.verdict == "stands"]
        tried = [r for r in self.rows if r.gap is not None and r.gap.n]
        if not stand:
            return (
                f"None of these {len(tried)} defenses is shown to be more robust than {self.against} in the worst case."
            )
        names = " and ".join([", ".join(stand[:-1]), stand[-1]] if len(stand) > 1 else stand)
        return (
            f"Of {len(tried)} defenses, {len(stand)} stand{'s' if len(stand) == 1 else ''} in the worst case: {names}."
        )


def tables(run: Run) -> list[Table]:
    """A table per set of budgets at which the strongest attack met two models; empty where it met none."""
    return [table for level in run.defense_levels() if set(level) == set(SUBSETS) and (table := _table(run, level))]


def _table(run: Run, level: Level) -> Table | None:
    strongest = next((attack for attack in run.modes if run.infos[attack].strongest), None)
    weak = next((a for a in run.modes if run.method(a) == "FGSM" and run.usual(a)), "")
    met = [m for m in run.defenses() if strongest and run.attacked(m, strongest, "AV", level["AV"]) is not None]
    if len(met) < 2:
        return None
    worst = dict(
        zip(
            [(m, s) for m in met for s in SUBSETS],
            run.worst([(m, s, level[s]) for m in met for s in SUBSETS]),
            strict=True,
        )
    )
    strong = {m: mean_attacked([worst[m, s] for s in SUBSETS]) for m in met}
    against = _against(run, met)
    alarms = {m: tuple(dict.fromkeys(f.name for f in run.flags() if f.level == "alarm" and f.model == m)) for m in met}
    gaps = {m: _gap(strong[m], strong[against]) for m in met if m not in (against, run.model("AV"))}
    # Of a run that is still going, some have no clip in common yet.
    compared = {m: g for m, g in gaps.items() if g[0].size}
    rows = tuple(
        Row(
            model=m,
            clean=_right(run.clean(m)),
            weak=_right(mean_attacked([run.attacked(m, weak, s, level[s]) for s in SUBSETS])),
            worst={s: _right(worst[m, s]) for s in SUBSETS},
            strong=_right(strong[m]),
            gap=paired(*gaps[m]).as_one_of(len(compared)) if m in gaps else None,
            needed=clips_needed(gaps[m][0] - gaps[m][1], POINTS, m=len(compared)) if m in compared else 0,
            alarms=alarms[m],
        )
        for m in met
    )
    return Table(level, against, tuple(a for a in run.modes if _ran(run, a, met, level)), rows)


def _against(run: Run, met: list[str]) -> str:
    """The baseline of the study: what a defense gains beyond it is its own."""
    baseline = run.role("baseline")
    return baseline if baseline in met else met[0]


def _ran(run: Run, attack: str, met: list[str], level: Level) -> bool:
    every = [run.attacked(m, attack, s, level[s]) for m in met for s in SUBSETS]
    return attack not in run.outside and all(a is not None for a in every)


def _gap(high: Predictions | None, low: Predictions | None) -> tuple[np.ndarray, np.ndarray]:
    if high is None or low is None:
        return np.zeros((0, 0)), np.zeros((0, 0))
    a, b = shared(high, low)
    return a["correct"].astype(float), b["correct"].astype(float)


def _right(answers: Predictions | None) -> Estimate:
    return MISSING if answers is None else estimate(answers["correct"].astype(float))
