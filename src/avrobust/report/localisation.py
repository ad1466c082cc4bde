"""Where models looked: the table of localisation, and the strips of the paper's Figure 4."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Budget, Predictions
from avrobust.evaluation.stats import MISSING, Estimate, Proportion, estimate
from avrobust.report.gallery import said, uri
from avrobust.report.load import SUBSETS, Run
from avrobust.report.tables import right

FOUND = 0.5  # of intersection over union: from here on the field counts a source as found (cIoU)
KEPT = 0.95  # of the clean clips, whose maps peak at least as high as a negative's must to be taken for a source
CONTROLS = {
    "swapped": "another clip's sound",
    "elsewhere": "a sound of another class",
    "muted": "silence",
    "noise": "white noise",
}
NEGATIVES = ("elsewhere", "muted", "noise")  # nothing that is heard is in the picture
BASELINES = {"blank": "The whole picture", "centre": "A box in the middle"}


@dataclass(frozen=True)
class Row:
    """One condition of one model that points.  Fractions with intervals; nan where there was no box."""

    condition: str
    subset: str
    budget: Budget | None
    recognised: Estimate
    pointing: Estimate
    mass: Estimate
    found: Estimate  # share of clips with an intersection over union of at least `FOUND`
    auc: Estimate  # area under that share over all thresholds: the mean intersection over union
    prefers: Estimate  # more attention on what sounds than on its silent rival, where there is one
    moved: Estimate  # half the absolute difference of heat maps
    sees: Estimate  # for a negative: its map peaks as high as `KEPT` of the clean ones do, a false positive


@dataclass(frozen=True)
class Table:
    """All conditions of one model."""

    model: str
    rows: tuple[Row, ...]


def tables(run: Run) -> list[Table]:
    """One per model that points; empty where none does."""
    found = []
    for model in run.pointing():
        rows = [_row("clean", "clean", None, run.clean(model))]
        rows += [
            _row(
                CONTROLS.get(c.attack, c.attack),
                "control",
                None,
                a,
                run.clean(model) if c.attack in NEGATIVES else None,
            )
            for c, a in run.controls.items()
            if c.model == model
        ]
        if blind := run.soundless():
            rows.append(_row("trained without sound", "control", None, run.clean(blind)))
        for attack in run.modes:
            for subset in SUBSETS:
                budgets = {b for level in run.levels() for s, b in level.items() if s == subset}
                for budget in sorted(budgets):
                    if answers := run.attacked(model, attack, subset, budget):
                        rows.append(_row(attack, subset, budget, answers))
        found.append(Table(model, tuple(rows)))
    return found


@dataclass(frozen=True)
class Baseline:
    """An answer without looking, in every measure; the means of `mass` and overlap are of the boxes alone."""

    name: str
    pointing: Estimate
    mass: float
    found: Estimate
    auc: float


def baselines(run: Run) -> list[Baseline]:
    """What answers without looking are worth on these clips; empty where boxes are not known."""
    return [
        Baseline(BASELINES[name], told(b, "pointing"), float(b["mass"]), told(b, "found"), float(b["iou"]))
        for name, b in (run.about.get("baselines") or {}).items()
        if name in BASELINES
    ]


def told(baseline: Mapping[str, Any], measure: str) -> Estimate:
    """A share that run.json gives, with its interval."""
    n = int(baseline["clips"])
    p = Proportion(round(float(baseline[measure]) * n), n)
    return Estimate(p.value, p.low, p.high, p.n)


def known(answers: Predictions | None, column: str) -> np.ndarray:
    """A column's (seeds, clips), for the clips that have it."""
    if answers is None or column not in answers.columns:
        return np.empty((0, 0))
    values = answers[column].astype(float)
    return values[:, ~np.isnan(values).any(0)]


def prefers(answers: Predictions | None) -> np.ndarray:
    """(seeds, clips) with a silent rival: whether what sounds gets more attention than it."""
    if answers is None or not known(answers, "rival_mass").size:
        return np.empty((0, 0))
    own, other = answers["mass"].astype(float), answers["rival_mass"].astype(float)
    both = ~np.isnan(own + other).any(0)
    better: np.ndarray = own[:, both] > other[:, both]
    return better


def false_positives(negative: Predictions, clean: Predictions | None) -> np.ndarray:
    """(seeds, clips): whether a negative's map peaks at least as high as `KEPT` of the same network's clean ones."""
    if clean is None or not known(clean, "peak").size or not known(negative, "peak").size:
        return np.empty((0, 0))
    low = {s: np.quantile(peaks, 1 - KEPT) for s, peaks in zip(clean.seeds, known(clean, "peak"), strict=True)}
    peaks = known(negative, "peak")
    seen: np.ndarray = np.stack([(p > 0) & (p >= low[s]) for s, p in zip(negative.seeds, peaks, strict=True)])
    return seen


def _row(
    condition: str, subset: str, budget: Budget | None, answers: Predictions | None, clean: Predictions | None = None
) -> Row:
    def mean(values: np.ndarray) -> Estimate:
        return estimate(values) if values.size else MISSING

    overlap = known(answers, "iou")
    return Row(
        condition=condition,
        subset=subset,
        budget=budget,
        recognised=right(answers),
        pointing=mean(known(answers, "pointing")),
        mass=mean(known(answers, "mass").clip(0, 1)),
        found=mean(overlap >= FOUND),
        auc=mean(overlap),
        prefers=mean(prefers(answers)),
        moved=mean(known(answers, "heat_moved").clip(0, 1)),
        sees=mean(false_positives(answers, clean)) if answers is not None else MISSING,
    )


@dataclass(frozen=True)
class About:
    """What clip.json says of a strip: the clip, its class, boxes in [0, 1], the attack, and the answer by condition."""

    clip: str
    label: str
    attack: str
    eps_audio: float
    eps_visual: float
    threat: str
    pred: dict[str, str]
    box: tuple[float, float, float, float] | None = None
    rival: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Strip:
    """One clip of Figure 4: by condition (clean, A, V, AV), the frame and the heat over it, as data URIs.

    `sounds` are the WAV files of those conditions that have one.
    """

    about: About
    budget: Budget
    frames: Mapping[str, str]
    heat: Mapping[str, str]
    sounds: Mapping[str, Path]


def strips(run: Run, model: str) -> list[Strip]:
    """The clips that a study drew for this model, in their order.  Raises `RunError` for one that is damaged."""
    found = []
    # The name comes from a file, so it is looked up among the folders there are rather than made a path.
    folders = [folder for folder in (run.path / "strips").glob("*") if folder.name == model]
    for file in sorted(file for folder in folders for file in folder.glob("*/clip.json")):
        (about,) = said(About, file)
        shown = [s for s in ("clean", *SUBSETS) if s in about.pred and (file.parent / f"{s}.png").exists()]
        found.append(
            Strip(
                about,
                Budget.read(about.eps_audio, about.eps_visual, about.threat),
                {s: _image(file.parent, s) for s in shown},
                {s: _image(file.parent, f"{s}-heat") for s in shown},
                {s: wav for s in shown if (wav := file.parent / f"{s}.wav").exists()},
            )
        )
    return found


def _image(folder: Path, name: str) -> str:
    return uri(folder / f"{name}.png")
