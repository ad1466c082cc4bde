"""The scene: which instruments stand where, and the film of one of them playing.  Knows no sound and no files."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from avrobust.data.orchestra.brush import Brush, Rgb, smooth
from avrobust.data.orchestra.instruments import DRAWINGS, HELD
from avrobust.data.orchestra.score import Pose, Score, compose

FINE = 3  # drawn this many times larger, then averaged: soft edges
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Actor:
    """One instrument on the stage; x, y (its centre) and size (its longest side) in parts of the picture's side."""

    name: str
    x: float
    y: float
    size: float
    turn: float  # degrees, clockwise
    flip: bool
    hue: float  # degrees round the colour wheel
    light: float
    score: Score
    still_s: float | None = None  # silent: it stays as it is at this moment of its melody

    def pose(self, t: float) -> Pose:
        """How it is held `t` seconds into the clip."""
        return self.score.pose(t if self.still_s is None else self.still_s)


def cast(label: str, score: Score, seconds: float, rival: bool, difficulty: float, rng: np.random.Generator) -> tuple[tuple[Actor, ...], int]:  # fmt: skip
    """The actors from back to front, and which of them plays `score`; the others are of other classes, and silent.

    A rival is as large as the player (0.9 to 1.1 times) and takes a place of the same kind: nothing but the sound
    and the movement tells which of the two plays.  Other silent ones are 0.35 to 0.6 times as large.
    """
    others = list(rng.permutation([name for name in DRAWINGS if name != label]))

    def actor(name: str, place: NDArray[np.float64], size: float, plays: bool) -> Actor:
        x, y = np.clip(place, 0.2, 0.8)
        spread = 10 + 30 * difficulty
        odd = rng.random() < 0.1 + 0.3 * difficulty  # painted in another colour
        return Actor(
            name=name,
            x=float(x),
            y=float(y),
            size=size,
            turn=HELD.get(name, 0.0) + float(rng.uniform(-spread, spread)),
            flip=bool(rng.random() < 0.5),
            hue=float(rng.uniform(30, 330) if odd else rng.uniform(-8, 8)),
            light=float(rng.uniform(0.8, 1.12)),
            score=score if plays else compose(name, seconds, rng),
            still_s=None if plays else float(rng.uniform(0, seconds)),
        )

    if rival:
        size, ratio = rng.uniform(0.52, 0.66), np.exp(rng.uniform(-1, 1) * np.log(1.1))
        angle, apart = rng.uniform(0, 2 * np.pi), rng.uniform(0.44, 0.56)
        side = apart / 2 * np.array([np.cos(angle), np.sin(angle)])
        middle = rng.uniform(0.46, 0.54, 2)
        front = [actor(label, middle + side, size, True), actor(others.pop(), middle - side, size * ratio, False)]
        if rng.random() < 0.5:
            front.reverse()
        smaller = rng.choice((0, 1), p=(0.7, 0.3))
    else:
        size = rng.uniform(0.6, 0.85)
        middle = rng.uniform(0.4, 0.6, 2)
        front = [actor(label, middle, size, True)]
        smaller = rng.choice((0, 1, 2), p=(0.25, 0.45, 0.3))
    back = []
    for _ in range(smaller):
        angle = rng.uniform(0, 2 * np.pi)
        away = 0.38 * np.array([np.cos(angle), np.sin(angle)])
        back.append(actor(others.pop(), middle + away, size * rng.uniform(0.35, 0.6), False))
    actors = (*back, *front)
    return actors, [a.still_s is None for a in actors].index(True)


def extent(actor: Actor, times: NDArray[np.float64]) -> Box:
    """x0 y0 x1 y1 in [0, 1]: where in the picture the actor is seen at these times; what hides it is not counted."""
    bounds = []
    for t in times if actor.still_s is None else times[:1]:
        brush = Brush(None, _matrix(actor, actor.pose(t), 1.0), np.eye(3))
        DRAWINGS[actor.name](brush, actor.pose(t))
        bounds.append(brush.bounds())
    x0, y0, x1, y1 = np.array(bounds).T.clip(0, 1)
    return float(x0.min()), float(y0.min()), float(x1.max()), float(y1.max())


def film(actors: tuple[Actor, ...], player: int, box: Box, screen: bool, times: NDArray[np.float64], size: int, difficulty: float, rng: np.random.Generator) -> NDArray[np.uint8]:  # fmt: skip
    """Frames (t, size, size, 3) at `times`: everything stands still but the player, who stays within `box`.

    With `screen` a folding screen stands before the player, who is not seen.
    """
    side = size * FINE
    back = _room(side, difficulty, rng)
    _shadows(back, actors, side)
    canvas = ImageDraw.Draw(back)
    for actor in actors[:player]:
        _draw(actor, 0.0, canvas, side)
    front, mask = Image.new("RGB", (side, side)), Image.new("L", (side, side))
    for image, flat in ((front, None), (mask, 255)):  # the same shapes twice: their colours, and where they are
        for actor in actors[player + 1 :]:
            _draw(actor, 0.0, ImageDraw.Draw(image), side, flat=flat)
    if screen:
        _screen(front, mask, box, rng)
    _occlude(front, mask, difficulty, rng)

    spread = rng.uniform(0, 0.08 + 0.12 * difficulty)  # blur: what a pixel gives to each neighbour beside it
    lens = ImageFilter.Kernel((3, 3), np.outer(*2 * [(spread, 1 - 2 * spread, spread)]).ravel().tolist(), scale=1)
    exposure, contrast = rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.1)
    curve = ((np.arange(256) - 128) * contrast + 128 * exposure).round().astype(np.int16)
    frames = []
    x0, y0, x1, y1 = (np.array(box) * size + (-1, -1, 2, 2)).astype(int).clip(0, size).tolist()
    window = (x0 * FINE, y0 * FINE, x1 * FINE, y1 * FINE)  # only here does anything move
    still = back.copy()
    still.paste(front, mask=mask)
    still = still.reduce(FINE)
    behind, before, where = back.crop(window), front.crop(window), mask.crop(window)
    for t in times:
        moving = behind.copy()
        _draw(actors[player], t, ImageDraw.Draw(moving), side, window[:2])
        moving.paste(before, mask=where)
        still.paste(moving.reduce(FINE), (x0, y0))
        frames.append(np.asarray(still.filter(lens)))
    grain = rng.standard_normal((size, size, 1)) * (2 + 12 * difficulty * rng.random())
    return (curve[np.stack(frames)] + grain.round().astype(np.int16)).clip(0, 255).astype(np.uint8)


def _matrix(actor: Actor, pose: Pose, side: float, origin: tuple[float, float] = (0, 0)) -> NDArray[np.float64]:
    """From the instrument's own coordinates to pixels; the pose leans it by up to 4 degrees."""
    angle = np.radians(actor.turn + 4 * pose.sway)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]]) * (actor.size / 2 * side)
    if actor.flip:
        turn[0] *= -1
    return np.column_stack([turn, (actor.x * side - origin[0], actor.y * side - origin[1])])


def _tint(hue: float, light: float) -> NDArray[np.float64]:
    """Colours turned by `hue` degrees about grey, and lit."""
    c, s = np.cos(np.radians(hue)), np.sin(np.radians(hue))
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / np.sqrt(3)
    return light * (c * np.eye(3) + (1 - c) / 3 + s * cross)


def _draw(actor: Actor, t: float, canvas: ImageDraw.ImageDraw, side: int, origin: tuple[float, float] = (0, 0), flat: int | None = None) -> None:  # fmt: skip
    pose = actor.pose(t)
    brush = Brush(canvas, _matrix(actor, pose, side, origin), _tint(actor.hue, actor.light), flat)
    DRAWINGS[actor.name](brush, pose)


def _shadows(image: Image.Image, actors: tuple[Actor, ...], side: int) -> None:
    """Soft shadows on the wall; the player's is that of its first pose, since a moving one would tell who plays."""
    shade = Image.new("L", image.size)
    for actor in actors:
        _draw(actor, 0.0, ImageDraw.Draw(shade), side, (-0.02 * side, -0.03 * side), flat=110)
    image.paste((16, 12, 20), mask=shade.filter(ImageFilter.GaussianBlur(side / 60)))


def _colour(rng: np.random.Generator, low: int = 40, high: int = 215) -> Rgb:
    """A colour of a furnished room: not too vivid."""
    grey = rng.uniform(low, high)
    r, g, b = np.clip(grey + rng.uniform(-45, 45, 3), 0, 255).astype(int).tolist()
    return r, g, b


def _room(side: int, difficulty: float, rng: np.random.Generator) -> Image.Image:
    """A wall with a pattern, a floor of planks, furniture, and a texture over all of it."""
    image = Image.new("RGB", (side, side), _colour(rng))
    canvas = ImageDraw.Draw(image)
    stripe, pattern = _colour(rng), rng.integers(4)
    pitch = side / rng.integers(5, 14)
    for i in range(14):
        if pattern == 0:  # a striped wall
            canvas.rectangle((i * pitch, 0, i * pitch + pitch / 2, side), fill=stripe)
        elif pattern == 1:  # tiles
            canvas.line((i * pitch, 0, i * pitch, side), fill=stripe, width=FINE)
            canvas.line((0, i * pitch, side, i * pitch), fill=stripe, width=FINE)
        elif pattern == 2:  # diagonal lines
            canvas.line((2 * i * pitch, 0, 2 * i * pitch - side, side), fill=stripe, width=int(pitch / 3))
    floor = side * rng.uniform(0.55, 0.9)
    plank = _colour(rng)
    canvas.rectangle((0, floor, side, side), fill=plank)
    for x in np.linspace(-1.5, 2.5, 17) * side:
        canvas.line((side / 2 + (x - side / 2) * 0.4, floor, x, side), fill=_colour(rng, 30, 110), width=FINE)
    for _ in range(rng.poisson(3 + 12 * difficulty)):
        _furniture(canvas, side, rng)
    texture = np.zeros((side, side), np.float32)
    for cells in (4, 9, 28):  # patches of light, stains, weave
        patch = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
        texture += np.asarray(patch.resize((side, side), Image.Resampling.BICUBIC)) * (8 + 8 * difficulty)
    return Image.fromarray((np.asarray(image) + texture[..., None]).clip(0, 255).astype(np.uint8))


def _furniture(canvas: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    """A picture on the wall, a ball, a box, a lamp, a cable: things that are no instruments."""
    x, y = rng.uniform(-0.05, 1.05, 2) * side
    w, h = rng.uniform(0.05, 0.28, 2) * side
    fill, edge = _colour(rng), _colour(rng)
    kind = rng.integers(5)
    if kind == 0:
        canvas.rectangle((x, y, x + w, y + h), fill=fill, outline=edge, width=2 * FINE)
    elif kind == 1:
        canvas.ellipse((x, y, x + w, y + w), fill=fill, outline=edge, width=FINE)
    elif kind == 2:
        corners = np.array([(-w, -h), (w, -h), (w, h), (-w, h)]) / 2
        a = rng.uniform(0, np.pi)
        turned = corners @ np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]]) + (x, y)
        canvas.polygon(turned.ravel().tolist(), fill=fill, outline=edge)
    elif kind == 3:
        canvas.polygon((x, y, x + w / 2, y + h / 2, x - w / 2, y + h / 2), fill=fill)
        canvas.line((x, y + h / 2, x, y + 2 * h), fill=edge, width=2 * FINE)
    else:
        points = rng.uniform(0, side, (4, 2))
        cable = smooth(tuple(map(tuple, points.tolist())), closed=False)  # type: ignore[arg-type]
        canvas.line(cable.ravel().tolist(), fill=fill, width=int(rng.integers(FINE, 4 * FINE)))


def _occlude(front: Image.Image, mask: Image.Image, difficulty: float, rng: np.random.Generator) -> None:
    """Things that stand before the instruments: microphone and music stands, leaves."""
    side = front.size[0]
    paint, cut = ImageDraw.Draw(front), ImageDraw.Draw(mask)
    for _ in range(rng.poisson(3 * difficulty)):
        x, y = rng.uniform(0.1, 0.9, 2) * side
        lean = rng.uniform(-0.1, 0.1) * side
        fill = _colour(rng, 10, 90)
        if rng.random() < 0.6:  # a microphone on its stand
            for canvas, ink in ((paint, fill), (cut, 255)):
                canvas.line((x, y, x + lean, side), fill=ink, width=int(1.5 * FINE))
                r = 0.02 * side
                canvas.ellipse((x - r, y - r, x + r, y + 1.5 * r), fill=ink)
        else:  # leaves of a plant
            for tip in rng.uniform(-0.2, 0.2, 4) * side:
                leaf = (x, side, x + tip - 0.015 * side, y + abs(tip), x + tip, y, x + 0.02 * side, side)
                green = (int(rng.integers(20, 70)), int(rng.integers(70, 130)), int(rng.integers(20, 60)))
                paint.polygon(leaf, fill=green)
                cut.polygon(leaf, fill=255)


def _screen(front: Image.Image, mask: Image.Image, box: Box, rng: np.random.Generator) -> None:
    """A folding screen that covers `box`."""
    side = front.size[0]
    x0, y0, x1, y1 = np.array(box) * side + np.array((-2, -2, 2, 2)) * FINE
    for canvas, ink in ((ImageDraw.Draw(front), None), (ImageDraw.Draw(mask), 255)):
        canvas.rectangle((x0, y0, x1, y1), fill=ink or (150, 140, 124))
    canvas = ImageDraw.Draw(front)
    fill, edge = _colour(rng), _colour(rng)
    for panel in range(4):
        left, right = x0 + (x1 - x0) * panel / 4, x0 + (x1 - x0) * (panel + 1) / 4
        canvas.rectangle((left, y0, right, y1), fill=fill if panel % 2 else edge, outline=(40, 36, 32), width=FINE)
