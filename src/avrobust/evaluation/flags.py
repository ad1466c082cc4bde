"""What looks wrong with a study, said from its rows alone.  Each flag has its section in docs/flags.md.

A flag rises on evidence, not on noise: comparisons are paired on the same clips, and where a rule looks at many
pairs its p values are corrected for their number (Holm) before they count.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from avrobust.evaluation.answers import Answers, Condition, curves, shared
from avrobust.evaluation.metrics import Paired, estimate, holm, paired, percent

Table = Mapping[Condition, Answers]
Level = Literal["note", "warning", "alarm"]

LEVELS: tuple[Level, ...] = ("alarm", "warning", "note")  # gravest first
SIGNIFICANT = 0.05
OVER_BUDGET = 1.001  # what float32 rounding may add, generously
FEW_CLIPS, TOO_FEW_CLIPS = 100, 30  # an interval of about +-10 and +-17 points at 50 %


@dataclass(frozen=True)
class Flag:
    """One thing a reader should know before believing the numbers; `name` is its heading in docs/flags.md."""

    name: str
    level: Level
    text: str


def flags(table: Table, classes: int) -> tuple[Flag, ...]:
    """All flags of a study, gravest first; `table` comes from `tabulate`, `classes` sets what chance is."""
    found = [flag for rule in RULES for flag in rule(table, classes)]
    return tuple(sorted(found, key=lambda flag: LEVELS.index(flag.level)))


def few_clips(table: Table, classes: int) -> Iterable[Flag]:
    """Intervals too wide to say much."""
    n = min((len(a.clips) for a in table.values()), default=0)
    if n < FEW_CLIPS:
        half = (estimate(np.arange(n)[None] % 2 == 0).high - 0.5) if n else math.nan
        width = f", so an accuracy near 50 % is known to ±{100 * half:.0f} points at best" if n else ""
        level: Level = "alarm" if n < TOO_FEW_CLIPS else "warning"
        yield Flag("few clips", level, f"The smallest cell has {n} clips{width}.")


def clips_unreadable(table: Table, classes: int) -> Iterable[Flag]:
    """Clips that were asked for and have no answer; they lower the count, never the accuracy."""
    if not table:
        return
    worst = max(table.values(), key=lambda a: a.listed - len(a.clips))
    missing = worst.listed - len(worst.clips)
    if missing:
        share = missing / worst.listed
        level: Level = "alarm" if share > 0.1 else "warning" if share > 0.01 else "note"
        text = f"{missing} of {worst.listed} clips have no answer ({percent(share)} %): counted {len(worst.clips)}."
        yield Flag("clips unreadable", level, text)


def clean_near_chance(table: Table, classes: int) -> Iterable[Flag]:
    """A model that has not learnt its task cannot lose anything to an attack."""
    for c, a in table.items():
        if c.subset == "clean" and (e := estimate(a["correct"])).low <= 1 / classes:
            text = f"{c.model} is right on {e} without any attack; guessing gives {percent(1 / classes)} %."
            yield Flag("clean accuracy near chance", "alarm", text)


def one_seed(table: Table, classes: int) -> Iterable[Flag]:
    """Intervals over clips do not know how much another training run would differ."""
    if table and max(len(a.seeds) for a in table.values()) == 1:
        text = "Each model was trained once. The intervals range over clips; another training run may differ by more."
        yield Flag("one seed", "note", text)


def only_single_step(table: Table, classes: int) -> Iterable[Flag]:
    """One step flatters: nothing can be called robust from FGSM alone."""
    attacks = {c.attack for c in table if c.subset != "clean"}
    if attacks and all(single_step(a) for a in attacks):
        text = f"Only single-step attacks ran ({', '.join(sorted(attacks))}). Iterative ones will leave less."
        yield Flag("only single-step attacks", "warning", text)


def single_step_beats_iterative(table: Table, classes: int) -> Iterable[Flag]:
    """More steps should never help the defender: if they do, gradients mislead the attack or it is set badly."""
    pairs = [
        (fast, slow)
        for fast in table
        for slow in table
        if single_step(fast.attack)
        and not single_step(slow.attack)
        and (fast.model, fast.subset, fast.budget) == (slow.model, slow.subset, slow.budget)
        and table[fast].mode == table[slow].mode
    ]
    for fast, slow, r in significant(table, pairs):
        text = (
            f"{fast.attack} beats {slow.attack} on {where(fast)}: it leaves {accuracy(table, fast)} % right against "
            f"{accuracy(table, slow)} % ({r})."
        )
        yield Flag("single-step beats iterative", "alarm", text)


def not_monotone(table: Table, classes: int) -> Iterable[Flag]:
    """A larger budget contains the smaller one, so it should never help the defender."""
    pairs = [
        (small, large)
        for curve in curves(table)
        for i, small in enumerate(curve)
        for large in curve[i + 1 :]
        if small.budget.eps_audio <= large.budget.eps_audio and small.budget.eps_visual <= large.budget.eps_visual
    ]
    for small, large, r in significant(table, pairs):
        text = (
            f"{large.model} under {large.attack} is right more often at the larger budget {words(large)} "
            f"({accuracy(table, large)} %) than at {words(small)} ({accuracy(table, small)} %; {r})."
        )
        yield Flag("accuracy not monotone in budget", "warning", text)


def stays_above_chance(table: Table, classes: int) -> Iterable[Flag]:
    """An attack on all that a model perceives should bring it down to guessing once the budget is large."""
    for curve in curves(table):
        last = curve[-1]
        if len(curve) < 3 or last.subset != perceives(table, last.model):
            continue
        e = estimate(table[last]["correct"])
        if e.low > 1 / classes and not single_step(last.attack):
            text = (
                f"{last.model} under {last.attack} is still right on {e} at the largest budget, {words(last)}; "
                f"guessing gives {percent(1 / classes)} %."
            )
            yield Flag("largest budget does not reach chance", "warning", text)


def left_its_budget(table: Table, classes: int) -> Iterable[Flag]:
    """An attack that goes further than it may wins unfairly; the published MIM does."""
    times: dict[tuple[str, str], dict[str, float]] = {}
    share: dict[tuple[str, str], float] = {}
    for c, a in table.items():
        key = c.attack, a.mode
        for modality in ("audio", "visual"):
            used = a[f"used_{modality}"]
            if (used > OVER_BUDGET).any():
                most = times.setdefault(key, {})
                most[modality] = max(most.get(modality, 0.0), float(np.nanmax(used)))
                share[key] = max(share.get(key, 0.0), float((used > OVER_BUDGET).mean()))
    for (attack, mode), most in times.items():
        known = mode == "published"
        far = " and ".join(f"{t:.3g} times its {modality} budget" for modality, t in most.items())
        text = (
            f"{attack} goes up to {far}, and leaves it on up to {percent(share[attack, mode])} % of the clips. "
            f"{'The published code does so; do' if known else 'Do'} not compare it with attacks that stay inside."
        )
        yield Flag("an attack left its budget", "warning" if known else "alarm", text)


def joint_weaker_than_part(table: Table, classes: int) -> Iterable[Flag]:
    """Whoever may change both modalities may also leave one alone, so both is never weaker than one."""
    pairs = [
        (part, joint)
        for joint in table
        for part in table
        if joint.subset == "AV"
        and part.subset in ("A", "V")
        and (part.model, part.attack) == (joint.model, joint.attack)
        and (part.subset == "V" or part.budget.audio == joint.budget.audio)
        and (part.subset == "A" or part.budget.visual == joint.budget.visual)
    ]
    for part, joint, r in significant(table, pairs):
        text = (
            f"{joint.attack} on both modalities of {joint.model} ({words(joint)}) leaves {accuracy(table, joint)} % right, "
            f"on {part.subset} alone {accuracy(table, part)} % ({r})."
        )
        yield Flag("joint attack weaker than its parts", "alarm", text)


def attack_did_not_move(table: Table, classes: int) -> Iterable[Flag]:
    """A clip that was right and comes back unchanged points at a gradient that is zero, not at robustness."""
    for c, a in table.items():
        for modality, letter in (("audio", "A"), ("visual", "V")):
            if letter in c.subset and c.subset != "clean" and a["correct_clean"].any():
                still = float((a[f"linf_{modality}"][a["correct_clean"]] == 0).mean())
                if still > 0.05:
                    text = f"{c.attack} left the {modality} of {percent(still)} % of the clips of {where(c)} unchanged."
                    yield Flag("attack did not move", "alarm", text)


RULES: tuple[Callable[[Table, int], Iterable[Flag]], ...] = (
    few_clips,
    clips_unreadable,
    clean_near_chance,
    one_seed,
    only_single_step,
    single_step_beats_iterative,
    not_monotone,
    stays_above_chance,
    left_its_budget,
    joint_weaker_than_part,
    attack_did_not_move,
)


def significant(table: Table, pairs: list[tuple[Condition, Condition]]) -> list[tuple[Condition, Condition, Paired]]:
    """The pairs whose second condition is right significantly more often than its first, all pairs considered."""
    results = []
    for first, second in pairs:
        a, b = shared(table[first], table[second])
        results.append(paired(b["correct"], a["correct"]))
    adjusted = holm([r.p if r.n else 1.0 for r in results])
    return [
        (*pair, r) for pair, r, p in zip(pairs, results, adjusted, strict=True) if p < SIGNIFICANT and r.difference > 0
    ]


def perceives(table: Table, model: str) -> str:
    """What a model takes in, judged by what was attacked: AV if both were at once, else the one that was."""
    subsets = {c.subset for c in table if c.model == model} - {"clean"}
    return "AV" if "AV" in subsets or len(subsets) > 1 else next(iter(subsets), "AV")


def single_step(attack: str) -> bool:
    """Whether an attack, by its name, takes one step."""
    return attack.startswith("FGSM")


def accuracy(table: Table, c: Condition) -> str:
    return percent(estimate(table[c]["correct"]).value)


def words(c: Condition) -> str:
    parts = {"A": c.budget.audio, "V": c.budget.visual, "AV": f"{c.budget.audio} and {c.budget.visual}"}
    return parts[c.subset]


def where(c: Condition) -> str:
    return f"{c.model}, {c.subset} attacked within {words(c)}"
