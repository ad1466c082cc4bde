"""Where a model looks, against where the sound comes from.

Heat maps are positive and sum to 1 over the places of a picture; boxes are x0 y0 x1 y1 in [0, 1] of the frame that the
model sees.  The paper could only show pictures of this (section 4.5): its data has no boxes.

A map without contrast (constant, zero, or not finite) points nowhere: it has no hottest place and no region, and every
measure of it is 0.  Not nan: a clip that is left out would make a model that points nowhere look better.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from avrobust.engine import Victim
from avrobust.types import Batch, InputError, Signals

Box = tuple[float, float, float, float]
FINE = 64  # places per side, at least, at which a heat map's region is compared with a box
THRESHOLD = 0.5  # of the range of a heat map: what is hotter is the region, as the field draws it
FOUND = 0.5  # of intersection over union: from here on the field counts a source as found (cIoU)
CONTRAST = 0.01  # of its largest value: a map whose range is smaller is constant, but for rounding in bfloat16


@dataclass(frozen=True)
class Localisation:
    """Columns for the rows of a model that points, one number per clip; nan for a clip without a box.

    `pointing`: 1 if the hottest place's middle lies in the box of the sounding object.  `mass`: the attention inside
    that box.  `iou`: intersection over union of box and hot region.  `rival_mass`: the attention inside the box of a
    silent object of the same size, where there is one.  `peak`: how many times hotter the hottest place is than the mean,
    0 for a map that points nowhere; what a model has to tell that nothing sounds here.  `heat_moved`: half the absolute difference to the clean
    clip's heat map, in [0, 1]; 1 for a map that is not finite any more.
    """

    boxes: Mapping[str, Box | None]
    rivals: Mapping[str, Box | None] = field(default_factory=dict)

    def __call__(self, model: Victim, batch: Batch, x: Signals) -> dict[str, list[float]]:
        """Of the signals `x`, which are those of `batch` or an attack's."""
        with torch.no_grad():
            out = model.output(x, ("heat", "clean"))
            before = out.clean or model.output(batch.x, ("heat",))
        if out.heat is None or before.heat is None:
            raise InputError(
                "expected a model with a heat map, got one without. Use the fusion 'attention', give the model a method "
                "heat(features), or return avrobust.types.Output(logits, heat=heat)."
            )
        heat, clean = out.heat.float().cpu(), before.heat.float().cpu()  # small, and measured map by map
        moved = 0.5 * (heat - clean).abs().flatten(1).sum(1)
        broken = clean.flatten(1).isfinite().all(1) & ~heat.flatten(1).isfinite().all(1)
        return columns(
            heat.mean(1) * heat.shape[1],
            [self.boxes.get(id) for id in batch.ids],
            [self.rivals.get(id) for id in batch.ids],
        ) | {"heat_moved": moved.masked_fill(broken, 1.0).tolist()}


def columns(heat: Float[Tensor, "b h w"], boxes: list[Box | None], rivals: list[Box | None]) -> dict[str, list[float]]:
    """How well each heat map fits its box."""
    nan = float("nan")
    return {
        "pointing": [pointing(m, b) if b else nan for m, b in zip(heat, boxes, strict=True)],
        "mass": [mass(m, b) if b else nan for m, b in zip(heat, boxes, strict=True)],
        "iou": [iou(m, b) if b else nan for m, b in zip(heat, boxes, strict=True)],
        "rival_mass": [mass(m, b) if b else nan for m, b in zip(heat, rivals, strict=True)],
        "peak": [float(m.max() / m.mean()) if points(m) else 0.0 for m in heat],
    }


def points(heat: Float[Tensor, "h w"]) -> bool:
    """Whether a heat map points anywhere: it is finite, and has contrast.

    >>> points(torch.ones(7, 7) / 49), points(torch.full((7, 7), float("nan"))), points(torch.eye(7))
    (False, False, True)
    """
    return bool(heat.isfinite().all() and heat.max() - heat.min() > CONTRAST * heat.abs().max())


def pointing(heat: Float[Tensor, "h w"], box: Box) -> float:
    """1 if the middle of the hottest place lies in the box (the pointing game, Zhang et al. 2018), else 0.

    Where several places are equally hot, the share of them that do.

    >>> heat = torch.tensor([[0.1, 0.7], [0.1, 0.1]])
    >>> pointing(heat, (0.5, 0.0, 1.0, 0.5)), pointing(heat, (0.0, 0.0, 0.5, 1.0))
    (1.0, 0.0)
    """
    if not points(heat):
        return 0.0
    row, column = (heat == heat.max()).nonzero().float().T
    x, y = (column + 0.5) / heat.shape[1], (row + 0.5) / heat.shape[0]
    return float(((box[0] <= x) & (x <= box[2]) & (box[1] <= y) & (y <= box[3])).float().mean())


def mass(heat: Float[Tensor, "h w"], box: Box) -> float:
    """The attention inside the box; a place on its edge counts with the part that is inside.

    >>> mass(torch.tensor([[0.1, 0.7], [0.1, 0.1]]), (0.5, 0.0, 1.0, 0.25))
    0.3499...
    """
    if not points(heat):
        return 0.0
    heat = heat.clamp(min=0)
    return float((heat * _covered(box, *heat.shape).to(heat)).sum() / heat.sum().clamp(min=1e-30))


def iou(heat: Float[Tensor, "h w"], box: Box) -> float:
    """Intersection over union of the box and the region that is hotter than half the map's range.

    A map of fewer places is made finer by linear interpolation first.  The share of clips above 0.5 is the field's cIoU, and the
    area under that share over all thresholds is the mean of this number.
    """
    if not points(heat):
        return 0.0
    rows, columns = (max(n, FINE) for n in heat.shape)  # a coarser one could miss its hottest places
    fine = F.interpolate(heat[None, None], size=(rows, columns), mode="bilinear")[0, 0]
    low, high = fine.min(), fine.max()
    hot = (fine >= low + THRESHOLD * (high - low)).to(heat)
    return _overlap(hot, _covered(box, rows, columns).to(heat))


def baselines(boxes: list[Box]) -> dict[str, dict[str, float]]:
    """What two answers without looking are worth on these clips, in every measure; means over clips.

    "blank": the whole picture, all places alike.  "centre": a box of the mean size in the middle of the picture.
    `clips` is how many there are, `found` the share with an intersection over union of at least one half.

    >>> found = baselines([(0.25, 0.25, 0.75, 0.75), (0.0, 0.0, 0.5, 0.5)])
    >>> found["blank"]
    {'clips': 2, 'pointing': 0.0, 'mass': 0.25, 'iou': 0.25, 'found': 0.0}
    >>> found["centre"]["pointing"], found["centre"]["found"]
    (1.0, 0.5)
    """
    if not boxes:
        return {}
    width = sum(x1 - x0 for x0, _, x1, _ in boxes) / len(boxes)
    height = sum(y1 - y0 for _, y0, _, y1 in boxes) / len(boxes)
    middle = (0.5 - width / 2, 0.5 - height / 2, 0.5 + width / 2, 0.5 + height / 2)
    held = [float(x0 <= 0.5 <= x1 and y0 <= 0.5 <= y1) for x0, y0, x1, y1 in boxes]
    return {
        name: _means(region, boxes, hits)
        for name, region, hits in (("blank", (0.0, 0.0, 1.0, 1.0), [0.0] * len(boxes)), ("centre", middle, held))
    }


def _means(region: Box, boxes: list[Box], hits: list[float]) -> dict[str, float]:
    """A region without contrast of its own, against each box."""
    seen = _covered(region, FINE, FINE)
    inside = [_covered(box, FINE, FINE) for box in boxes]
    overlaps = [_overlap(seen, covered) for covered in inside]
    return {
        "clips": len(boxes),
        "pointing": sum(hits) / len(boxes),
        "mass": sum(float((seen * covered).sum() / seen.sum()) for covered in inside) / len(boxes),
        "iou": sum(overlaps) / len(boxes),
        "found": sum(overlap >= FOUND for overlap in overlaps) / len(boxes),
    }


def _overlap(hot: Tensor, inside: Tensor) -> float:
    both = (hot * inside).sum()
    return float(both / (hot.sum() + inside.sum() - both))


def _covered(box: Box, rows: int, columns: int) -> Float[Tensor, "h w"]:
    """The share of each place that the box covers."""

    def along(low: float, high: float, n: int) -> Tensor:
        edges = torch.arange(n + 1) / n
        return (edges[1:].clamp(low, high) - edges[:-1].clamp(low, high)) * n

    return along(box[1], box[3], rows)[:, None] * along(box[0], box[2], columns)[None]
