"""What the paper claims about time and modalities under attack, as comparisons on a run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from avrobust.attacks import MIM
from avrobust.attacks.base import attack_info
from avrobust.evaluation.conditions import Predictions, shared
from avrobust.objectives import WithSimilarity
from avrobust.papers.zhang2025.attacks import CHANGED, MMA, TIA, TMA
from avrobust.papers.zhang2025.objectives import TemporalAndModality
from avrobust.report.claims import Claim, Comparison, compare, mean_attacked
from avrobust.report.paper import Paper
from avrobust.report.run import SUBSETS, Level, Run
from avrobust.report.transfers import Transferred, transfers

PLAIN = MIM(keep="last")
CHANGED_ONLY = MIM(keep="last", variations=CHANGED)
OPPOSITE = TIA(objective=TemporalAndModality(temporal=-1.0))
TOGETHER = MIM(keep="last", objective=WithSimilarity())  # what the attacker of Tian & Xu 2021 raises


def _found(run: Run, level: Level, attack: Any) -> dict[str, Transferred]:
    """By surrogate, what this attack on both modalities did, whatever its number of steps."""
    wanted = attack_info(attack)
    return {
        t.surrogate: t
        for t in transfers(run)
        if t.subset == "AV" and t.budget == level.get("AV") and replace(t.info, steps=wanted.steps) == wanted
    }


def _elsewhere(t: Transferred) -> Predictions:
    """The share of the other models that classify a clip correctly."""
    same = shared(*t.others)
    return replace(same[0], columns=dict(same[0].columns) | {"correct": np.mean([p["correct"] for p in same], 0)})


def _at_home(t: Transferred) -> Predictions | None:
    return t.victims.get(t.surrogate)


def _versus(
    run: Run, level: Level, strong: Any, weak: Any, where: Callable[[Transferred], Predictions | None] = _elsewhere
) -> list[Comparison]:
    """One attack claimed to leave less than another, on each surrogate's victims or on itself."""
    theirs, ours = _found(run, level, weak), _found(run, level, strong)
    on = "transferred from" if where is _elsewhere else "on"
    return [
        c
        for surrogate in sorted(ours.keys() & theirs.keys())
        for c in compare(
            f"{ours[surrogate].attack}, {on} {surrogate}", where(ours[surrogate]), theirs[surrogate].attack, where(theirs[surrogate])
        )
    ]  # fmt: skip


def _one_frame(run: Run) -> str:
    """What a claim about temporal variation has to say where clips have a single frame."""
    view = run.record.asked.get("view")
    if not isinstance(view, Mapping) or view.get("frames") != 1:
        return ""
    return (
        "Clips have one frame here: the temporal term acts on audio only, and attacks on frames alone are without it."
    )


def tia_transfers(run: Run, level: Level) -> Claim:
    text = "TIA transfers to other models better than MI-FGSM."
    return Claim("TIA", text, tuple(_versus(run, level, TIA(), PLAIN)), note=_one_frame(run), family="transfer")


def mma_transfers(run: Run, level: Level) -> Claim:
    text = "MMA transfers to other models better than MI-FGSM."
    return Claim("MMA", text, tuple(_versus(run, level, MMA(), PLAIN)), family="transfer")


def tma_is_best(run: Run, level: Level) -> Claim:
    found = [c for half in (TIA(), MMA()) for c in _versus(run, level, TMA(), half)]
    text = "TMA, both together, transfers better than either of its halves."
    return Claim("TMA", text, tuple(found), every=False, note=_one_frame(run), family="transfer")


def variation_raises_white_box(run: Run, level: Level) -> Claim:
    found = _versus(run, level, OPPOSITE, TIA(), _at_home)
    text = "To raise the temporal variation instead makes the white-box attack stronger."
    return Claim("variation, white-box", text, tuple(found), note=_one_frame(run), family="transfer")


def variation_lowers_transfer(run: Run, level: Level) -> Claim:
    text = "To raise the temporal variation instead makes the attack transfer worse."
    found = _versus(run, level, TIA(), OPPOSITE)
    return Claim("variation, transfer", text, tuple(found), note=_one_frame(run), family="transfer")


def apart_is_better(run: Run, level: Level) -> Claim:
    found = [
        *_versus(run, level, MMA(), TOGETHER, _at_home),
        *_versus(run, level, MMA(), TOGETHER),
    ]
    text = "To drive both modalities apart is stronger than to draw them together, as the attacker of CVPR 2021 does."
    return Claim("sign", text, tuple(found), every=False, family="transfer")


def it_is_the_changes(run: Run, level: Level) -> Claim:
    text = "The temporal term adds something: TIA transfers better than MI-FGSM through the same changed segments. (Our test.)"
    return Claim("term", text, tuple(_versus(run, level, TIA(), CHANGED_ONLY)), note=_one_frame(run), family="transfer")


def _gaps(run: Run, model: str, subset: str, variant: str = "") -> dict[float, Predictions]:
    """A model's predictions by the share of a clip that is masked."""
    return {
        p.info.strength: p
        for c, p in run.incomplete.items()
        if (c.model, c.subset, p.info.family, p.info.variant) == (model, subset, "gap", variant)
    }


def synchronous_masking_hurts_more(run: Run, level: Level) -> Claim:
    found = []
    for model in run.models("AV"):
        same, apart = _gaps(run, model, "AV"), _gaps(run, model, "AV", "apart")
        for share in sorted(same.keys() & apart.keys()):
            name = f"{model}, {100 * share:g} % masked"
            found += compare(f"{name}, the same in both", same[share], "another stretch in each", apart[share])
    text = "Masks at the same time in both modalities hurt more than masks at different times."
    return Claim("synchronous", text, tuple(found), every=False, family="masking")


def visual_masking_hurts_more(run: Run, level: Level) -> Claim:
    found = []
    for model in run.models("AV"):
        audio, visual = (_gaps(run, model, subset) for subset in ("A", "V"))
        for share in sorted(audio.keys() & visual.keys()):
            found += compare(
                f"{model}, {100 * share:g} % of the frames masked", visual[share], "of the audio", audio[share]
            )
    text = "Masks on video hurt more than masks on audio."
    return Claim("visual", text, tuple(found), every=False, family="masking")


def _defended(run: Run, level: Level, model: str) -> Predictions | None:
    if set(level) != set(SUBSETS):
        return None
    return mean_attacked(run.worst_case([(model, s, level[s]) for s in SUBSETS]))


def curriculum_helps(run: Run, level: Level) -> Claim:
    by_loss = {run.about(m).loss: m for m in run.models("AV")}
    plain = [m for loss, m in by_loss.items() if loss and any(f"curriculum, {loss}" == other for other in by_loss)]
    found = []
    for model in plain:
        harder = by_loss[f"curriculum, {run.about(model).loss}"]
        found += compare(
            f"{model}, mean of the three attacks", _defended(run, level, model), harder, _defended(run, level, harder)
        )
    text = "Adversarial training from easy to hard is more robust than adversarial training alone."
    return Claim("curriculum", text, tuple(found), note=_one_frame(run), family="fusions and defenses")


SAID = {
    "TIA": "On average 15.7 points over PAM, the strongest baseline (as reviews quote it).",
    "TMA": "95.2 % attack success on average (as reviews quote it).",
    "variation, white-box": "82.3 to 86.7 % attack success, AcA, 5 steps (authors' answer).",
    "variation, transfer": "54.9 to 50.5 % attack success, AcA to RsR (authors' answer).",
    "synchronous": "More fragile under synchronous masking (authors' answer).",
    "visual": "12.3 points more than audio (as reviews quote it).",
    "curriculum": "2.28 points over CRMT with adversarial training (as reviews quote it).",
}

PAPER = Paper(
    name="zhang2025",
    citation="Zhang, Liang, Shimada, Xu, ICLR 2025 (arXiv 2502.11858)",
    said=SAID,
    claims=(
        tia_transfers,
        mma_transfers,
        tma_is_best,
        variation_raises_white_box,
        variation_lowers_transfer,
        apart_is_better,
        it_is_the_changes,
        synchronous_masking_hurts_more,
        visual_masking_hurts_more,
    ),
    defense_claims=(curriculum_helps,),
)
