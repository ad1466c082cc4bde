"""What looks wrong with a study, said from its rows and from probes of its models.

Each flag has its section in docs/flags.md.

A flag rises on evidence, not on noise: comparisons are paired on the same clips, and where a rule looks at many
pairs its p values are corrected for their number (Holm) before they count.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from avrobust.evaluation.conditions import Condition, Predictions, curves, shared
from avrobust.evaluation.stats import Estimate, Paired, estimate, holm, paired, percent, wilson
from avrobust.facts import AttackInfo

Table = Mapping[Condition, Predictions]
Level = Literal["note", "warning", "alarm"]

LEVELS: tuple[Level, ...] = ("alarm", "warning", "note")  # gravest first
SIGNIFICANT = 0.05
OVER_BUDGET = 1.001  # what float32 rounding may add, generously
UNFINISHED, OVERRATED = 0.03, 0.1  # points of accuracy that are worth a word
IGNORED = 0.1  # of the answers; a modality that decides fewer is hardly used
ENOUGH = 0.05  # of the clips, without a gradient or unmoved
WEAKER = 0.9  # of the margin that float32 gains
SENSE = {"A": "sound", "V": "picture"}
FEW_CLIPS, TOO_FEW_CLIPS = 100, 30  # an interval of about +-10 and +-17 points at 50 %


@dataclass(frozen=True)
class Flag:
    """One thing a reader should know before believing the numbers; `name` is its heading in docs/flags.md.

    `model` is the one that it is about, "" where it is about the study.
    """

    name: str
    level: Level
    text: str
    model: str = ""


@dataclass(frozen=True)
class Evidence:
    """What rules look at: all attacked and clean answers, and how many `classes` set what chance is.

    `controls` are the answers to clips that no attacker made; `baselines` what answers without looking are worth, see
    `localisation.baselines`.  By model: `probes`, what `probe.probe` found, and
    `kinds`, what it perceives: "AV", "A" or "V".
    """

    table: Table
    classes: int
    controls: Table = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def info(self, condition: Condition) -> AttackInfo:
        """What is known of the attack of a condition."""
        return self.table[condition].info


def flags(seen: Evidence) -> tuple[Flag, ...]:
    """All flags of a study, gravest first."""
    found = [flag for rule in RULES for flag in rule(seen)]
    return tuple(sorted(found, key=lambda flag: LEVELS.index(flag.level)))


def few_clips(seen: Evidence) -> Iterable[Flag]:
    """Intervals too wide to say much."""
    n = min((len(a.clips) for a in seen.table.values()), default=0)
    if n < FEW_CLIPS:
        half = (estimate(np.arange(n)[None] % 2 == 0).high - 0.5) if n else math.nan
        width = f", so an accuracy near 50 % is known to ±{100 * half:.0f} points at best" if n else ""
        level: Level = "alarm" if n < TOO_FEW_CLIPS else "warning"
        yield Flag("few clips", level, f"The smallest cell has {n} clips{width}.")


def clips_unreadable(seen: Evidence) -> Iterable[Flag]:
    """Clips that were asked for and have no answer; they lower the count, never the accuracy."""
    if not seen.table:
        return
    worst = max(seen.table.values(), key=lambda a: a.listed - len(a.clips))
    missing = worst.listed - len(worst.clips)
    if missing:
        share = missing / worst.listed
        level: Level = "alarm" if share > 0.1 else "warning" if share > 0.01 else "note"
        text = f"{missing} of {worst.listed} clips have no answer ({percent(share)} %): counted {len(worst.clips)}."
        yield Flag("clips unreadable", level, text)


def clean_near_chance(seen: Evidence) -> Iterable[Flag]:
    """A model that has not learnt its task cannot lose anything to an attack."""
    for c, a in seen.table.items():
        if c.subset == "clean" and (e := estimate(a["correct"])).low <= 1 / seen.classes:
            text = f"{c.model} is right on {e} without any attack; guessing gives {percent(1 / seen.classes)} %."
            yield Flag("clean accuracy near chance", "alarm", text, c.model)


def one_seed(seen: Evidence) -> Iterable[Flag]:
    """Intervals over clips do not know how much another training run would differ."""
    if seen.table and max(len(a.seeds) for a in seen.table.values()) == 1:
        text = "Each model was trained once. The intervals range over clips; another training run may differ by more."
        yield Flag("one seed", "note", text)


def only_single_step(seen: Evidence) -> Iterable[Flag]:
    """One step flatters: nothing can be called robust from FGSM alone."""
    attacks = {c.attack: a.info.single_step for c, a in seen.table.items() if c.subset != "clean"}
    if attacks and all(attacks.values()):
        text = f"Only single-step attacks ran ({', '.join(sorted(attacks))}). Iterative ones will leave less."
        yield Flag("only single-step attacks", "warning", text)


def single_step_beats_iterative(seen: Evidence) -> Iterable[Flag]:
    """More steps should never help the defender: if they do, gradients mislead the attack or it is set badly."""
    pairs = [
        (fast, slow)
        for fast in seen.table
        for slow in seen.table
        if seen.info(fast).climbs
        and seen.info(slow).climbs
        and seen.info(fast).single_step
        and not seen.info(slow).single_step
        and same_threat(fast, slow)
        and seen.table[fast].mode == seen.table[slow].mode
    ]
    for fast, slow, r in significant(seen.table, pairs):
        text = (
            f"{fast.attack} beats {slow.attack} on {where(fast)}: it leaves {accuracy(seen.table, fast)} % right against "
            f"{accuracy(seen.table, slow)} % ({r})."
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
    for small, large, r in significant(seen.table, pairs):
        text = (
            f"{large.model} under {large.attack} is right more often at the larger budget {words(large)} "
            f"({accuracy(seen.table, large)} %) than at {words(small)} ({accuracy(seen.table, small)} %; {r})."
        )
        yield Flag("accuracy not monotone in budget", "warning", text, large.model)


def stays_above_chance(seen: Evidence) -> Iterable[Flag]:
    """An attack on all that a model perceives should bring it down to guessing once the budget is large."""
    for curve in curves(seen.table):
        last = curve[-1]
        info = seen.info(last)
        aimed = info.strongest or (info.climbs and not info.single_step)
        if len(curve) < 3 or not aimed or last.subset != perceives(seen, last.model):
            continue
        e = estimate(seen.table[last]["correct"])
        if e.low > 1 / seen.classes:
            text = (
                f"{last.model} under {last.attack} is still right on {e} at the largest budget, {words(last)}; "
                f"guessing gives {percent(1 / seen.classes)} %."
            )
            yield Flag("largest budget does not reach chance", "warning", text, last.model)


def left_its_budget(seen: Evidence) -> Iterable[Flag]:
    """An attack that goes further than it may wins unfairly; the published MIM does."""
    times: dict[tuple[str, str], dict[str, float]] = {}
    share: dict[tuple[str, str], float] = {}
    for c, a in seen.table.items():
        key = c.attack, a.mode
        for modality in ("audio", "visual"):
            used = a[f"used_{modality}"]
            if (used > OVER_BUDGET).any():
                most = times.setdefault(key, {})
                most[modality] = max(most.get(modality, 0.0), float(np.nanmax(used)))
                share[key] = max(share.get(key, 0.0), float((used > OVER_BUDGET).mean()))
    for (attack, mode), most in times.items():
        known = mode == "published"
        far = " and ".join(f"{t:.4g} times its {modality} budget" for modality, t in most.items())
        text = (
            f"{attack} goes up to {far}, and leaves it on up to {percent(share[attack, mode])} % of the clips. "
            f"{'The published code does so; do' if known else 'Do'} not compare it with attacks that stay inside."
        )
        yield Flag("an attack left its budget", "warning" if known else "alarm", text)


def not_finite(seen: Evidence) -> Iterable[Flag]:
    """Logits that are not finite are no answer; they count as wrong, and say that the model's arithmetic broke."""
    for c, a in seen.table.items():
        if (broken := ~a["finite"]).any():
            first = a.clips[int(broken.any(0).argmax())]
            text = (
                f"{c.model} under {c.attack} gives logits that are not finite on {int(broken.any(0).sum())} of "
                f"{len(a.clips)} clips, first on '{first}': counted as wrong."
            )
            yield Flag("logits not finite", "alarm", text, c.model)


def joint_weaker_than_part(seen: Evidence) -> Iterable[Flag]:
    """Whoever may change both modalities may also leave one alone, so both is never weaker than one."""
    pairs = [
        (part, joint)
        for joint in seen.table
        for part in seen.table
        if joint.subset == "AV"
        and part.subset in ("A", "V")
        and (part.model, part.attack) == (joint.model, joint.attack)
        and (part.subset == "V" or part.budget.audio == joint.budget.audio)
        and (part.subset == "A" or part.budget.visual == joint.budget.visual)
    ]
    for part, joint, r in significant(seen.table, pairs):
        text = (
            f"{joint.attack} on both modalities of {joint.model} ({words(joint)}) leaves {accuracy(seen.table, joint)} % right, "
            f"on {part.subset} alone {accuracy(seen.table, part)} % ({r})."
        )
        yield Flag("joint attack weaker than its parts", "alarm", text, joint.model)


def attack_did_not_move(seen: Evidence) -> Iterable[Flag]:
    """A clip that was right and comes back unchanged points at a gradient that is zero, not at robustness."""
    still: dict[tuple[str, str, str], list[float]] = {}
    for c, a in seen.table.items():
        for modality, letter in (("audio", "A"), ("visual", "V")):
            if (
                letter in c.subset
                and c.subset != "clean"
                and a["correct_clean"].any()
                and not ignores(seen, c.model, modality)
            ):
                unmoved = float((a[f"linf_{modality}"][a["correct_clean"]] == 0).mean())
                if unmoved > ENOUGH:
                    still.setdefault((c.model, c.attack, SENSE[letter]), []).append(unmoved)
    for (model, attack, sense), shares in still.items():
        text = (
            f"{attack} left the {sense} of up to {percent(max(shares))} % of the clips that {model} had right unchanged, "
            f"under {len(shares)} budget{'s' if len(shares) > 1 else ''}."
        )
        yield Flag("attack did not move", "alarm", text, model)


def gradient_free_beats_gradients(seen: Evidence) -> Iterable[Flag]:
    """A search without gradients has no advantage, unless gradients are of no use."""
    pairs = [
        (blind, slope)
        for blind in seen.table
        for slope in seen.table
        if seen.info(blind).family == "Square" and seen.info(slope).climbs and same_threat(blind, slope)
    ]
    for blind, slope, r in significant(seen.table, pairs):
        text = (
            f"{blind.attack}, which asks for no gradient, beats {slope.attack} on {where(blind)}: it leaves "
            f"{accuracy(seen.table, blind)} % right against {accuracy(seen.table, slope)} % ({r})."
        )
        yield Flag("gradient-free beats gradient-based", "alarm", text, blind.model)


def transfer_beats_white_box(seen: Evidence) -> Iterable[Flag]:
    """What was crafted on another model should fool this one less than what was crafted on it."""
    pairs = [
        (foreign, own)
        for foreign in seen.table
        for own in seen.table
        if seen.info(foreign).source
        and replace(seen.info(foreign), source="") == seen.info(own)
        and same_threat(foreign, own)
    ]
    for foreign, own, r in significant(seen.table, pairs):
        text = (
            f"{foreign.attack} beats {own.attack} on {where(own)}: it leaves {accuracy(seen.table, foreign)} % right "
            f"against {accuracy(seen.table, own)} % ({r})."
        )
        yield Flag("transfer beats white-box", "alarm", text, own.model)


def steps_ran_out(seen: Evidence) -> Iterable[Flag]:
    """If the same search finds much more with more steps, it had not ended when it was stopped."""
    pairs = [
        (long, short)
        for long in seen.table
        for short in seen.table
        if same_threat(long, short)
        and seen.table[long].mode == seen.table[short].mode
        and longer(seen.info(long), seen.info(short))
    ]
    for long, short, r in significant(seen.table, pairs):
        if r.difference > UNFINISHED:
            text = (
                f"{long.attack} leaves {accuracy(seen.table, long)} % right on {where(long)}, {short.attack} "
                f"{accuracy(seen.table, short)} % ({r}): the shorter one's loss was still rising."
            )
            yield Flag("steps ran out", "warning", text, long.model)


def adapted_beats_plain(seen: Evidence) -> Iterable[Flag]:
    """What survives an attack that knows nothing of the defense is not what survives one that does."""
    pairs = [
        (strongest, plain)
        for strongest in seen.table
        for plain in seen.table
        if seen.info(strongest).strongest
        and seen.info(plain).climbs
        and not seen.info(plain).single_step
        and same_threat(strongest, plain)
    ]
    for strongest, plain, r in significant(seen.table, pairs):
        if r.difference > OVERRATED:
            text = (
                f"{plain.attack} leaves {accuracy(seen.table, plain)} % right on {where(plain)}, {strongest.attack} "
                f"{accuracy(seen.table, strongest)} % ({r})."
            )
            yield Flag("overrated by a plain attack", "warning", text, plain.model)


def ignored_modality(seen: Evidence) -> Iterable[Flag]:
    """Robust to an attack on its sound may only mean deaf."""
    for (model, part), moved in answers_that_move(seen).items():
        if moved.high < IGNORED and perceives(seen, model) == "AV":
            sense, left = ("sound", "deaf") if part == "A" else ("picture", "blind")
            text = (
                f"{model} hardly uses its {sense}: with another clip's, its answer changes on {moved}. Robust to an "
                f"attack on the {sense} then means {left}."
            )
            yield Flag("a modality is ignored", "warning", text, model)


def answers_that_move(seen: Evidence) -> dict[tuple[str, str], Estimate]:
    """By model and modality, how many answers change with another clip's: of all clips where asked, else of a probe's."""
    found = {
        (model, part): estimate(np.arange(p["clips"])[None] < p["moved"][modality])
        for model, p in seen.probes.items()
        if "moved" in p and p["clips"] > 1
        for modality, part in (("audio", "A"), ("visual", "V"))
    }
    swapped = {c: a for c, a in seen.controls.items() if c.attack == "swapped" and c.subset in ("A", "V")}
    return found | {(c.model, c.subset): estimate(a["pred"] != a["pred_clean"]) for c, a in swapped.items()}


def random_outputs(seen: Evidence) -> Iterable[Flag]:
    """One answer of a random model is no measurement, and its gradient is noise."""
    for model, p in seen.probes.items():
        if p["random"] > 0:
            text = f"{model} answers differently when asked again, on {share(p, p['random'])}. Attack the mean of its answers."
            yield Flag("random outputs", "alarm", text, model)


def depends_on_batch(seen: Evidence) -> Iterable[Flag]:
    """A clip's answer should be its own."""
    for model, p in seen.probes.items():
        if p["sociable"] > 0:
            text = f"{model} answers differently when a clip is alone in its batch, on {share(p, p['sociable'])}."
            yield Flag("output depends on batch mates", "alarm", text, model)


def gradient_vanishes(seen: Evidence) -> Iterable[Flag]:
    """Gradients that are zero lead nowhere; most attacks then return the clip as it was."""
    for model, p in seen.probes.items():
        for modality, letter in (("audio", "A"), ("visual", "V")):
            # What a model does not take in needs no gradient.
            if letter in perceives(seen, model) and not ignores(seen, model, modality):
                flat, faint = p["flat"][modality], p["faint"][modality]
                if flat > ENOUGH:
                    text = f"{model} has no gradient with respect to its {SENSE[letter]}, on {share(p, flat)}."
                    yield Flag("gradients vanish", "alarm", text, model)
                elif faint > ENOUGH:
                    text = (
                        f"The cross entropy of {model} has no gradient left with respect to its {SENSE[letter]}, on "
                        f"{share(p, faint)}, while the margin has. Attack the margin."
                    )
                    yield Flag("gradients vanish", "alarm", text, model)


def crafted_in_low_precision(seen: Evidence) -> Iterable[Flag]:
    """A budget that is smaller than the step from one number to the next is rounded away before the first layer."""
    for model, p in seen.probes.items():
        for threat, low in p.get("low", {}).items():
            weak, coarse = low["gained"] < WEAKER, {m: r for m, r in low["room"].items() if r < 1}
            numbers = ", ".join(f"{modality} {room:.2g}" for modality, room in low["room"].items())
            text = (
                f"Attacks on {model} within {threat} were crafted in {low['precision']}: on {low['clips']} clips they raise "
                f"the margin by {percent(low['gained'])} % of what float32 does, and {low['standing']} stand against "
                f"{low['standing_float32']}; steps between its numbers that the budget allows: {numbers}."
            )
            level: Level = "alarm" if weak else "warning" if coarse else "note"
            yield Flag("crafted in low precision", level, text, model)


def points_no_better_than_blind(seen: Evidence) -> Iterable[Flag]:
    """A model that looks for what sounds should find it more often than an answer that never looks."""
    centre = seen.baselines.get("centre")
    for c, a in seen.table.items():
        if centre is None or c.subset != "clean" or "pointing" not in a.columns:
            continue
        values = a["pointing"].astype(float)
        e = estimate(values[:, ~np.isnan(values).any(0)])
        if e.high < wilson(centre["pointing"] * centre["clips"], centre["clips"])[0]:
            text = (
                f"{c.model} points at what sounds on {e} without any attack; the picture's centre does on "
                f"{percent(centre['pointing'])} %. What an attack does to such a map says little about localisation."
            )
            yield Flag("points worse than the centre", "warning", text, c.model)


RULES: tuple[Callable[[Evidence], Iterable[Flag]], ...] = (
    few_clips,
    clips_unreadable,
    clean_near_chance,
    one_seed,
    only_single_step,
    single_step_beats_iterative,
    not_monotone,
    stays_above_chance,
    left_its_budget,
    not_finite,
    joint_weaker_than_part,
    attack_did_not_move,
    gradient_free_beats_gradients,
    transfer_beats_white_box,
    steps_ran_out,
    adapted_beats_plain,
    ignored_modality,
    random_outputs,
    depends_on_batch,
    gradient_vanishes,
    crafted_in_low_precision,
    points_no_better_than_blind,
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


def perceives(seen: Evidence, model: str) -> str:
    """What a model takes in: as told, else by what was attacked, AV if both were at once or nothing was."""
    if model in seen.kinds:
        return seen.kinds[model]
    subsets = {c.subset for c in seen.table if c.model == model} - {"clean"}
    return "AV" if "AV" in subsets or len(subsets) > 1 else next(iter(subsets), "AV")


def ignores(seen: Evidence, model: str, modality: str) -> bool:
    """Whether a probe found that a model does not take a modality in."""
    return bool(seen.probes.get(model, {}).get("ignores", {}).get(modality))


def longer(long: AttackInfo, short: AttackInfo) -> bool:
    """Whether two attacks are one with more and with fewer steps.

    >>> pgd, mim = AttackInfo("PGD", 10), AttackInfo("MIM", 10)
    >>> longer(replace(pgd, steps=100), pgd), longer(replace(pgd, steps=100), mim), longer(pgd, pgd)
    (True, False, False)
    """
    return bool(short.family) and long.steps > short.steps and replace(long, steps=short.steps) == short


def same_threat(a: Condition, b: Condition) -> bool:
    """Whether two attacks had the same task."""
    return (a.model, a.subset, a.budget) == (b.model, b.subset, b.budget)


def share(p: Mapping[str, Any], value: float) -> str:
    """A share of the clips that were probed, as a count."""
    return f"{round(value * p['clips'])} of {p['clips']} clips"


def accuracy(table: Table, c: Condition) -> str:
    return percent(estimate(table[c]["correct"]).value)


def words(c: Condition) -> str:
    parts = {"A": str(c.budget.audio), "V": str(c.budget.visual), "AV": f"{c.budget.audio} and {c.budget.visual}"}
    return parts[c.subset]


def where(c: Condition) -> str:
    return f"{c.model}, {c.subset} attacked within {words(c)}"
