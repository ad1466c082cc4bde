"""The surroundings of the instruments: a room, furniture, occluders, a folding screen.  Knows no instruments.

Everything is drawn `FINE` times as large and later averaged, for soft edges.
"""

import numpy as np
from PIL import Image, ImageDraw

from avrobust.data.orchestra.brush import Rgb, smooth
from avrobust.data.orchestra.difficulty import Looks

FINE = 3
Box = tuple[float, float, float, float]


def room(side: int, looks: Looks, light: float, rng: np.random.Generator) -> Image.Image:
    """A wall with a pattern, a floor of planks, furniture, and a texture over all of it."""
    image = Image.new("RGB", (side, side), _colour(looks, rng))
    canvas = ImageDraw.Draw(image)
    _wall(canvas, side, looks, rng)
    floor = side * rng.uniform(0.55, 0.9)
    canvas.rectangle((0, floor, side, side), fill=_colour(looks, rng))
    for x in np.linspace(-1.5, 2.5, 17) * side:
        canvas.line((0.3 * side + 0.4 * x, floor, x, side), fill=_colour(looks, rng, 30, 110), width=FINE)
    for _ in range(rng.poisson(looks.furniture)):
        _furniture(canvas, side, looks, rng)
    weave = rng.standard_normal((28, 28), dtype=np.float32)
    for cells in (4, 9):  # patches of light, stains
        patch = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        weave += np.asarray(patch.resize((28, 28), Image.Resampling.BICUBIC))
    texture = Image.fromarray(weave * looks.texture).resize((side, side), Image.Resampling.BICUBIC)
    lit = np.asarray(image) * np.float32(light) + np.asarray(texture)[..., None]
    return Image.fromarray(lit.clip(0, 255).astype(np.uint8))


def occlude(front: Image.Image, looks: Looks, rng: np.random.Generator) -> None:
    """Draw occluders in front of the instruments: microphone stands and plants."""
    side, canvas = front.size[0], ImageDraw.Draw(front)
    for _ in range(rng.poisson(looks.occluders)):
        x, y = (rng.uniform(0.1, 0.9, 2) * side).tolist()
        if rng.random() < 0.6:
            dark, r = _colour(looks, rng, 10, 90), 0.02 * side
            foot = x + float(rng.uniform(-0.1, 0.1)) * side
            canvas.line((x, y, foot, side), fill=dark, width=int(1.5 * FINE))
            canvas.ellipse((x - r, y - r, x + r, y + 1.5 * r), fill=dark)
        else:
            for tip in (rng.uniform(-0.2, 0.2, 4) * side).tolist():
                green = (int(rng.integers(20, 70)), int(rng.integers(70, 130)), int(rng.integers(20, 60)))
                leaf = (x, side, x + tip - 0.015 * side, y + abs(tip), x + tip, y, x + 0.02 * side, side)
                canvas.polygon(leaf, fill=green)


def screen(front: Image.Image, box: Box, looks: Looks, rng: np.random.Generator) -> None:
    """Draw a folding screen of four panels that hides all of `box`."""
    side, canvas = front.size[0], ImageDraw.Draw(front)
    x0, y0, x1, y1 = (v * side + margin * 2 * FINE for v, margin in zip(box, (-1, -1, 1, 1), strict=True))
    cloths = _colour(looks, rng), _colour(looks, rng)
    for panel in range(4):
        left, right = (x0 + (x1 - x0) * edge / 4 for edge in (panel, panel + 1))
        canvas.rectangle((left, y0, right, y1), fill=cloths[panel % 2], outline=(40, 36, 32), width=FINE)


def _wall(canvas: ImageDraw.ImageDraw, side: int, looks: Looks, rng: np.random.Generator) -> None:
    """Stripes, tiles, diagonal bands, or nothing."""
    ink, pattern, pitch = _colour(looks, rng), rng.integers(4), side / int(rng.integers(5, 14))
    for i in range(14):
        if pattern == 0:
            canvas.rectangle((i * pitch, 0, i * pitch + pitch / 2, side), fill=ink)
        elif pattern == 1:
            canvas.line((i * pitch, 0, i * pitch, side), fill=ink, width=FINE)
            canvas.line((0, i * pitch, side, i * pitch), fill=ink, width=FINE)
        elif pattern == 2:
            canvas.line((2 * i * pitch, 0, 2 * i * pitch - side, side), fill=ink, width=int(pitch / 3))


def _furniture(canvas: ImageDraw.ImageDraw, side: int, looks: Looks, rng: np.random.Generator) -> None:
    """A picture on the wall, a ball, a box, a lamp or a cable."""
    x, y = (rng.uniform(-0.05, 1.05, 2) * side).tolist()
    w, h = (rng.uniform(0.05, 0.28, 2) * side).tolist()
    fill, edge, kind = _colour(looks, rng), _colour(looks, rng), rng.integers(5)
    if kind == 0:
        canvas.rectangle((x, y, x + w, y + h), fill=fill, outline=edge, width=2 * FINE)
    elif kind == 1:
        canvas.ellipse((x, y, x + w, y + w), fill=fill, outline=edge, width=FINE)
    elif kind == 2:
        c, s = float(rng.uniform(-0.5, 0.5)) * w, 0.5 * h
        canvas.polygon((x - s, y + c, x + c, y + s, x + s, y - c, x - c, y - s), fill=fill, outline=edge)
    elif kind == 3:
        canvas.polygon((x, y, x + w / 2, y + h / 2, x - w / 2, y + h / 2), fill=fill)
        canvas.line((x, y + h / 2, x, y + 2 * h), fill=edge, width=2 * FINE)
    else:
        (a, b), (c, d), (e, f), (g, k) = rng.uniform(0, side, (4, 2)).tolist()
        cable = smooth.__wrapped__(((a, b), (c, d), (e, f), (g, k)), closed=False)  # never repeats, so it is not cached
        canvas.line(cable.ravel().tolist(), fill=fill, width=int(rng.integers(FINE, 4 * FINE)))


def _colour(looks: Looks, rng: np.random.Generator, low: int = 40, high: int = 215) -> Rgb:
    """A random colour, no more vivid than `looks` allows."""
    grey = rng.uniform(low, high)
    r, g, b = np.clip(grey + looks.vivid * rng.uniform(-1, 1, 3), 0, 255).astype(int).tolist()
    return r, g, b
