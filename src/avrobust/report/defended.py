"""Claims about fusions, localisation and defenses; see `claims` for those about integration."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.report.comparisons import Claim, Comparison, at, compare, mean_attacked
from avrobust.report.load import SUBSETS, Level, Run

KEPT = 0.03  # clean accuracy counts as kept when it falls by less


def interaction_weakens(run: Run, level: Level) -> Claim:
    """Section 4.4, under the joint attack."""
    fusions = {str(run.told(m).get("fusion")): m for m in run.fusions()}
    found: list[Comparison] = []
    if "AV" in level and "concat" in fusions:
        mixing = [f for f in ("sum", "film", "gated-sum") if f in fusions]
        names = ["concat", *mixing]
        answers = dict(zip(names, run.worst([(fusions[f], "AV", level["AV"]) for f in names]), strict=True))
        for fusion in mixing:
            found += compare(
                f"{fusion}, both attacked at {at('AV', level['AV'])}", answers[fusion], "concat", answers["concat"]
            )
    return Claim(
        "fusion",
        "More interaction inside the fusion is less robust: what is mixed falls lower than what stands side by side.",
        tuple(found),
        family="fusions and defenses",
    )


def localisation_is_fooled(run: Run, level: Level) -> Claim:
    """Section 4.5, at the largest of the tables' budgets."""
    found: list[Comparison] = []
    model = next(iter(run.pointing()), None)
    budgets = run.levels()[-1] if run.levels() else {}
    for subset, budget in budgets.items():
        tried = [a for a in run.modes if run.usual(a) and a not in run.outside]
        attacked = [a for a in tried if run.attacked(model, a, subset, budget)]
        for attack in attacked[-1:]:
            low, high = run.attacked(model, attack, subset, budget), run.clean(model)
            found += compare(
                f"points at what sounds, {attack} on {subset} at {at(subset, budget)}",
                low,
                "clean",
                high,
                column="pointing",
            )
    return Claim(
        "localisation",
        "Localisation is fooled by attacks that never see a localisation loss.",
        tuple(found),
        family="localisation",
    )


def attention_listens(run: Run, level: Level) -> Claim:
    """What the paper takes for granted: that the sound guides attention."""
    found: list[Comparison] = []
    model = next(iter(run.pointing()), None)
    swapped = next((a for c, a in run.controls.items() if c.model == model and c.attack == "swapped"), None)
    for column, name in (("pointing", "points at what sounds"), ("mass", "attention on what sounds")):
        found += compare(f"{name}, with another clip's sound", swapped, "with its own", run.clean(model), column=column)
        blind = run.clean(run.soundless())
        found += compare(f"{name}, trained without sound", blind, "with sound", run.clean(model), column=column)
    return Claim(
        "listening",
        "The attention is guided by the sound: with another clip's, or trained without any, it finds the source less often. (Our test.)",
        tuple(found),
        every=False,
        family="localisation",
    )


def min_beats_max(run: Run, level: Level) -> Claim:
    least, most = _attacked(run, [_trained(run, loss) for loss in ("MinSim", "MaxSim")], level)
    found = compare("MaxSim, mean of the three attacks", most, "MinSim", least)
    return Claim(
        "MinSim",
        "Driving the modalities apart is more robust than bringing them together: MinSim beats MaxSim.",
        tuple(found),
        family="fusions and defenses",
    )


def full_defense_is_best(run: Run, level: Level) -> Claim:
    full = run.role("full_defense")
    found: list[Comparison] = []
    every = run.defenses() if full else []
    attacked = _attacked(run, every, level)
    halves = {m: _ri_half(run.clean(m), a) for m, a in zip(every, attacked, strict=True)}
    for other in every:
        if full and other != full:
            name = "None" if other == run.model("AV") else other
            found += compare(f"{name}, clean and attacked, half and half", halves[other], full, halves[full])
    return Claim(
        "RI",
        "MinSim with ExFMem has the best relative improvement of all defenses, more training alone included.",
        tuple(found),
        family="fusions and defenses",
    )


def clean_is_kept(run: Run, level: Level) -> Claim:
    full = run.role("full_defense")
    found = (
        compare("None, clean", run.clean(run.model("AV")), f"{full}, clean", run.clean(full), margin=KEPT)
        if full
        else []
    )
    return Claim(
        "kept",
        f"The full defense keeps the clean accuracy: it falls by less than {100 * KEPT:.0f} points.",
        tuple(found),
        family="fusions and defenses",
    )


CLAIMS: tuple[Callable[[Run, Level], Claim], ...] = (
    interaction_weakens,
    localisation_is_fooled,
    attention_listens,
    min_beats_max,
    full_defense_is_best,
    clean_is_kept,
)


def _trained(run: Run, loss: str) -> str | None:
    """The model that is trained with this loss and nothing else."""
    return next(
        (m for m in run.defenses() if run.told(m).get("loss") == loss and not run.told(m).get("feature_defense")), None
    )


def _attacked(run: Run, models: Sequence[str | None], level: Level) -> list[Predictions | None]:
    """Of each model the mean of A, V, AV in the worst case over the attacks that all of them met, a column per clip."""
    if set(level) != set(SUBSETS):
        return [None] * len(models)
    worst = run.worst([(m, s, level[s]) for m in models for s in SUBSETS])
    return [mean_attacked(worst[i : i + len(SUBSETS)]) for i in range(0, len(worst), len(SUBSETS))]


def _ri_half(clean: Predictions | None, attacked: Predictions | None) -> Predictions | None:
    """Half of (clean + Avg), so that it lies in [0, 1]: twice its differences are differences in RI."""
    if attacked is None or clean is None:
        return None
    a, c = shared(attacked, clean)
    half = (a["correct"] + c["correct"].astype(float)) / 2
    return replace(a, columns=dict(a.columns) | {"correct": half})
