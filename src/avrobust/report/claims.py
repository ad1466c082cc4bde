"""Claims about integration, put to the answers of a run: each holds, does not hold, or stays undecided.

"Attacked" means the worst case: an answer counts as right when it survives every attack that stayed inside its
budget.  Comparisons are paired on the same clips.  Claims that answer one question are a family; the intervals and the
p values of its comparisons are adjusted alike for their number (`Paired.as_one_of`).
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from avrobust.evaluation.stats import percent
from avrobust.report import defended
from avrobust.report.comparisons import NAME, Claim, Comparison, at, compare
from avrobust.report.formatting import listing
from avrobust.report.load import Level, Run


def claims(run: Run) -> tuple[Claim, ...]:
    """All claims on this run, each at the largest of the tables' budgets that has what it needs.

    With a paper beside the run, its own claims are among them, and each has what the paper says of it.
    """
    levels = [*reversed(run.levels()), {}]
    found = [_made(make, run, levels) for make in (*CLAIMS, *(run.beside.claims if run.beside else ()))]
    levels = [*reversed(run.defense_levels()), {}]
    found += [_made(make, run, levels) for make in defended.CLAIMS]
    sizes, said = families(found), run.beside.said if run.beside else {}
    return tuple(
        replace(
            claim,
            paper=said.get(claim.name, ""),
            comparisons=tuple(c.as_one_of(sizes[claim.family]) for c in claim.comparisons),
        )
        for claim in found
    )


def families(found: Sequence[Claim]) -> dict[str, int]:
    """How many comparisons each family has."""
    sizes: dict[str, int] = {claim.family: 0 for claim in found}
    for claim in found:
        sizes[claim.family] += len(claim.comparisons)
    return sizes


def _made(make: Callable[[Run, Level], Claim], run: Run, levels: list[Level]) -> Claim:
    made = [make(run, level) for level in levels]
    return max(made, key=lambda claim: len(claim.comparisons))  # the first of the fullest


def helps_clean(run: Run, level: Level) -> Claim:
    both = run.clean(run.model("AV"))
    found = [
        *compare("sound alone", run.clean(run.model("A")), "together", both),
        *compare("picture alone", run.clean(run.model("V")), "together", both),
    ]
    return Claim(
        "clean",
        "On clean clips, hearing and seeing together beats either alone.",
        tuple(found),
    )


def hurts_sound(run: Run, level: Level) -> Claim:
    return Claim(
        "A",
        "With the sound attacked, hearing and seeing is worse than only seeing.",
        found := tuple(_against_clean(run, level, "A", "V")),
        note=f"{relative_drop(found)}{_worst(run, level, 'A')}{crossing(run, 'A', 'V')}",
    )


def hurts_picture(run: Run, level: Level) -> Claim:
    return Claim(
        "V",
        "With the picture attacked, hearing and seeing is worse than only hearing.",
        found := tuple(_against_clean(run, level, "V", "A")),
        note=f"{relative_drop(found)}{_worst(run, level, 'V')}{crossing(run, 'V', 'A')}",
    )


def _against_clean(run: Run, level: Level, subset: str, other: str) -> list[Comparison]:
    """The pair with one modality attacked, against the other modality alone and untouched."""
    if subset not in level:
        return []
    pair = run.fooled(level)[subset]
    name = f"together, {NAME[subset]} attacked at {at(subset, level[subset])}"
    return compare(name, pair, f"{NAME[other]} alone, clean", run.clean(run.model(other)))


def _worst(run: Run, level: Level, subset: str) -> str:
    worst = over(run.judges(run.conditions(level))) if subset in level else ""
    return f"{worst} " if worst else ""


def over(attacks: list[str]) -> str:
    """What the worst case is over, as a sentence."""
    return f"Worst case over {listing(attacks)}." if attacks else ""


def _halved(level: Level) -> bool:
    """Whether the joint attack has half of either budget, or less: with all of both it is worse by definition."""
    a, v, both = level["A"], level["V"], level["AV"]
    return 2 * both.eps_audio <= 1.001 * a.eps_audio and 2 * both.eps_visual <= 1.001 * v.eps_visual


def joint_is_worse(run: Run, level: Level) -> Claim:
    found = []
    if set(level) == {"A", "V", "AV"} and _halved(level):
        a, v, av = (run.fooled(level)[s] for s in ("A", "V", "AV"))
        name = f"both attacked at {at('AV', level['AV'])}"
        found += compare(name, av, f"sound attacked at {at('A', level['A'])}", a)
        found += compare(name, av, f"picture attacked at {at('V', level['V'])}", v)
    return Claim(
        "joint",
        "An attack on both modalities costs more than one on either, at half the budget for each.",
        tuple(found),
        note=over(run.judges(run.conditions(level))) if found else "",
        family="attacks",
    )


def joint_beats_unimodal(run: Run, level: Level) -> Claim:
    found, note = [], ""
    if "AV" in level:
        budget = level["AV"]
        wanted = [(run.model(s), s, budget) for s in ("A", "V", "AV")]
        a, v, av = run.worst(wanted)
        note = over(run.judges(wanted))
        name = f"together, both attacked at {at('AV', budget)}"
        found += compare("sound alone, attacked", a, name, av)
        found += compare("picture alone, attacked", v, name, av)
    return Claim(
        "company",
        "When all is attacked, two corrupted modalities are better than one: each can still help the other.",
        tuple(found),
        note=note if found else "",
    )


CLAIMS: tuple[Callable[[Run, Level], Claim], ...] = (
    helps_clean,
    hurts_sound,
    hurts_picture,
    joint_is_worse,
    joint_beats_unimodal,
)


def versus(run: Run, level: Level, subset: str, strong: str, weak: str) -> list[Comparison]:
    model = run.model("AV")
    return compare(
        f"{strong} on {subset} at {at(subset, level[subset])}",
        run.attacked(model, strong, subset, level[subset]),
        weak,
        run.attacked(model, weak, subset, level[subset]),
    )


def relative_drop(found: Sequence[Comparison]) -> str:
    """What an attack takes of the other modality's clean accuracy, as the paper's text counts drops (91.76 %)."""
    return "".join(
        f"That is a drop of {percent(1 - c.low.value / c.high.value)} %. " for c in found if c.gap.difference > 0
    )


def crossing(run: Run, subset: str, other: str) -> str:
    """From which budget on the attacked pair stays below the untouched single modality, on the longest curve."""
    model, alone = run.model("AV"), run.clean(run.model(other))
    curves = run.curves(model, subset) if model else {}
    steps = [a for a in curves if not run.infos[a].single_step] or list(curves)
    if alone is None or not steps:
        return ""
    curve = curves[steps[0]]
    found = [compare("", run.table[c], "", alone) for c in curve]
    below = [bool(c) and c[0].as_one_of(len(curve)).sign > 0 for c in found]
    start = next((i for i in range(len(curve)) if all(below[i:])), None)
    what = "seeing" if other == "V" else "hearing"
    if start is None:
        return f"Under {steps[0]} it is not clearly below clean {what} alone at the largest of {len(curve)} budgets."
    where = at(subset, curve[start].budget)
    return f"Under {steps[0]} it lies below clean {what} alone from {where} on ({len(curve)} budgets tried, a family of their own)."
