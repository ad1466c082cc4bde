"""What only this paper claims, as comparisons on a run: its MIM, fusions, localisation and defenses.

And three tests of ours that belong to them: whether its MIM gains by exceeding the budget, whether pretrained weights
make a model weaker, and whether audio guides the attention at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.report.claims import Claim, Comparison, compare, mean_attacked, over, versus
from avrobust.report.formatting import ATTACKED, at
from avrobust.report.run import SUBSETS, Level, Run

KEPT = 0.03  # clean accuracy counts as kept when it falls by less
MIXING = ("sum", "film", "gated-sum")  # fusions that combine features rather than put them side by side


def mim_is_strongest(run: Run, level: Level) -> Claim:
    inside = [a for a in run.infos if a not in run.over_budget]
    mim, pgd = (_first(run, inside, family) for family in ("MIM", "PGD"))
    found = [c for subset in level if mim and pgd for c in versus(run, level, subset, mim, pgd)]
    text = "MIM is the most effective attack, when it stays inside its budget."
    return Claim("MIM", text, tuple(found), every=False, family="attacks")


def published_mim_gains(run: Run, level: Level) -> Claim:
    outside = _first(run, [a for a in run.infos if a in run.over_budget], "MIM")
    inside = _first(run, [a for a in run.infos if a not in run.over_budget], "MIM")
    found = [c for subset in level if outside and inside for c in versus(run, level, subset, outside, inside)]
    text = "The published MIM gains from leaving its budget. (Our claim, about the paper's evidence for the one above.)"
    return Claim("leaving", text, tuple(found), every=False, family="attacks")


def visual_is_weaker(run: Run, level: Level) -> Claim:
    """Table 1, where one number is the budget of the waveform and of the normalised frame."""
    found: list[Comparison] = []
    note = ""
    if {"A", "V"} <= set(level) and level["A"].audio.eps == level["V"].visual.eps:
        attacked = run.worst_case_at(level)
        names = (f"{ATTACKED[s].lower()} at {at(s, level[s])}" for s in ("V", "A"))
        found = compare(next(names), attacked["V"], next(names), attacked["A"])
        note = over(run.common_attacks(run.conditions(level))) if found else ""
    text = (
        "Visual is the weaker modality: an attack on it leaves less accuracy than one on audio with the same number as "
        "budget."
    )
    return Claim("weaker", text, tuple(found), note=note, family="visual")


def one_step_hides_it(run: Run, level: Level) -> Claim:
    inside = [a for a in run.infos if a not in run.over_budget]
    ten, one = (_first(run, inside, family) for family in ("PGD", "FGSM"))
    found = versus(run, level, "V", ten, one) if ten and one and "V" in level else []
    text = "FGSM hides it: on the visual input, an iterative attack leaves less accuracy than one step with the same budget."
    return Claim("one step", text, tuple(found), family="visual")


def pretraining_weakens(run: Run, level: Level) -> Claim:
    """The first undefended model with pretrained weights against each with random ones; all of the paper's have the former."""
    models = [m for m in run.models("AV") if run.about(m).undefended]
    pretrained = next((m for m in models if run.about(m).visual_weights), None)
    found: list[Comparison] = []
    if pretrained and "V" in level:
        names = [pretrained, *(m for m in models if not run.about(m).visual_weights)]
        base, *others = run.worst_case([(m, "V", level["V"]) for m in names])
        where = f"visual attacked at {at('V', level['V'])}"
        for name, predictions in zip(names[1:], others, strict=True):
            found += compare(f"{pretrained}, {where}", base, name, predictions)
    text = "Pretrained visual weights make a model less robust to visual attacks than random ones. (Our test.)"
    return Claim("pretraining", text, tuple(found), family="visual")


def _first(run: Run, attacks: Sequence[str], family: str) -> str | None:
    return next((a for a in attacks if run.infos[a].plain and run.infos[a].family == family), None)


def interaction_weakens(run: Run, level: Level) -> Claim:
    """Section 4.4, under the joint attack."""
    fusions = {run.about(m).fusion: m for m in run.fusions}
    found: list[Comparison] = []
    if "AV" in level and "concat" in fusions:
        names = ["concat", *(f for f in MIXING if f in fusions)]
        base, *others = run.worst_case([(fusions[f], "AV", level["AV"]) for f in names])
        for fusion, predictions in zip(names[1:], others, strict=True):
            found += compare(f"{fusion}, both attacked at {at('AV', level['AV'])}", predictions, "concat", base)
    text = (
        "More interaction in the fusion is less robust: fusions that mix features are less robust than concatenation."
    )
    return Claim("fusion", text, tuple(found), family="fusions and defenses")


def localisation_is_fooled(run: Run, level: Level) -> Claim:
    """Section 4.5, at the largest of the tables' budgets."""
    found: list[Comparison] = []
    model = next(iter(run.localisers), None)
    inside = [a for a, info in run.infos.items() if info.plain and a not in run.over_budget]
    for subset, budget in (run.levels[-1] if run.levels else {}).items():
        for attack in [a for a in inside if run.attacked(model, a, subset, budget)][-1:]:
            name = f"pointing, {attack}, {ATTACKED[subset].lower()} at {at(subset, budget)}"
            attacked = run.attacked(model, attack, subset, budget)
            found += compare(name, attacked, "clean", run.clean(model), column="pointing")
    text = "Attacks on recognition also fool localisation, although they never see a localisation loss."
    return Claim("localisation", text, tuple(found), family="localisation")


def audio_guides_attention(run: Run, level: Level) -> Claim:
    """What the paper takes for granted."""
    found: list[Comparison] = []
    model = next(iter(run.localisers), None)
    swapped = next((p for c, p in run.controls.items() if c.model == model and c.attack == "swapped"), None)
    clean, without = run.clean(model), run.clean(run.visual_localiser)
    for column, name in (("pointing", "pointing"), ("mass", "attention on the source")):
        found += compare(f"{name}, with another clip's audio", swapped, "with its own", clean, column=column)
        found += compare(f"{name}, trained without audio", without, "with audio", clean, column=column)
    text = (
        "Audio guides the attention: with another clip's audio, or trained without audio, the model finds the source "
        "less often. (Our test.)"
    )
    return Claim("listening", text, tuple(found), every=False, family="localisation")


def min_beats_max(run: Run, level: Level) -> Claim:
    min_sim, max_sim = (
        next((m for m in run.defenses if run.about(m).loss == loss and not run.about(m).feature_defense), None)
        for loss in ("MinSim", "MaxSim")
    )
    least, most = _attacked(run, [min_sim, max_sim], level)
    found = compare("MaxSim, mean of the three attacks", most, "MinSim", least)
    text = "Dissimilar features of the two modalities are more robust than similar ones: MinSim beats MaxSim."
    return Claim("MinSim", text, tuple(found), family="fusions and defenses")


def full_defense_is_best(run: Run, level: Level) -> Claim:
    full = run.role("full_defense")
    every = run.defenses if full in run.defenses else []  # of a run that is still going, it may lack its predictions
    halves = {m: _half(run.clean(m), p) for m, p in zip(every, _attacked(run, every, level), strict=True)}
    found = [
        c
        for other in every
        if full is not None and other != full
        for c in compare(f"{other}, mean of clean and attacked", halves[other], full, halves[full])
    ]
    text = "MinSim with ExFMem has the best relative improvement of all defenses, more training alone included."
    return Claim("RI", text, tuple(found), family="fusions and defenses")


def clean_accuracy_is_kept(run: Run, level: Level) -> Claim:
    full, base = run.role("full_defense"), run.model("AV")
    found = compare(f"{base}, clean", run.clean(base), f"{full}, clean", run.clean(full), margin=KEPT) if full else []
    text = f"The full defense keeps the clean accuracy: it falls by less than {100 * KEPT:.0f} points."
    return Claim("kept", text, tuple(found), family="fusions and defenses")


def _attacked(run: Run, models: Sequence[str | None], level: Level) -> list[Predictions | None]:
    """Of each model the mean of A, V, AV in the worst case over the attacks that all of them met, a column per clip."""
    if set(level) != set(SUBSETS):
        return [None] * len(models)
    worst = run.worst_case([(m, s, level[s]) for m in models for s in SUBSETS])
    return [mean_attacked(worst[i : i + len(SUBSETS)]) for i in range(0, len(worst), len(SUBSETS))]


def _half(clean: Predictions | None, attacked: Predictions | None) -> Predictions | None:
    """Half of (clean + Avg), so that it lies in [0, 1]: twice its differences are differences in RI."""
    if attacked is None or clean is None:
        return None
    a, c = shared(attacked, clean)
    half = (a["correct"] + c["correct"].astype(float)) / 2
    return replace(a, columns=dict(a.columns) | {"correct": half})


CLAIMS: tuple[Callable[[Run, Level], Claim], ...] = (
    mim_is_strongest,
    published_mim_gains,
    visual_is_weaker,
    one_step_hides_it,
    pretraining_weakens,
)
DEFENSE_CLAIMS: tuple[Callable[[Run, Level], Claim], ...] = (
    interaction_weakens,
    localisation_is_fooled,
    audio_guides_attention,
    min_beats_max,
    full_defense_is_best,
    clean_accuracy_is_kept,
)
