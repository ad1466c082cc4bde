"""Both modalities' features in one plane by t-SNE, and how far apart they lie, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from safetensors import SafetensorError, safe_open

from avrobust.evaluation.embedding import Spread, alignment, spread
from avrobust.report.load import RunError
from avrobust.report.media import png
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import Line, Table, number, table

PLANES = ("tsne_audio", "tsne_visual")
PARTS = ("audio", "visual", *PLANES)
SIDE, DPI = 4.4, 170  # inches, dots per inch


@dataclass(frozen=True)
class Cloud:
    """One model's features: the image as a data URI, and the numbers beside it."""

    model: str
    seed: int
    clips: int
    image: str
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
    first = {model: (seed, file) for model, seed, file in reversed(kept)}
    return [_cloud(model, *first[model], colours(run.classes)) for model in run.record.models if model in first]


def colours(classes: int) -> list[str]:
    """A colour per class; beyond twenty they repeat."""
    palette = matplotlib.colormaps["tab10" if classes <= 10 else "tab20"]
    return [matplotlib.colors.to_hex(palette(k % palette.N)) for k in range(classes)]


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


def _cloud(model: str, seed: int, file: str, palette: list[str]) -> Cloud:
    kept = _kept(file, len(palette))
    label = kept["label"]
    figure = Figure(figsize=(SIDE, SIDE), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    for modality, mark in (("visual", "^"), ("audio", "o")):
        x, y = kept[f"tsne_{modality}"].T
        axes.scatter(x, y, c=np.array(palette)[label], marker=mark, s=11, alpha=0.75, linewidths=0)
    image = png(lambda buffer: figure.savefig(buffer, format="png", transparent=True))
    audio, visual = kept["audio"].astype(float), kept["visual"].astype(float)
    return Cloud(model, seed, len(label), image, spread(audio, label), spread(visual, label), alignment(audio, visual))


def data(run: Run) -> Mapping[str, Any] | None:
    found = clouds(run)
    return {"clouds": found, "colours": colours(run.classes), "table": distances(found)} if found else None


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
