"""What this run says about integration, and about the claims that a paper brings along.

"Attacked" means the worst case: a prediction counts as correct when it survives every attack that kept its budget.
Comparisons are paired on the same clips.  Claims that answer one question are a family; the intervals and the p values
of its comparisons are adjusted alike for their number (`Paired.as_one_of`).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, get_args

from avrobust.evaluation.stats import percent
from avrobust.report.claims import Claim, Comparison, Verdict, compare, families, fullest, over
from avrobust.report.formatting import ATTACKED, MODEL, WHEN, at
from avrobust.report.run import Level, Run
from avrobust.report.section import Section

OPEN: tuple[Verdict, ...] = ("undecided", "not tested")  # claims that say nothing either way


@lru_cache(maxsize=2)  # the headline and the section ask for the same
def claims(run: Run) -> tuple[Claim, ...]:
    """All claims on this run; those of its paper are among them, with what the paper prints for each."""
    paper = run.paper
    found = [fullest(make, run, run.levels) for make in (*INTEGRATION, *(paper.claims if paper else ()))]
    found += [fullest(make, run, run.defense_levels) for make in (paper.defense_claims if paper else ())]
    sizes, printed = families(found), paper.said if paper else {}
    return tuple(
        replace(
            claim,
            printed=printed.get(claim.name, ""),
            comparisons=tuple(c.as_one_of(sizes[claim.family]) for c in claim.comparisons),
        )
        for claim in found
    )


def gains_when_clean(run: Run, level: Level) -> Claim:
    both = run.clean(run.model("AV"))
    found = [c for kind in ("A", "V") for c in compare(MODEL[kind], run.clean(run.model(kind)), MODEL["AV"], both)]
    return Claim(
        "clean", "On clean clips, the audio-visual model is more accurate than either unimodal model.", tuple(found)
    )


def loses_when_audio_is_attacked(run: Run, level: Level) -> Claim:
    return _loses(run, level, "A", "V")


def loses_when_visual_is_attacked(run: Run, level: Level) -> Claim:
    return _loses(run, level, "V", "A")


def _loses(run: Run, level: Level, subset: str, other: str) -> Claim:
    """The audio-visual model with one modality attacked, against the unimodal model of the other, clean."""
    found: list[Comparison] = []
    note = ""
    if subset in level:
        attacked = run.worst_case_at(level)[subset]
        name = f"{MODEL['AV']}, {ATTACKED[subset].lower()} at {at(subset, level[subset])}"
        found = compare(name, attacked, f"{MODEL[other]}, clean", run.clean(run.model(other)))
        worst = over(run.common_attacks(run.conditions(level)))
        note = " ".join(filter(None, (_relative_drop(found), worst, _crossing(run, subset, other))))
    when = WHEN[subset].capitalize()
    text = f"{when}, the audio-visual model is less accurate than the clean {MODEL[other]} model."
    return Claim(subset, text, tuple(found), note=note)


def joint_attack_is_stronger(run: Run, level: Level) -> Claim:
    found = []
    if set(level) == {"A", "V", "AV"} and _halved(level):
        predictions = run.worst_case_at(level)
        name = f"both attacked at {at('AV', level['AV'])}"
        for s in ("A", "V"):
            found += compare(name, predictions["AV"], f"{ATTACKED[s].lower()} at {at(s, level[s])}", predictions[s])
    return Claim(
        "joint",
        "A joint attack with half of each budget is stronger than an attack on one modality with all of its budget.",
        tuple(found),
        note=over(run.common_attacks(run.conditions(level))) if found else "",
        family="attacks",
    )


def _halved(level: Level) -> bool:
    """Whether the joint attack has half of either budget, or less: with all of both it is stronger by definition."""
    a, v, both = level["A"], level["V"], level["AV"]
    return 2 * both.audio.eps <= 1.001 * a.audio.eps and 2 * both.visual.eps <= 1.001 * v.visual.eps


def gains_when_both_are_attacked(run: Run, level: Level) -> Claim:
    found, note = [], ""
    if "AV" in level:
        budget = level["AV"]
        wanted = [(run.model(s), s, budget) for s in ("A", "V", "AV")]
        *single, both = run.worst_case(wanted)
        note = over(run.common_attacks(wanted))
        for kind, predictions in zip(("A", "V"), single, strict=True):
            name = f"{MODEL['AV']}, both attacked at {at('AV', budget)}"
            found += compare(f"{MODEL[kind]}, attacked", predictions, name, both)
    return Claim(
        "company",
        "When every input is attacked, the audio-visual model is more robust than either unimodal model.",
        tuple(found),
        note=note if found else "",
    )


INTEGRATION: tuple[Callable[[Run, Level], Claim], ...] = (
    gains_when_clean,
    loses_when_audio_is_attacked,
    loses_when_visual_is_attacked,
    joint_attack_is_stronger,
    gains_when_both_are_attacked,
)


def _relative_drop(found: list[Comparison]) -> str:
    """What an attack takes of the other modality's clean accuracy, as the paper's text counts drops (91.76 %)."""
    return " ".join(
        f"That is a relative drop of {percent(1 - c.low.value / c.high.value)} %."
        for c in found
        if c.gap.difference > 0
    )


def _crossing(run: Run, subset: str, other: str) -> str:
    """From which budget on the attacked audio-visual model stays below the clean unimodal one, on the longest curve."""
    unimodal, curves = run.clean(run.model(other)), run.curves(subset)
    iterative = [a for a in curves if not run.infos[a].single_step] or list(curves)
    if unimodal is None or not iterative:
        return ""
    curve = curves[iterative[0]]
    found = [compare("", run.table[c], "", unimodal) for c in curve]
    below = [bool(c) and c[0].as_one_of(len(curve)).sign > 0 for c in found]
    start = next((i for i in range(len(curve)) if all(below[i:])), None)
    if start is None:
        return f"Under {iterative[0]} it is not clearly below the clean {MODEL[other]} model at the largest of {len(curve)} budgets."
    where = at(subset, curve[start].budget)
    return (
        f"Under {iterative[0]} it is below the clean {MODEL[other]} model from {where} on ({len(curve)} budgets, "
        "corrected as a family of their own)."
    )


def data(run: Run) -> Mapping[str, Any] | None:
    if run.alone:  # nothing to compare
        return None
    found = claims(run)
    if not any(c.comparisons for c in found):
        return None
    ends = [abs(end) for c in found for k in c.comparisons for end in (k.gap.low, k.gap.high)]
    sizes = {name: size for name, size in families(found).items() if size}
    # The little axes hold the largest difference, in tenths.
    decided = [c for c in found if c.verdict not in OPEN]
    others = [c for c in found if c.verdict in OPEN]
    return {
        "decided": decided, "others": others, "rest": counted(others), "result": counted(found), "families": sizes,
        "answer": " ".join(f"{c.verdict.capitalize()}: {c.text}" for c in decided),
        "extent": math.ceil(10 * max(ends, default=1.0)) / 10 or 1.0,
    }  # fmt: skip


def counted(found: Sequence[Claim]) -> str:
    """How many claims have each verdict, in one line."""
    verdicts = [c.verdict for c in found]
    counts = {v: verdicts.count(v) for v in get_args(Verdict) if v in verdicts}
    plural = {"holds": "hold", "holds in part": "hold in part", "does not hold": "do not hold"}
    return ", ".join(f"{n} {plural.get(v, v) if n > 1 else v}" for v, n in counts.items())


SECTION = Section("claims", "Tested claims", data)
