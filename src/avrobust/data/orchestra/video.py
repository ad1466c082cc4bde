"""Places the instruments and draws the frames of one of them playing.  Knows no audio and no files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from avrobust.data.orchestra.brush import Brush, Ink, tinted
from avrobust.data.orchestra.difficulty import Looks
from avrobust.data.orchestra.instruments import DRAWINGS, HELD
from avrobust.data.orchestra.scene import FINE, Box, occlude, room, screen
from avrobust.data.orchestra.score import Pose, Score, compose


@dataclass(frozen=True)
class Actor:
    """One instrument in the scene; centre `x`, `y` and longest side `size` as shares of the frame's side."""

    name: str
    x: float
    y: float
    size: float
    turn: float  # degrees, clockwise
    flip: bool
    hue: float  # degrees round the colour wheel
    light: float
    score: Score
    still_s: float | None = None  # of a silent one: it stays in the pose of this moment of its melody

    def pose(self, t: float) -> Pose:
        """The pose `t` seconds into the clip."""
        return self.score.pose(t if self.still_s is None else self.still_s)


def cast(label: str, score: Score, seconds: float, rival: bool, looks: Looks, rng: np.random.Generator) -> tuple[tuple[Actor, ...], int]:  # fmt: skip
    """The actors from back to front, and the number of the one that plays `score`; the others are silent, of other classes.

    A rival is as large as the player (0.9 to 1.1 times) and is placed alike: only audio and movement show which of the two
    plays.  Other silent instruments are 0.35 to 0.6 times as large.
    """
    others = list(rng.permutation([name for name in DRAWINGS if name != label]))

    def actor(name: str, place: NDArray[Any], size: float, plays: bool) -> Actor:
        x, y = np.clip(place, 0.2, 0.8)
        odd = rng.random() < looks.odd
        return Actor(
            name=name,
            x=float(x),
            y=float(y),
            size=size,
            turn=HELD.get(name, 0.0) + float(looks.spread * rng.uniform(-1, 1)),
            flip=bool(rng.random() < 0.5),
            hue=float(rng.uniform(30, 330) if odd else rng.uniform(-8, 8)),
            light=float(rng.uniform(0.8, 1.12)),
            score=score if plays else compose(name, seconds, rng),
            still_s=None if plays else float(rng.uniform(0, seconds)),
        )

    if rival:
        size, ratio = rng.uniform(0.56, 0.68), np.exp(rng.uniform(-1, 1) * np.log(1.1))
        angle, apart = rng.uniform(0, 2 * np.pi), rng.uniform(0.44, 0.56)
        side = apart / 2 * np.array([np.cos(angle), np.sin(angle)])
        middle = rng.uniform(0.46, 0.54, 2)
        front = [
            actor(label, middle + side, size, True),
            actor(others.pop(), middle - side, size * ratio, False),
        ]
        if rng.random() < 0.5:
            front.reverse()
        smaller = rng.choice((0, 1), p=(0.7, 0.3))
    else:
        size = rng.uniform(0.65, 0.85)
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


def extent(actor: Actor, times: NDArray[Any]) -> Box:
    """The box x0 y0 x1 y1 in [0, 1] of the actor over these times, as if nothing occluded it."""
    bounds = []
    for t in times if actor.still_s is None else times[:1]:
        brush = Brush(None, _matrix(actor, actor.pose(t), 1.0))
        DRAWINGS[actor.name](brush, actor.pose(t))
        bounds.append(brush.bounds())
    x0, y0, x1, y1 = np.array(bounds).T.clip(0, 1)  # rows of one bound each, over time
    return float(x0.min()), float(y0.min()), float(x1.max()), float(y1.max())


def film(actors: tuple[Actor, ...], player: int, box: Box, hidden: bool, times: NDArray[Any], size: int, looks: Looks, rng: np.random.Generator) -> NDArray[Any]:  # fmt: skip
    """Frames, uint8 (t, size, size, 3), at `times` in seconds: only the player moves, inside `box`.

    A `hidden` player is behind a folding screen.
    """
    side, light = size * FINE, float(rng.uniform(0.8, 1.15))
    inks = [tinted(actor.hue, light * actor.light) for actor in actors]
    back = room(side, looks, light, rng)
    _shadows(back, actors, size)
    front = Image.new("RGBA", back.size)
    for number, actor in enumerate(actors):
        if number != player:
            _draw(actor, 0.0, ImageDraw.Draw(back if number < player else front), inks[number], side)
    if hidden:
        screen(front, box, looks, rng)
    occlude(front, looks, rng)

    x0, y0, x1, y1 = (np.array(box) * size + (-1, -1, 2, 2)).astype(int).clip(0, size).tolist()
    window = (x0 * FINE, y0 * FINE, x1 * FINE, y1 * FINE)  # only this part of the frame changes
    behind, before = back.crop(window), front.crop(window)
    back.paste(front, mask=front)
    still = np.asarray(back.reduce(FINE)).astype(np.int16)
    blur = round(64 * looks.blur * rng.random())
    grain = (rng.standard_normal((size, size, 1)) * looks.grain * rng.random()).round().astype(np.int16)
    covered = before.getbbox() or (0, 0, 0, 0)
    before = before.crop(covered)
    frames = np.empty((len(times), size, size, 3), np.uint8)
    for frame, t in zip(frames, times, strict=True):
        moving = behind.copy()
        _draw(actors[player], t, ImageDraw.Draw(moving), inks[player], side, window[:2])
        moving.paste(before, covered, mask=before)
        still[y0:y1, x0:x1] = np.asarray(moving.reduce(FINE))
        np.clip(_blurred(still, blur) + grain, 0, 255, out=frame, casting="unsafe")
    return frames


def _blurred(frame: NDArray[Any], share: int) -> NDArray[Any]:
    """`frame` (int16), blurred along both axes: `share` 64ths of each pixel go to each neighbour."""
    frame = frame.copy()
    for line in (frame, frame.swapaxes(0, 1)):
        line[1:-1] = (line[1:-1] * (64 - 2 * share) + (line[:-2] + line[2:]) * share) >> 6
    return frame


def _matrix(actor: Actor, pose: Pose, side: float, origin: tuple[float, float] = (0, 0)) -> NDArray[Any]:
    """From the instrument's coordinates to pixels; the pose rotates it by up to 4 degrees."""
    angle = np.radians(actor.turn + 4 * pose.sway)
    c, s = np.cos(angle), np.sin(angle)
    turn = np.array([[c, -s], [s, c]]) * (actor.size / 2 * side)
    if actor.flip:
        turn[0] *= -1
    return np.column_stack([turn, (actor.x * side - origin[0], actor.y * side - origin[1])])


def _draw(actor: Actor, t: float, canvas: ImageDraw.ImageDraw, ink: Ink, side: int, origin: tuple[float, float] = (0, 0)) -> None:  # fmt: skip
    pose = actor.pose(t)
    DRAWINGS[actor.name](Brush(canvas, _matrix(actor, pose, side, origin), ink), pose)


def _shadows(image: Image.Image, actors: tuple[Actor, ...], size: int) -> None:
    """Soft shadows on the wall.

    They show the first pose of each melody, also of silent instruments: otherwise a shadow that does or does not fit its
    instrument would show which one plays.
    """
    shade = Image.new("L", (size, size))
    for actor in actors:
        pose = actor.score.pose(0.0)
        matrix = _matrix(actor, pose, size, (-0.02 * size, -0.03 * size))
        DRAWINGS[actor.name](Brush(ImageDraw.Draw(shade), matrix, lambda _: 110), pose)
    soft = shade.filter(ImageFilter.GaussianBlur(size / 60))
    image.paste((16, 12, 20), mask=soft.resize(image.size, Image.Resampling.BILINEAR))
