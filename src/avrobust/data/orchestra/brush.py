"""Flat drawing in an instrument's own coordinates.  Knows shapes and colours; knows no instruments and no scenes."""

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import ImageDraw

Points = NDArray[np.float64]  # (n, 2): x to the right, y down
Rgb = tuple[int, int, int]

_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


@dataclass
class Brush:
    """Draws shapes given in own coordinates, where an instrument fills about [-1, 1] squared.

    `matrix` (2, 3) takes them to pixels, `tint` (3, 3) takes colours to colours.  Without a `canvas` nothing is
    drawn, but `bounds` still tells where it would have been.  `flat` draws all in one colour: a shadow's shape.
    """

    canvas: ImageDraw.ImageDraw | None
    matrix: Points
    tint: NDArray[np.float64]
    flat: int | None = None
    _drawn: list[Points] = field(default_factory=list)
    _mixed: dict[Rgb, Rgb] = field(default_factory=dict)

    def bounds(self) -> tuple[float, float, float, float]:
        """x0 y0 x1 y1 in pixels of all that would have been filled."""
        points = np.concatenate(self._drawn)
        (x0, y0), (x1, y1) = points.min(0), points.max(0)
        return float(x0), float(y0), float(x1), float(y1)

    def fill(self, points: ArrayLike, colour: Rgb, edge: Rgb | None = None) -> None:
        """A closed shape, with an outline in `edge`."""
        at = self._place(points)
        if self.canvas is None:
            self._drawn.append(at)
            return
        flat = at.ravel().tolist()
        self.canvas.polygon(flat, fill=self._colour(colour))
        if edge is not None:
            self.canvas.line(flat + flat[:2], fill=self._colour(edge), width=max(1, round(self._scale * 0.03)))

    def line(self, points: ArrayLike, width: float, colour: Rgb) -> None:
        """An open line, `width` wide in own coordinates but never thinner than a pixel."""
        if self.canvas is not None:
            self.canvas.line(
                self._place(points).ravel().tolist(),
                fill=self._colour(colour),
                width=max(1, round(self._scale * width)),
            )

    def disc(self, x: float, y: float, r: float, colour: Rgb, edge: Rgb | None = None, ry: float | None = None) -> None:
        """A disc around (x, y), or an ellipse `ry` high."""
        self.fill(CIRCLE * (r, r if ry is None else ry) + (x, y), colour, edge)

    def bar(self, start: tuple[float, float], stop: tuple[float, float], width: float, colour: Rgb, edge: Rgb | None = None) -> None:  # fmt: skip
        """A straight bar from `start` to `stop`."""
        self.fill(tube((start, stop), (width, width)), colour, edge)

    @property
    def _scale(self) -> float:
        return float(np.hypot(self.matrix[0, 0], self.matrix[1, 0]))

    def _place(self, points: ArrayLike) -> Points:
        return np.asarray(points) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def _colour(self, rgb: Rgb) -> int | Rgb:
        if self.flat is not None:
            return self.flat
        if rgb not in self._mixed:
            r, g, b = np.clip(self.tint @ rgb, 0, 255).astype(int).tolist()
            self._mixed[rgb] = r, g, b
        return self._mixed[rgb]


@lru_cache(maxsize=None)
def smooth(points: tuple[tuple[float, float], ...], closed: bool = True, steps: int = 5) -> Points:
    """A soft curve through `points` (Catmull and Rom's spline)."""
    p = np.array(points)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


@lru_cache(maxsize=None)
def mirrored(half: tuple[tuple[float, float], ...]) -> Points:
    """A soft shape that is symmetrical about x = 0, from its right half, top to bottom."""
    return smooth(half + tuple((-x, y) for x, y in reversed(half)))


def tube(centre: ArrayLike, widths: ArrayLike) -> Points:
    """The outline of a pipe along `centre` that is `widths` wide at its points."""
    p = np.asarray(centre, float)
    along = np.gradient(p, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.maximum(np.hypot(*along.T), 1e-9)[:, None]
    side = normal * (np.asarray(widths, float) / 2)[:, None]
    return np.concatenate([p + side, (p - side)[::-1]])
