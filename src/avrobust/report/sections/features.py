"""Both modalities' features in one plane by t-SNE, and how far apart they lie, in numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from avrobust.evaluation.embedding import Spread, alignment, spread
from avrobust.report import charts
from avrobust.report.figures import Figure
from avrobust.report.formatting import listing
from avrobust.report.load import RunError
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table, number, table

PLANES = ("tsne_audio", "tsne_visual")
PARTS = ("audio", "visual", *PLANES)
NAMED = 24  # classes that a legend can name


@dataclass(frozen=True)
class Cloud:
    """One model's features: the figure, and the numbers beside it."""

    model: str
    seed: int
    clips: int
    figure: Figure
    audio: Spread
    visual: Spread
    cosine: float  # between both features of a clip, mean


def clouds(run: Run) -> list[Cloud]:
    """The models whose features the study kept, in the order of run.json; the first seed of each."""
    if run.path is None:
        return []
    # Names come from a file, so they are looked up among the files there are rather than made paths.
    files = {file.name: str(file) for file in (run.path / "features").glob("*.safetensors")}
    kept = [
        (m, s, files[name]) for m in run.record.models for s in run.seeds if (name := f"{m}-{s}.safetensors") in files
    ]
    listed = run.record.data.classes
    names = (
        [name.replace("_", " ") for name in listed]
        if len(listed) == run.classes
        else [str(k) for k in range(run.classes)]
    )
    first = {model: (seed, file) for model, seed, file in reversed(kept)}
    return [_cloud(model, *first[model], names) for model in run.record.models if model in first]


def _kept(file: str, classes: int) -> dict[str, np.ndarray]:
    """What the file holds: label (n), audio and visual (n d), where t-SNE puts both (n 2)."""
    try:
        with safe_open(file, framework="np") as tensors:
            kept = {name: np.asarray(tensors.get_tensor(name)) for name in ("label", *PARTS)}
    except (SafetensorError, OSError, TypeError) as error:
        raise RunError(f"{file}: expected features, got {error}. Delete it and run the study again.") from None
    label = kept["label"]
    whole = label.ndim == 1 and label.dtype.kind in "iu" and all(kept[p].ndim == 2 for p in PARTS)
    whole = whole and all(len(kept[p]) == len(label) and np.isfinite(kept[p].astype(float)).all() for p in PARTS)
    whole = whole and all(kept[p].shape[1] == 2 for p in PLANES)
    if not (whole and len(label) and label.min() >= 0 and label.max() < classes):
        raise RunError(
            f"{file}: expected finite features of clips of {classes} classes, got "
            f"{', '.join(f'{name} {list(t.shape)}' for name, t in kept.items())}. Delete it and run the study again."
        )
    return kept


def _cloud(model: str, seed: int, file: str, names: Sequence[str]) -> Cloud:
    kept = _kept(file, len(names))
    label = kept["label"]
    rows = [
        {"class": names[k], "modality": modality, "x": round(float(x), 3), "y": round(float(y), 3)}
        for modality in ("visual", "audio")
        for k, (x, y) in zip(label, kept[f"tsne_{modality}"], strict=True)
    ]
    title = f"Features of {model} by t-SNE"
    alt = f"{title}: {len(label)} clips, a mark for each modality and a colour for each class."
    figure = Figure(
        f"features {model}", model, alt, rows, _plane(names), (340, 430), f"{title}, by class and modality."
    )
    audio, visual = kept["audio"].astype(float), kept["visual"].astype(float)
    return Cloud(model, seed, len(label), figure, spread(audio, label), spread(visual, label), alignment(audio, visual))


def _plane(names: Sequence[str]) -> Mapping[str, Any]:
    """Points in a plane without units: a colour for each class (they repeat beyond twenty), a mark for each modality."""

    def place(axis: str, number: int) -> Mapping[str, Any]:
        own = {"title": f"t-SNE {number}", "ticks": False, "labels": False, "grid": False}
        return {
            "field": axis,
            "type": "quantitative",
            "scale": {"zero": False, "nice": False, "padding": 8},
            "axis": own,
        }

    palette = {"domain": [*names], "scheme": "tableau10" if len(names) <= 10 else "tableau20"}
    marks = {"domain": ["audio", "visual"], "range": [charts.MARKS["A"][0], charts.MARKS["V"][0]]}
    legend = {"title": None, "columns": 3, "symbolLimit": 0, "labelFontSize": 10} if len(names) <= NAMED else None
    return {
        "mark": {"type": "point", "filled": True, "size": 26, "opacity": 0.8},
        "params": [charts.switch("class"), charts.ZOOM],
        "encoding": {
            "x": place("x", 1),
            "y": place("y", 2),
            "color": {"field": "class", "type": "nominal", "scale": palette, "legend": legend},
            "shape": {
                "field": "modality",
                "type": "nominal",
                "scale": marks,
                "legend": {"title": None, "orient": "top"},
            },
            "opacity": charts.seen(0.8),
            "tooltip": charts.tooltip(["class", "modality"]),
        },
    }


def data(run: Run) -> Mapping[str, Any] | None:
    found = clouds(run)
    if not found:
        return None
    apart = [f"{c.model} {c.audio.silhouette:.2f} and {c.visual.silhouette:.2f}" for c in found]
    return {"clouds": found, "table": distances(found), "result": f"silhouettes of audio and visual: {listing(apart)}"}


def distances(found: list[Cloud]) -> Table:
    """How far apart the features lie, by model and modality."""
    heads = [
        "Model",
        "Modality",
        "Silhouette",
        "Distance within a class",
        "Distance between classes",
        "Cosine of both modalities",
    ]
    body: list[Line] = [
        [c.model, modality, *(number(v, f"{v:.2f}") for v in (s.silhouette, s.within, s.between, c.cosine))]
        for c in found
        for modality, s in (("audio", c.audio), ("visual", c.visual))
    ]
    below = "Distances are 1 − cosine, means over pairs of clips. Silhouette: 1 where classes are far apart, 0 where they overlap."
    return table("Distances of features", heads, body, below=below)


SECTION = Section("features", "Feature space", data)
