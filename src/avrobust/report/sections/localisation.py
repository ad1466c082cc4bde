"""Where models look in the frame: measures against boxes of the sound source, and attention over frames."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Predictions
from avrobust.evaluation.stats import MISSING, Estimate, estimate, percent, proportion
from avrobust.facts import Budget
from avrobust.report.formatting import ATTACKED, at
from avrobust.report.measured import accuracy
from avrobust.report.media import read_json, uri
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.table import DASH, Cell, Line, Table, percentage, share, table

FOUND = 0.5  # of intersection over union: from here on the field counts a source as found (cIoU)
KEPT = 0.95  # of the clean clips, whose maps peak at least as high as a negative's must to be taken for a source
CONTROLS = {
    "swapped": "Audio of another clip",
    "elsewhere": "Audio of another class",
    "muted": "Silence",
    "noise": "White noise",
}
NEGATIVES = ("elsewhere", "muted", "noise")  # the source of the audio is not in the frame
BASELINES = {"blank": "The whole frame", "centre": "A box at the centre"}


@dataclass(frozen=True)
class Row:
    """One condition of one model.  Fractions with intervals; nan where there was no box."""

    condition: str
    subset: str
    budget: Budget | None
    recognised: Estimate
    pointing: Estimate
    mass: Estimate
    found: Estimate  # share of clips with an intersection over union of at least `FOUND`
    auc: Estimate  # area under that share over all thresholds: the mean intersection over union
    prefers: Estimate  # more attention on the source than on its silent rival, where there is one
    moved: Estimate  # half the absolute difference of heat maps
    sees: Estimate  # for a negative: its map peaks as high as `KEPT` of the clean ones do, a false positive


def tables(run: Run) -> dict[str, list[Row]]:
    """All conditions, by the model that localises."""
    return {model: list(_rows(run, model)) for model in run.localisers}


def _rows(run: Run, model: str) -> Iterator[Row]:
    clean = run.clean(model)
    yield _row("Clean", "clean", None, clean)
    for c, p in run.controls.items():
        if c.model == model:
            yield _row(CONTROLS.get(c.attack, c.attack), "control", None, p, clean if c.attack in NEGATIVES else None)
    if run.visual_localiser:
        yield _row("Trained without audio", "control", None, run.clean(run.visual_localiser))
    for attack in run.infos:
        for subset in SUBSETS:
            for budget in sorted({level[subset] for level in run.levels if subset in level}):
                if predictions := run.attacked(model, attack, subset, budget):
                    yield _row(attack, subset, budget, predictions)


@dataclass(frozen=True)
class Baseline:
    """A localisation that ignores the clip, in every measure; the means of `mass` and overlap are of the boxes alone."""

    name: str
    pointing: Estimate
    mass: float
    found: Estimate
    auc: float


def baselines(run: Run) -> list[Baseline]:
    """What localisation that ignores the clip reaches on these clips; empty where boxes are not known."""
    return [
        Baseline(BASELINES[name], _share(b.pointing, b.clips), b.mass, _share(b.found, b.clips), b.iou)
        for name, b in run.record.baselines.items()
        if name in BASELINES
    ]


def _share(share: float, n: int) -> Estimate:
    """A share of `n` clips, with its interval."""
    return proportion(round(share * n), n)


def known(predictions: Predictions | None, column: str) -> np.ndarray:
    """A column's (seeds, clips), for the clips that have it."""
    if predictions is None or column not in predictions.columns:
        return np.empty((0, 0))
    values = predictions[column].astype(float)
    return values[:, ~np.isnan(values).any(0)]


def prefers(predictions: Predictions | None) -> np.ndarray:
    """(seeds, clips) with a silent rival: whether the source gets more attention than it."""
    if predictions is None or not known(predictions, "rival_mass").size:
        return np.empty((0, 0))
    own, other = predictions["mass"].astype(float), predictions["rival_mass"].astype(float)
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
    condition: str,
    subset: str,
    budget: Budget | None,
    predictions: Predictions | None,
    clean: Predictions | None = None,
) -> Row:
    def mean(values: np.ndarray) -> Estimate:
        return estimate(values) if values.size else MISSING

    overlap = known(predictions, "iou")
    return Row(
        condition=condition,
        subset=subset,
        budget=budget,
        recognised=accuracy(predictions),
        pointing=mean(known(predictions, "pointing")),
        mass=mean(known(predictions, "mass").clip(0, 1)),
        found=mean(overlap >= FOUND),
        auc=mean(overlap),
        prefers=mean(prefers(predictions)),
        moved=mean(known(predictions, "heat_moved").clip(0, 1)),
        sees=mean(false_positives(predictions, clean)) if predictions is not None else MISSING,
    )


@dataclass(frozen=True)
class StripRecord:
    """What clip.json says of a strip: the clip, its class, boxes in [0, 1], the attack, and the prediction by condition."""

    clip: str
    label: str
    attack: str
    budget: Budget
    pred: dict[str, str]
    box: tuple[float, float, float, float] | None = None
    rival: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Strip:
    """One clip, by condition (clean, A, V, AV): the frame and the attention over it, as data URIs.

    `audio` are the WAV files of those conditions that have one.
    """

    about: StripRecord
    frames: Mapping[str, str]
    heat: Mapping[str, str]
    audio: Mapping[str, Path]


def strips(run: Run, model: str) -> list[Strip]:
    """The clips that a study drew for this model, in their order.  Raises `RunError` for one that is damaged."""
    found = []
    # The name comes from a file, so it is looked up among the folders there are rather than made a path.
    folders = [folder for folder in (run.path / "strips").glob("*") if folder.name == model] if run.path else []
    for file in sorted(file for folder in folders for file in folder.glob("*/clip.json")):
        (about,) = read_json(StripRecord, file)
        here = file.parent
        shown = [s for s in ("clean", *SUBSETS) if s in about.pred and (here / f"{s}.png").exists()]
        found.append(
            Strip(
                about,
                {s: uri(here / f"{s}.png") for s in shown},
                {s: uri(here / f"{s}-heat.png") for s in shown},
                {s: wav for s in shown if (wav := here / f"{s}.wav").exists()},
            )
        )
    return found


def data(run: Run) -> Mapping[str, Any] | None:
    found = tables(run)
    if not found:
        return None
    shown = {model: (measures(model, rows, baselines(run)), strips(run, model)) for model, rows in found.items()}
    clean = next(iter(found.values()))[0]
    result = (
        f"points at the sound source on {percent(clean.pointing.value)} % of the clean clips"
        if clean.pointing.n
        else ""
    )
    return {"models": shown, "result": result}


def measures(model: str, found: list[Row], beside: list[Baseline]) -> Table:
    """A row per condition and per baseline, in per cent."""
    heads = [
        "Condition", "Perturbation budget", "Accuracy", "Pointing", "Attention", "Found", "Overlap", "Over rival", "Moved",
        "False positives",
    ]  # fmt: skip
    body: list[Line] = []
    for r in found:
        name = f"{r.condition}, {ATTACKED[r.subset].lower()}" if r.budget else r.condition
        cells = r.recognised, r.pointing, r.mass, r.found, r.auc, r.prefers, r.moved, r.sees
        body.append([name, at(r.subset, r.budget) if r.budget else "—", *map(share, cells)])
    for b in beside:
        own = DASH, share(b.pointing), percentage(b.mass), share(b.found), percentage(b.auc), DASH, DASH, DASH
        body.append([Cell(b.name, ("ignores the clip",)), "—", *own])
    return table(f"Sound source localisation by {model}", heads, body)


SECTION = Section("localisation", "Sound source localisation", data)
