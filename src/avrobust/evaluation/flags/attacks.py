"""Flags about attacks: one attack, or one budget, against another on the same clips."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from avrobust.evaluation.conditions import Predictions, curves
from avrobust.evaluation.flags.evidence import ENOUGH, MODALITIES, Evidence, Flag, budget, where
from avrobust.evaluation.stats import estimate, percent
from avrobust.facts import AttackInfo

OVER_BUDGET = 1.001  # what float32 rounding may add, generously
UNFINISHED, OVERRATED = 0.03, 0.1  # differences of accuracy that are worth a flag


def single_step_beats_iterative(seen: Evidence) -> Iterable[Flag]:
    """More steps after the same should never help the defender: otherwise gradients mislead the attack, or it is badly set."""

    def fast_and_slow(a: Predictions, b: Predictions) -> bool:
        same = (a.mode, a.info.objective, a.info.variant) == (b.mode, b.info.objective, b.info.variant)
        return same and a.info.climbs and b.info.climbs and a.info.single_step > b.info.single_step

    for fast, slow, r in seen.stronger(seen.same_task(fast_and_slow)):
        text = (
            f"{fast.attack} beats {slow.attack} on {where(fast)}: {seen.surviving(fast.model)} {seen.accuracy(fast)} against "
            f"{seen.accuracy(slow)} ({r})."
        )
        yield Flag("single-step beats iterative", "alarm", text, fast.model)


def not_monotone(seen: Evidence) -> Iterable[Flag]:
    """A larger budget contains the smaller one, so it should never help the defender."""
    pairs = [
        (small, large)
        for curve in curves(seen.table)
        for i, small in enumerate(curve)
        for large in curve[i + 1 :]
        if small.budget.audio.eps <= large.budget.audio.eps and small.budget.visual.eps <= large.budget.visual.eps
    ]
    for small, large, r in seen.stronger(pairs):
        text = (
            f"{large.model} under {large.attack} has a higher {seen.surviving(large.model)} at the larger budget {budget(large)} "
            f"({seen.accuracy(large)}) than at {budget(small)} ({seen.accuracy(small)}; {r})."
        )
        yield Flag("accuracy not monotone in budget", "warning", text, large.model)


def stays_above_chance(seen: Evidence) -> Iterable[Flag]:
    """An attack on the whole input of a model should bring it down to guessing once the budget is large."""
    for curve in curves(seen.table):
        last = curve[-1]
        info = seen.table[last].info
        strong = info.strongest or (info.climbs and not info.single_step)
        if len(curve) < 3 or not strong or last.subset != seen.input_of(last.model):
            continue
        e = estimate(seen.table[last]["correct"])
        if e.low > seen.chance(last.model):
            text = (
                f"{last.model} under {last.attack} still has a {seen.surviving(last.model)} of {e} at the largest budget, "
                f"{budget(last)}; guessing gives {percent(seen.chance(last.model))} %."
            )
            yield Flag("largest budget does not reach chance", "warning", text, last.model)


def left_its_budget(seen: Evidence) -> Iterable[Flag]:
    """An attack that exceeds its budget has an unfair advantage; the published MIM does."""
    times: dict[tuple[str, str], dict[str, float]] = {}
    share: dict[tuple[str, str], float] = {}
    for c, p in seen.table.items():
        key = c.attack, p.mode
        for modality in MODALITIES.values():
            used = p[f"used_{modality}"]
            if (used > OVER_BUDGET).any():
                most = times.setdefault(key, {})
                most[modality] = max(most.get(modality, 0.0), float(np.nanmax(used)))
                share[key] = max(share.get(key, 0.0), float((used > OVER_BUDGET).mean()))
    for (attack, mode), most in times.items():
        known = mode == "published"
        far = " and ".join(f"{t:.4g} times its {modality} budget" for modality, t in most.items())
        text = (
            f"{attack} uses up to {far}, and exceeds it on up to {percent(share[attack, mode])} % of the clips. "
            f"{'The published code does so; do' if known else 'Do'} not compare it with attacks that stay inside."
        )
        yield Flag("an attack left its budget", "warning" if known else "alarm", text)


def joint_weaker_than_part(seen: Evidence) -> Iterable[Flag]:
    """A joint attack may leave one modality alone, so it is never weaker than an attack on the other."""
    pairs = [
        (part, joint)
        for joint in seen.table
        for part in seen.table
        if joint.subset == "AV"
        and part.subset in MODALITIES
        and (part.model, part.attack) == (joint.model, joint.attack)
        and (part.subset == "V" or part.budget.audio == joint.budget.audio)
        and (part.subset == "A" or part.budget.visual == joint.budget.visual)
    ]
    for part, joint, r in seen.stronger(pairs):
        text = (
            f"{joint.attack} on both modalities of {joint.model} ({budget(joint)}) gives a {seen.surviving(joint.model)} of "
            f"{seen.accuracy(joint)}, on {MODALITIES[part.subset]} alone {seen.accuracy(part)} ({r})."
        )
        yield Flag("joint attack weaker than its parts", "alarm", text, joint.model)


def attack_did_not_move(seen: Evidence) -> Iterable[Flag]:
    """A correct clip that comes back unchanged suggests a gradient that is zero, not robustness."""
    still: dict[tuple[str, str, str, str], list[float]] = {}
    for c, p in seen.every.items():
        right, smoothed = p["correct_clean"], c in seen.smoothed
        if smoothed and np.isfinite(p["reach"].astype(float)).any():  # a certificate, which attacks nothing
            continue
        for part, modality in MODALITIES.items():
            if c.subset == "clean" or part not in c.subset or not right.any() or seen.ignores(c.model, modality):
                continue
            if getattr(c.budget, modality).in_time:  # the clean clip may be the worst of all delays
                continue
            unmoved = p[f"linf_{modality}"] == 0
            if smoothed:  # which may get wrong already what the model itself gets right
                unmoved = unmoved & p["correct"]
            if (share := float(unmoved[right].mean())) > ENOUGH:
                still.setdefault((c.model, seen.model_of(c), c.attack, modality), []).append(share)
    for (model, about, attack, modality), shares in still.items():
        text = (
            f"{attack} left the {modality} input unchanged on up to {percent(max(shares))} % of the clips that {model} "
            f"{'classifies correctly' if seen.measured(model).chance else 'gets right'}, under {len(shares)} budget{'s' if len(shares) > 1 else ''}."
        )
        yield Flag("attack did not move", "alarm", text, about)


def gradient_free_beats_gradients(seen: Evidence) -> Iterable[Flag]:
    """A search without gradients has no advantage, unless gradients are useless."""
    pairs = seen.same_task(lambda blind, slope: blind.info.search == "queries" and slope.info.climbs)
    for blind, slope, r in seen.stronger(pairs):
        text = (
            f"{blind.attack}, which uses no gradient, beats {slope.attack} on {where(blind)}: {seen.surviving(blind.model)} "
            f"{seen.accuracy(blind)} against {seen.accuracy(slope)} ({r})."
        )
        yield Flag("gradient-free beats gradient-based", "alarm", text, blind.model)


def transfer_beats_white_box(seen: Evidence) -> Iterable[Flag]:
    """Clips crafted on another model should fool this one less often than clips crafted on it."""

    def foreign_and_own(a: Predictions, b: Predictions) -> bool:
        return bool(a.info.source) and a.mode == b.mode and replace(a.info, source="") == b.info

    for foreign, own, r in seen.stronger(seen.same_task(foreign_and_own)):
        text = (
            f"{foreign.attack} beats {own.attack} on {where(own)}: {seen.surviving(own.model)} {seen.accuracy(foreign)} against "
            f"{seen.accuracy(own)} ({r})."
        )
        yield Flag("transfer beats white-box", "alarm", text, own.model)


def steps_ran_out(seen: Evidence) -> Iterable[Flag]:
    """If the same search finds many more clips with more steps, it was stopped too early."""
    pairs = seen.same_task(lambda a, b: a.mode == b.mode and longer(a.info, b.info))
    for long, short, r in seen.stronger(pairs, UNFINISHED):
        text = (
            f"{long.attack} gives a {seen.surviving(long.model)} of {seen.accuracy(long)} on {where(long)}, {short.attack} "
            f"{seen.accuracy(short)} ({r}): the loss of the shorter search was still rising."
        )
        yield Flag("steps ran out", "warning", text, long.model)


def adaptive_beats_plain(seen: Evidence) -> Iterable[Flag]:
    """Robustness to an attack that ignores the defense is not robustness to one that adapts to it."""

    def strongest_and_plain(a: Predictions, b: Predictions) -> bool:
        return a.info.strongest and b.info.climbs and not b.info.single_step

    for strongest, plain, r in seen.stronger(seen.same_task(strongest_and_plain), OVERRATED):
        text = (
            f"{plain.attack} gives a {seen.surviving(plain.model)} of {seen.accuracy(plain)} on {where(plain)}, {strongest.attack} "
            f"{seen.accuracy(strongest)} ({r})."
        )
        yield Flag("overrated by a plain attack", "warning", text, plain.model)


def longer(long: AttackInfo, short: AttackInfo) -> bool:
    """Whether two attacks are one with more and with fewer steps.

    >>> pgd, mim = AttackInfo("PGD", 10), AttackInfo("MIM", 10)
    >>> longer(replace(pgd, steps=100), pgd), longer(replace(pgd, steps=100), mim), longer(pgd, pgd)
    (True, False, False)
    """
    return bool(short.family) and long.steps > short.steps and replace(long, steps=short.steps) == short
