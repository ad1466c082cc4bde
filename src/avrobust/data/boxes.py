"""Boxes around the source of a sound as benchmarks publish them: several per picture, of several annotators."""

from collections.abc import Sequence
from itertools import pairwise

from avrobust.data.entry import Box


def inside(box: Sequence[float]) -> Box | None:
    """A box cut to the frame; None if nothing of it is left.

    >>> inside([-0.1, 0.2, 0.5, 1.2]), inside([0.2, 1.0, 0.7, 1.0])
    ((0.0, 0.2, 0.5, 1.0), None)
    """
    x0, y0, x1, y1 = (min(max(float(side), 0.0), 1.0) for side in box)
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def consensus(boxes: Sequence[Box], votes: int = 1) -> Box | None:
    """The smallest box around every place that at least `votes` of the boxes cover; None if there is none.

    Benchmarks compare heat maps with these places themselves: for VGG-SS those in any box (Chen et al. 2021), for
    Flickr-SoundNet those in the boxes of two annotators, and half as much those in one (Senocak et al. 2018).  A box around
    them is larger where they are apart.

    >>> consensus([(0.0, 0.0, 0.5, 0.5), (0.25, 0.25, 1.0, 1.0)], votes=2)
    (0.25, 0.25, 0.5, 0.5)
    >>> consensus([(0.0, 0.0, 0.5, 0.5), (0.75, 0.25, 1.0, 1.0)])
    (0.0, 0.0, 1.0, 1.0)
    """
    columns, rows = (sorted({side for box in boxes for side in box[axis::2]}) for axis in (0, 1))
    cells = [
        (x0, y0, x1, y1)
        for x0, x1 in pairwise(columns)
        for y0, y1 in pairwise(rows)
        if sum(box[0] <= x0 and x1 <= box[2] and box[1] <= y0 and y1 <= box[3] for box in boxes) >= votes
    ]
    if not cells:
        return None
    lefts, tops, rights, bottoms = zip(*cells, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def words(boxes: Sequence[Sequence[float]]) -> str:
    """Boxes as a table's cell.

    >>> words([(0.0, 0.25, 0.5, 1.0)])
    '0.0 0.25 0.5 1.0'
    """
    return "; ".join(" ".join(map(repr, box)) for box in boxes)
