"""Draws flat shapes in an instrument's own coordinates.  Knows no instruments and no scenes."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ImageDraw

Point = tuple[float, float]
Points = NDArray[Any]  # (n, 2): x to the right, y down
Shape = Points | Sequence[Point]
Rgb = tuple[int, int, int]
Ink = Callable[[Rgb], Rgb | int]

_TURN = np.linspace(0, 2 * np.pi, 20, endpoint=False)
CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)


def unchanged(rgb: Rgb) -> Rgb:
    """The same colour."""
    return rgb


def tinted(hue: float, light: float) -> Ink:
    """Colours with their hue rotated by `hue` degrees, `light` times as bright."""
    c, s = math.cos(math.radians(hue)), math.sin(math.radians(hue)) / math.sqrt(3)
    matrix = light * (c * np.eye(3) + (1 - c) / 3 + s * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]))

    @cache
    def ink(rgb: Rgb) -> Rgb:
        r, g, b = np.clip(matrix @ rgb, 0, 255).astype(int).tolist()
        return r, g, b

    return ink


class Brush:
    """Draws shapes in the instrument's coordinates, in which it fills about [-1, 1] squared.

    `matrix` (2, 3) maps coordinates to pixels (rotation, scale, reflection, translation); `ink` maps colours.  Without a
    `canvas` nothing is drawn, and `bounds` gives the box that would have been drawn.
    """

    def __init__(self, canvas: ImageDraw.ImageDraw | None, matrix: NDArray[Any], ink: Ink = unchanged) -> None:
        self.canvas, self.ink, self._matrix = canvas, ink, matrix
        (self._a, self._b, self._x), (self._c, self._d, self._y) = matrix.tolist()
        self._scale = math.hypot(self._a, self._c)
        self._xs: list[float] = []
        self._ys: list[float] = []

    def bounds(self) -> tuple[float, float, float, float]:
        """The box x0 y0 x1 y1, in pixels, of everything that would have been drawn."""
        return min(self._xs), min(self._ys), max(self._xs), max(self._ys)

    def fill(self, points: Shape, colour: Rgb, edge: Rgb | None = None) -> None:
        """A closed shape, with an outline in `edge`."""
        at = self._place(points)
        if self.canvas is None:
            self._xs += at[::2]
            self._ys += at[1::2]
            return
        self.canvas.polygon(at, fill=self.ink(colour))
        if edge is not None:
            self.canvas.line(at + at[:2], fill=self.ink(edge), width=self._pixels(0.03))

    def line(self, points: Shape, width: float, colour: Rgb) -> None:
        """An open line, `width` wide, but at least a pixel."""
        at = self._place(points)
        if self.canvas is None:
            self._xs += at[::2]
            self._ys += at[1::2]
            return
        self.canvas.line(at, fill=self.ink(colour), width=self._pixels(width))

    def disc(self, x: float, y: float, r: float, colour: Rgb, edge: Rgb | None = None) -> None:
        """A disc around (x, y)."""
        x, y = self._place([(x, y)])
        r *= self._scale
        if self.canvas is None:
            self._xs += (x - r, x + r)
            self._ys += (y - r, y + r)
            return
        outline = None if edge is None else self.ink(edge)
        self.canvas.ellipse((x - r, y - r, x + r, y + r), self.ink(colour), outline, self._pixels(0.03))

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Rgb, edge: Rgb | None = None) -> None:
        """An ellipse around (x, y)."""
        self.fill(CIRCLE * (rx, ry) + (x, y), colour, edge)

    def bar(self, start: Point, stop: Point, width: float, colour: Rgb, edge: Rgb | None = None) -> None:
        """A straight bar from `start` to `stop`."""
        (x0, y0), (x1, y1) = start, stop
        part = width / 2 / math.hypot(x1 - x0, y1 - y0)
        u, v = part * (y0 - y1), part * (x1 - x0)
        self.fill([(x0 + u, y0 + v), (x1 + u, y1 + v), (x1 - u, y1 - v), (x0 - u, y0 - v)], colour, edge)

    def _pixels(self, width: float) -> int:
        return max(1, round(self._scale * width))

    def _place(self, points: Shape) -> list[float]:
        """Pixel coordinates x, y, x, y, ..."""
        if isinstance(points, np.ndarray):
            placed: list[float] = (points @ self._matrix[:, :2].T + self._matrix[:, 2]).ravel().tolist()
            return placed
        a, b, c, d, x0, y0 = (
            self._a,
            self._b,
            self._c,
            self._d,
            self._x,
            self._y,
        )  # few points: faster without NumPy
        return [v for x, y in points for v in (a * x + b * y + x0, c * x + d * y + y0)]


@cache
def smooth(points: tuple[Point, ...], closed: bool = True, steps: int = 5) -> Points:
    """A smooth curve through `points` (Catmull-Rom spline)."""
    p = np.array(points)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    curve = curve.transpose(1, 0, 2).reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


@cache
def mirrored(half: tuple[Point, ...]) -> Points:
    """A smooth shape, symmetric about x = 0, from its right half, top to bottom."""
    return smooth(half + tuple((-x, y) for x, y in reversed(half)))


@cache
def tube(centre: tuple[Point, ...], widths: tuple[float, ...], *, soft: bool = True) -> Points:
    """The outline of a pipe along `centre`, whose widths are spread evenly along it."""
    p = smooth(centre, closed=False) if soft else np.array(centre)
    along = np.gradient(p, axis=0)
    normal = np.stack([-along[:, 1], along[:, 0]], 1) / np.hypot(*along.T)[:, None]
    side = normal * np.interp(np.linspace(0, len(widths) - 1, len(p)), range(len(widths)), widths)[:, None] / 2
    return np.concatenate([p + side, (p - side)[::-1]])
