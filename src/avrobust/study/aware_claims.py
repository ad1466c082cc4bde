"""What the study of attacked-modality-aware models asks, as comparisons on its run.

Tian & Xu 2021 name such models as future work and claim nothing about them: these claims are ours, to be tested.
"""

from collections.abc import Sequence
from dataclasses import replace

from avrobust.defenses import FAST, Adversarial
from avrobust.evaluation.conditions import Predictions
from avrobust.report.claims import Claim, Comparison, compare, mean_attacked
from avrobust.report.formatting import ATTACKED
from avrobust.report.paper import Paper
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.study.shared import ADVERSARIAL, EXTRA_EPOCHS
from avrobust.threat import Threat
from avrobust.training.recipe import cross_entropy

# Twice the budgets that networks are attacked within.
TWICE = Threat.linf(audio=0.024, visual="0.096 normalised").subsets()
ADVERSARIAL_TWICE = replace(
    ADVERSARIAL, name="Adversarial, twice the budget", loss=Adversarial(cross_entropy, TWICE, FAST, ramp=1 / 3)
)
RECOMBINED, RECOMBINED_TWICE = "Recombined", "Recombined, twice the budget"
OTHERS = EXTRA_EPOCHS, ADVERSARIAL  # what both are compared with
KEPT = 0.01  # clean accuracy may fall by so much
MEAN = "mean of the three attacks"


def _with(run: Run, defense: str) -> list[tuple[str, str]]:
    """Each network with this feature defense, and the network that it was put on, trained for as many epochs."""
    found = []
    for model in run.models("AV"):
        if run.about(model).feature_defense == defense:
            start = run.about(model).start
            found.append((model, start if start == RECOMBINED else EXTRA_EPOCHS.name))
    return found


def _worst(run: Run, level: Level, models: Sequence[str]) -> dict[tuple[str, str], Predictions | None]:
    """The worst case of each model by attacked modality, over the attacks that ran on all of them."""
    if set(level) != set(SUBSETS):
        return {}
    wanted = [(m, s, level[s]) for m in models for s in SUBSETS]
    return {(m, s): p for (m, s, _), p in zip(wanted, run.worst_case(wanted), strict=True)}


def _means(run: Run, level: Level, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    """Of each pair, the first claimed to be more robust than the second."""
    worst = _worst(run, level, list(dict.fromkeys(m for pair in pairs for m in pair)))
    means = {m: mean_attacked([worst.get((m, s)) for s in SUBSETS]) for pair in pairs for m in pair}
    return [c for high, low in pairs for c in compare(f"{low}, {MEAN}", means[low], high, means[high])]


def more_robust(run: Run, level: Level) -> Claim:
    pairs = [(RECOMBINED, other.name) for other in OTHERS]
    text = "To train on all pairs of clean and attacked streams is more robust than as many extra epochs, and than adversarial training alone."
    return Claim("training", text, tuple(_means(run, level, pairs)), every=False, family="fusions and defenses")


def more_budget_helps(run: Run, level: Level) -> Claim:
    pairs = [(ADVERSARIAL_TWICE.name, ADVERSARIAL.name), (RECOMBINED_TWICE, RECOMBINED)]
    text = "To train within twice the budget is more robust within the budget."
    return Claim("budget", text, tuple(_means(run, level, pairs)), every=False, family="fusions and defenses")


def both_are_more_robust(run: Run, level: Level) -> Claim:
    pairs = [(RECOMBINED_TWICE, other.name) for other in (*OTHERS, ADVERSARIAL_TWICE)]
    text = "All pairs of streams within twice the budget are more robust than as many extra epochs, than adversarial training, and than that within twice the budget."
    return Claim("both", text, tuple(_means(run, level, pairs)), every=False, family="fusions and defenses")


def as_accurate(run: Run, level: Level) -> Claim:
    found = []
    for model in (RECOMBINED, RECOMBINED_TWICE):
        clean = run.clean(model)
        for other in OTHERS:
            found += compare(f"{other.name}, clean", run.clean(other.name), f"{model}, clean", clean, margin=KEPT)
    text = f"To train on all pairs of streams costs less than {100 * KEPT:.0f} point of clean accuracy."
    return Claim("clean accuracy", text, tuple(found), every=False, family="clean accuracy")


def memory_helps(run: Run, level: Level) -> Claim:
    text = "A feature memory (ExFMem) makes that network more robust."
    return Claim("memory", text, tuple(_means(run, level, _with(run, "ExFMem"))), family="fusions and defenses")


def gates_help(run: Run, level: Level) -> Claim:
    text = "A gate that notices the attacked modality, and leaves it out, makes a network more robust to an attacker who knows it."
    return Claim("gates", text, tuple(_means(run, level, _with(run, "Gate"))), every=False, family="gates")


def perfect_gate_helps(run: Run, level: Level) -> Claim:
    worst, found = _worst(run, level, [RECOMBINED]), []
    for subset in ("A", "V"):
        without = next(
            (
                p
                for c, p in run.incomplete.items()
                if (c.model, c.subset, p.info.family, p.info.strength) == (RECOMBINED, subset, "missing", 1)
            ),
            None,
        )
        missing = ATTACKED[subset].replace("attacked", "missing").lower()
        found += compare(
            f"{RECOMBINED}, {ATTACKED[subset].lower()}",
            worst.get((RECOMBINED, subset)),
            f"{RECOMBINED}, {missing}",
            without,
        )
    text = (
        "A gate that never errs would help: without the attacked modality, the network is more accurate than with it."
    )
    return Claim("perfect gate", text, tuple(found), every=False, family="gates")


CLAIMS = Paper(
    name="aware",
    citation="Tian & Xu, CVPR 2021, conclusion: attacked-modality-aware prediction as future work",
    defense_claims=(
        more_robust,
        more_budget_helps,
        both_are_more_robust,
        as_accurate,
        memory_helps,
        gates_help,
        perfect_gate_helps,
    ),
)
