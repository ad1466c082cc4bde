"""What the paper claims about natural corruptions, and what it leaves open about integration, as comparisons on a run."""

from dataclasses import replace

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.report.claims import Claim, compare
from avrobust.report.formatting import MODEL
from avrobust.report.paper import Paper
from avrobust.report.run import Level, Run

MINIMAL = 0.03  # a gain below so much accuracy counts as minimal: the paper's best adaptation gains 3.2 points
HIT = {"A": "audio corrupted", "V": "video corrupted", "AV": "both corrupted"}


def mean_corrupted(run: Run, model: str | None, subset: str, severity: int | None = None) -> Predictions | None:
    """The share of corruptions, of this severity or all, under which each clip is classified correctly; None without any."""
    own = [
        p
        for c, p in run.corrupted.items()
        if (c.model, c.subset) == (model, subset) and severity in (None, p.info.strength)
    ]
    if not own:
        return None
    same = shared(*own)
    mean = np.mean([p["correct"] for p in same], 0)
    return replace(same[0], columns=dict(same[0].columns) | {"correct": mean})


def severity_matters(run: Run, level: Level) -> Claim:
    model, found = run.model("AV"), []
    for subset, name in HIT.items():
        mild, severe = (mean_corrupted(run, model, subset, severity) for severity in (1, 5))
        found += compare(f"{name}, severity 5", severe, "severity 1", mild)
    text = "The more severe the corruption, the less accurate the audio-visual model."
    return Claim("severity", text, tuple(found), family="natural")


def joint_corruption_is_worse(run: Run, level: Level) -> Claim:
    model, found = run.model("AV"), []
    for subset in ("A", "V"):
        both, one = mean_corrupted(run, model, "AV"), mean_corrupted(run, model, subset)
        found += compare(HIT["AV"], both, HIT[subset], one)
    text = "Corruptions of both modalities at once leave less accuracy than those of one."
    return Claim("co-occurring", text, tuple(found), family="natural")


def integration_helps(run: Run, level: Level) -> Claim:
    model, found = run.model("AV"), []
    for subset in ("A", "V"):
        one = mean_corrupted(run, run.model(subset), subset)
        for hit in (subset, "AV"):
            both = mean_corrupted(run, model, hit)
            found += compare(f"{MODEL[subset]}, {HIT[subset]}", one, f"{MODEL['AV']}, {HIT[hit]}", both)
    text = "Where nobody attacks, integration strengthens: under the same corruptions, the audio-visual model is more accurate than the unimodal ones. (Our test.)"
    return Claim("integration", text, tuple(found), every=False, family="natural")


def other_modality_suffices(run: Run, level: Level) -> Claim:
    model, found = run.model("AV"), []
    for subset, other in (("A", "V"), ("V", "A")):
        hurt = mean_corrupted(run, model, subset)
        alone = run.clean(run.model(other))
        found += compare(f"{MODEL[other]}, clean", alone, f"{MODEL['AV']}, {HIT[subset]}", hurt)
    text = "With one modality corrupted, the audio-visual model is still more accurate than the clean unimodal model of the other. (Our test.)"
    return Claim("other", text, tuple(found), every=False, family="natural")


def adaptation_gains_little(run: Run, level: Level) -> Claim:
    found = []
    for model, start in _adapting(run):
        left, kept = mean_corrupted(run, model, "AV"), mean_corrupted(run, start, "AV")
        found += compare(f"{model}, both corrupted", left, start, kept, margin=MINIMAL)
    text = f"Test-time adaptation gains little under joint corruptions: less than {100 * MINIMAL:.0f} points."
    return Claim("adaptation", text, tuple(found), family="natural")


def adaptation_helps(run: Run, level: Level) -> Claim:
    found = [
        c
        for model, start in _adapting(run)
        for c in compare(
            start, mean_corrupted(run, start, "AV"), f"{model}, both corrupted", mean_corrupted(run, model, "AV")
        )
    ]
    text = "Test-time adaptation helps under joint corruptions, however little."
    return Claim("helps", text, tuple(found), every=False, family="natural")


def other_training_helps(run: Run, level: Level) -> Claim:
    base, found = run.role("baseline"), []
    for model in run.models("AV"):
        if run.about(model).start and not run.about(model).adaptation and model != base:
            for subset, name in HIT.items():
                own = mean_corrupted(run, model, subset)
                found += compare(f"{base}, {name}", mean_corrupted(run, base, subset), model, own)
    text = "Training on clips that are attacked, or miss a modality, helps under natural corruptions more than as many epochs of plain training. (Our test.)"
    return Claim("trained", text, tuple(found), every=False, family="natural")


def _adapting(run: Run) -> list[tuple[str, str]]:
    """The models that adapt, each with the one that it adapts."""
    return [(m, start) for m in run.models("AV") if run.about(m).adaptation and (start := run.about(m).start)]


PAPER = Paper(
    name="maharana2025",
    citation="Maharana et al., AVRobustBench, NeurIPS 2025 (arXiv 2506.00358)",
    said={
        "severity": "All models on four datasets, in figures.",
        "co-occurring": "The reason to benchmark both at once.",
        "adaptation": "VGGSound-2C and Kinetics-2C: minimal improvements by online methods that were there before.",
        "helps": "Its own AV2C: 3.2 points on VGGSound-2C.",
    },
    claims=(
        severity_matters,
        joint_corruption_is_worse,
        integration_helps,
        other_modality_suffices,
        adaptation_gains_little,
        adaptation_helps,
        other_training_helps,
    ),
)
