"""Flags about models: answers to probes that make a robust accuracy mean something else than robustness."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from avrobust.evaluation.flags.evidence import ENOUGH, MODALITIES, Evidence, Flag, Level
from avrobust.evaluation.stats import Estimate, estimate, percent

IGNORED = 0.1  # of the predictions; a modality that decides fewer is hardly used
WEAKER = 0.9  # of the margin that float32 gains
EXPLAINED = 0.8  # of small changes of the logits; networks and front ends with a whole path reach 0.97 and more


def ignored_modality(seen: Evidence) -> Iterable[Flag]:
    """A model that ignores its audio is robust to an attack on it without any merit."""
    for (model, part), moved in predictions_that_change(seen).items():
        modality = MODALITIES[part]
        if part in seen.input_of(model) and (moved.high < IGNORED or seen.ignores(model, modality)):
            text = (
                f"{model} hardly uses its {modality} input: with that of another clip, the prediction changes on {moved}. "
                f"Robustness to attacks on {modality} then only means that {modality} is ignored."
            )
            yield Flag("a modality is ignored", "warning", text, model)


def probed_alone(seen: Evidence) -> Iterable[Flag]:
    """One clip has no other to take a modality of."""
    for model, p in seen.probes.items():
        if p["clips"] == 1:
            text = (
                f"{model} was probed on one clip, as no other of the first has its length and size: whether it ignores a modality is "
                "not known. Begin with clips of one length."
            )
            yield Flag("probed on one clip", "note", text, model)


def predictions_that_change(seen: Evidence) -> dict[tuple[str, str], Estimate]:
    """By model and modality, the share of predictions that change with another clip's: of all clips, else of a probe's."""
    found = {
        (model, part): estimate(np.arange(p["clips"])[None] < p["moved"][modality])
        for model, p in seen.probes.items()
        if "moved" in p and p["clips"] > 1
        for part, modality in MODALITIES.items()
    }
    swapped = {
        c: p
        for c, p in seen.controls.items()
        if c.attack == "swapped" and c.subset in MODALITIES and seen.measured(c.model).chance
    }
    return found | {(c.model, c.subset): estimate(p["pred"] != p["pred_clean"]) for c, p in swapped.items()}


def random_outputs(seen: Evidence) -> Iterable[Flag]:
    """One prediction of a random model is no measurement, and its gradient is noise."""
    for model, p in seen.probes.items():
        if p["random"] > 0:
            text = f"{model} gives other logits for the same clip, on {_share(p, p['random'])}. Attack the mean of its answers."
            yield Flag("random outputs", "alarm", text, model)


def depends_on_batch(seen: Evidence) -> Iterable[Flag]:
    """A clip's prediction should not depend on the other clips."""
    for model, p in seen.probes.items():
        if p["sociable"] > 0:
            text = f"{model} gives other logits when a clip is alone in its batch, on {_share(p, p['sociable'])}."
            yield Flag("output depends on batch mates", "alarm", text, model)


def gradient_vanishes(seen: Evidence) -> Iterable[Flag]:
    """Gradients that are zero lead nowhere; most attacks then return the clean clip."""
    for model, p in seen.probes.items():
        for part, modality in MODALITIES.items():
            # What is no input of a model needs no gradient.
            if part not in seen.input_of(model) or seen.ignores(model, modality):
                continue
            flat, faint = p["flat"][modality], p["faint"].get(modality, 0.0)
            if flat > ENOUGH:
                text = f"{model} has no gradient with respect to {modality}, on {_share(p, flat)}."
                yield Flag("gradients vanish", "alarm", text, model)
            elif faint > ENOUGH:
                text = (
                    f"The cross entropy of {model} has no gradient left with respect to {modality}, on "
                    f"{_share(p, faint)}, while the margin has. Attack the margin."
                )
                yield Flag("gradients vanish", "alarm", text, model)


def suspicion_hides(seen: Evidence) -> Iterable[Flag]:
    """A detector whose answer has no gradient cannot be fooled by one, which says nothing about how well it detects."""
    for model, p in seen.probes.items():
        for modality, share in p.get("hidden", {}).items():
            if share > ENOUGH:
                text = (
                    f"What {model} suspects of {modality} has no gradient, on {_share(p, share)}: attacks cannot learn to hide "
                    "from it, and what it detects of them is overrated."
                )
                yield Flag("a detector hides its gradient", "alarm", text, model)


def gradient_misleads(seen: Evidence) -> Iterable[Flag]:
    """A gradient that is not the logits' own, as where a part of the path is cut, leads attacks elsewhere."""
    for model, p in seen.probes.items():
        for part, modality in MODALITIES.items():
            share = p.get("explained", {}).get(modality)
            # A gradient that is zero has its own flag, and of an ignored modality there is none.
            skipped = part not in seen.input_of(model) or seen.ignores(model, modality) or p["flat"][modality] > ENOUGH
            if share is None or share >= EXPLAINED or skipped:
                continue
            text = (
                f"The gradient of {model} with respect to {modality} explains {percent(share)} % of what small changes of "
                f"{modality} do to its logits: part of the path is cut or replaced. Attacks that follow it are too weak."
            )
            yield Flag("gradients mislead", "alarm", text, model)


def crafted_in_low_precision(seen: Evidence) -> Iterable[Flag]:
    """Numbers that are too coarse for a small budget weaken an attack."""
    for model, p in seen.probes.items():
        for threat, low in p.get("low", {}).items():
            text = (
                f"Attacks on {model} within {threat} were crafted in {low['precision']}: on {low['clips']} clips they raise "
                f"the margin by {percent(low['gained'])} % of what float32 reaches, and {low['standing']} clips stay correct "
                f"against {low['standing_float32']}."
            )
            level: Level = "alarm" if low["gained"] < WEAKER else "note"
            yield Flag("crafted in low precision", level, text, model)


def attacked_otherwise(seen: Evidence) -> Iterable[Flag]:
    """What the engine could not do as it was asked, it did in a way that always works; the numbers hold, at another cost."""
    for model, p in seen.probes.items():
        if p.get("black_box"):
            text = f"{model} has methods embed and decide, and was attacked as a black box: {p['black_box']}."
            yield Flag("attacked otherwise", "note", text, model)
        if p.get("float32_instead"):
            text = f"bfloat16 was asked, and would weaken attacks on {model}, or it does not run in it: attacked in float32."
            yield Flag("attacked otherwise", "note", text, model)


def _share(probe: Mapping[str, Any], value: float) -> str:
    """A share of the probed clips as a count."""
    return f"{round(value * probe['clips'])} of {probe['clips']} clips"
