"""Draws the eleven instruments in a pose.  Knows no scene, no melody and no audio.

Each function draws into about [-1, 1] squared, upright, longest side 2; the pose moves what a player moves.
"""

from collections.abc import Callable

import numpy as np

from avrobust.data.orchestra.brush import Brush, Point, Rgb, mirrored, smooth, tube
from avrobust.data.orchestra.score import Pose

BLACK, DARK, GREY, IVORY, WHITE = (
    (22, 22, 26),
    (58, 44, 40),
    (120, 122, 128),
    (240, 232, 210),
    (252, 252, 250),
)
SILVER, SHINE = (176, 190, 204), (236, 242, 248)
HAIR, STRING = (236, 230, 214), (225, 222, 205)


def accordion(b: Brush, pose: Pose) -> None:
    red, deep, cloth = (196, 24, 40), (110, 8, 22), (226, 208, 190)
    half = 0.14 + 0.32 * pose.bow  # half the width of the open bellows
    folds = [(half * (fold / 5 - 1), 0.53 + 0.06 * (fold % 2)) for fold in range(11)]
    b.fill([*((x, -y) for x, y in folds), *reversed(folds)], cloth, deep)
    for x, y in folds[1::2]:
        b.line([(x, -y), (x, y)], 0.05, deep)
    for side in (-1, 1):
        x0, x1 = side * half, side * (half + 0.42)
        b.fill([(x0, -0.64), (x1, -0.56), (x1, 0.56), (x0, 0.64)], red, deep)
        b.line([(x0 + side * 0.07, -0.5), (x0 + side * 0.07, 0.5)], 0.05, (236, 92, 84))
    x = half + 0.26
    b.fill([(x, -0.52), (x + 0.3, -0.5), (x + 0.3, 0.5), (x, 0.52)], IVORY, BLACK)  # the keyboard
    pressed = int(pose.finger * 9.99)
    for key in range(10):
        y = 0.45 - 0.1 * key
        if key == pressed:
            b.bar((x, y), (x + 0.3, y), 0.1, (150, 140, 120))
        b.line([(x, y + 0.05), (x + 0.3, y + 0.05)], 0.012, BLACK)
        if key % 7 not in (2, 6):
            b.bar((x, y - 0.05), (x + 0.17, y - 0.05), 0.05, BLACK)
    for row in range(6):
        for column in range(2):
            b.disc(-half - 0.2 - 0.12 * column, 0.4 - 0.16 * row, 0.04, IVORY)


def acoustic_guitar(b: Brush, pose: Pose) -> None:
    spruce, rim, neck = (226, 160, 78), (112, 58, 20), (96, 56, 30)
    body = mirrored(((0.0, -0.12), (0.24, -0.12), (0.36, 0.02), (0.29, 0.22), (0.34, 0.42), (0.48, 0.62), (0.42, 0.88), (0.2, 0.98), (0.0, 1.0)))  # fmt: skip
    b.fill(body, rim, BLACK)
    b.fill(body * (0.9, 0.93) + (0, 0.03), spruce)
    b.disc(0, 0.26, 0.17, rim)
    b.disc(0, 0.26, 0.14, BLACK)
    b.bar((-0.2, 0.68), (0.2, 0.68), 0.08, (70, 36, 16))
    b.bar((0, -0.78), (0, 0.14), 0.13, neck, BLACK)
    for fret in range(9):
        y = -0.72 + 0.83 * (1 - 0.88**fret)
        b.line([(-0.06, y), (0.06, y)], 0.015, SILVER)
    b.fill([(-0.07, -0.76), (-0.1, -1), (0.1, -1), (0.07, -0.76)], (70, 36, 16), BLACK)
    for peg in range(3):
        for side in (-1, 1):
            b.disc(side * 0.13, -0.95 + 0.08 * peg, 0.03, IVORY)
    _strings(b, (-0.045, -0.015, 0.015, 0.045), -0.78, 0.68, pose, 0.02)
    pick = -0.14 + 0.28 * pose.bow
    b.fill([(pick - 0.07, 0.4), (pick + 0.07, 0.4), (pick, 0.53 + 0.05 * pose.hit)], (30, 150, 160), BLACK)
    b.disc(-0.08, -0.65 + 0.6 * pose.finger, 0.05, (236, 188, 150))  # a finger tip


def violin(b: Brush, pose: Pose) -> None:
    _fiddle(b, pose, (206, 104, 30), (96, 36, 10), neck_top=-0.96, body_top=-0.24, width=1.0)
    b.fill(smooth(((-0.26, 0.72), (-0.1, 0.64), (0.0, 0.76), (-0.06, 0.94), (-0.24, 0.9))), BLACK)  # the chin rest


def cello(b: Brush, pose: Pose) -> None:
    b.bar((0, 0.7), (0, 1.0), 0.035, SILVER, GREY)  # the end pin
    _fiddle(b, pose, (120, 38, 22), (48, 12, 8), neck_top=-1.0, body_top=-0.38, width=1.15, bottom=0.8)


def _fiddle(b: Brush, pose: Pose, wood: Rgb, edge: Rgb, *, neck_top: float, body_top: float, width: float, bottom: float = 1.0) -> None:  # fmt: skip
    tall = bottom - body_top
    half = ((0.0, 0.0), (0.2, 0.02), (0.3, 0.12), (0.29, 0.26), (0.35, 0.31), (0.23, 0.42), (0.24, 0.54), (0.4, 0.63), (0.4, 0.84), (0.26, 0.97), (0.0, 1.0))  # fmt: skip
    body = mirrored(half) * (width, tall) + (0, body_top)
    b.fill(body, wood, edge)
    lit = np.array((*wood,)) * 1.22 + 14
    b.fill(
        mirrored(half) * (0.62 * width, 0.84 * tall) + (-0.02, body_top + 0.07 * tall),
        tuple(lit.astype(int).tolist()),
    )
    for side in (-1, 1):
        x, y = side * 0.19 * width, body_top + 0.5 * tall
        b.line(smooth(((x + side * 0.05, y - 0.14), (x - side * 0.02, y - 0.09), (x + side * 0.02, y + 0.1), (x - side * 0.05, y + 0.14)), closed=False), 0.035, BLACK)  # fmt: skip
    b.bar((0, neck_top + 0.1), (0, body_top + 0.4 * tall), 0.1, BLACK)
    b.fill([(-0.05, body_top + 0.72 * tall), (0.05, body_top + 0.72 * tall), (0.1, body_top + 0.64 * tall), (0.06, body_top + 0.94 * tall), (-0.06, body_top + 0.94 * tall), (-0.1, body_top + 0.64 * tall)], BLACK)  # fmt: skip
    b.disc(0, neck_top + 0.07, 0.07, edge, BLACK)  # the scroll
    for peg in range(2):
        b.bar((-0.14, neck_top + 0.18 + 0.09 * peg), (0.14, neck_top + 0.18 + 0.09 * peg), 0.035, BLACK)
    _strings(b, (-0.03, 0.0, 0.03), neck_top + 0.15, body_top + 0.7 * tall, pose, 0.012)
    b.disc(0.05, neck_top + 0.3 + 0.45 * pose.finger * (body_top - neck_top), 0.05, (236, 188, 150))
    _bow(b, pose, body_top + 0.47 * tall, 0.1)


def erhu(b: Brush, pose: Pose) -> None:
    wood, edge, skin = (98, 26, 20), (36, 8, 8), (206, 190, 140)
    b.bar((0, -1.0), (0, 0.5), 0.075, wood, edge)
    b.fill(smooth(((0, -1.0), (0.1, -1.0), (0.15, -0.93), (0.06, -0.9))), wood, edge)
    for y in (-0.78, -0.6):
        b.bar((-0.24, y), (0.08, y), 0.06, wood, edge)
        b.disc(-0.25, y, 0.055, wood, edge)
    angle = np.arange(6) * np.pi / 3
    drum = np.stack([np.cos(angle), np.sin(angle)], 1)
    b.fill(drum * 0.31 + (0, 0.7), wood, edge)
    b.fill(drum * 0.23 + (0, 0.7), skin, edge)
    for x, y in ((-0.1, 0.62), (0.09, 0.64), (-0.02, 0.8), (0.1, 0.78), (-0.13, 0.74)):  # a python's scales
        b.disc(x, y, 0.035, (110, 86, 50))
    b.bar((-0.24, 0.98), (0.24, 0.98), 0.05, edge)
    _strings(b, (-0.015, 0.02), -0.8, 0.68, pose, 0.012)
    b.disc(0.05, -0.45 + 0.7 * pose.finger, 0.05, (236, 188, 150))
    _bow(b, pose, 0.42, 0.02)


def clarinet(b: Brush, pose: Pose) -> None:
    body = tube(((0, -0.74), (0, 0.62), (0, 0.82), (0, 1.0)), (0.22, 0.25, 0.34, 0.62), soft=False)
    b.fill([(-0.09, -0.72), (-0.055, -1.0), (0.055, -0.96), (0.09, -0.72)], BLACK, GREY)  # the mouthpiece
    b.fill(body, (30, 28, 34), BLACK)
    b.line([(-0.06, -0.7), (-0.06, 0.8)], 0.03, (112, 108, 124))
    for y, half in ((-0.74, 0.12), (-0.42, 0.13), (0.14, 0.13), (0.62, 0.14), (0.98, 0.31)):
        b.bar((-half, y), (half, y), 0.05, SILVER)
    _keys(b, pose, [(0.0, -0.56 + 0.18 * key) for key in range(7)], 0.08, SHINE, GREY, BLACK)
    for side, ys in ((1, (-0.5, -0.28, -0.02)), (-1, (0.2, 0.34, 0.52))):  # the rods and keys beside the holes
        b.line([(side * 0.17, ys[0]), (side * 0.17, ys[2])], 0.035, SILVER)
        for y in ys[1:]:
            b.disc(side * 0.22, y, 0.06, SILVER, GREY)


def flute(b: Brush, pose: Pose) -> None:
    silver, edge, lit = (164, 200, 238), (52, 84, 130), (224, 238, 252)
    b.bar((-1.0, 0), (1.0, 0), 0.22, silver, edge)
    b.line([(-0.97, -0.05), (0.97, -0.05)], 0.04, WHITE)
    b.oval(-0.7, -0.03, 0.19, 0.15, silver, edge)  # the lip plate
    b.oval(-0.7, -0.05, 0.07, 0.045, BLACK)
    for x in (-0.98, -0.42, 0.66):
        b.bar((x, -0.135), (x, 0.135), 0.05, (206, 186, 120), edge)
    b.line([(-0.34, 0.15), (0.92, 0.15)], 0.04, edge)
    _keys(b, pose, [(-0.28 + 0.123 * key, -0.02) for key in range(8)], 0.095, lit, (96, 126, 168), edge)
    for x in (0.76, 0.9):
        b.disc(x, 0.05, 0.075, silver, edge)


def saxophone(b: Brush, pose: Pose) -> None:
    gold, edge, lit = (222, 160, 40), (112, 66, 8), (252, 226, 140)
    pipe = ((-0.42, -0.78), (-0.2, -0.9), (0.0, -0.8), (0.03, -0.5), (0.03, 0.0), (0.03, 0.45), (0.1, 0.76), (0.3, 0.84), (0.48, 0.66), (0.52, 0.3), (0.56, 0.02), (0.6, -0.14))  # fmt: skip
    b.bar((-0.62, -0.66), (-0.4, -0.79), 0.1, BLACK)  # the mouthpiece
    b.fill(tube(pipe, (0.07, 0.09, 0.12, 0.16, 0.22, 0.28, 0.34, 0.56)), gold, edge)
    b.fill(tube(pipe, (0.01, 0.02, 0.03, 0.04, 0.06)) - (0.03, 0.0), lit)
    b.oval(0.6, -0.15, 0.28, 0.085, edge)
    b.line([(0.2, -0.45), (0.22, 0.5)], 0.03, edge)
    _keys(b, pose, [(0.03, -0.5 + 0.2 * key) for key in range(6)], 0.09, lit, (140, 92, 20), edge)
    for x, y, r in ((0.33, 0.78, 0.1), (0.5, 0.4, 0.09), (-0.1, -0.3, 0.06), (-0.1, 0.1, 0.06)):
        b.disc(x, y, r, lit, edge)


def trumpet(b: Brush, pose: Pose) -> None:
    brass, edge, lit = (250, 206, 60), (140, 88, 6), (255, 244, 180)
    loop = ((-0.42, -0.13), (0.42, -0.13), (0.62, 0.06), (0.42, 0.25), (-0.42, 0.25), (-0.58, 0.06), (-0.42, -0.13), (-0.3, -0.13))  # fmt: skip
    b.fill(tube(loop, (0.085, 0.085)), brass, edge)
    pipe = ((-0.92, -0.13), (0.3, -0.13), (0.62, -0.13), (0.82, -0.13), (0.94, -0.13), (1.0, -0.13))
    b.fill(tube(pipe, (0.06, 0.085, 0.15, 0.28, 0.46, 0.66)), brass, edge)
    b.oval(1.0, -0.13, 0.06, 0.33, edge)
    b.line([(-0.85, -0.15), (0.75, -0.15)], 0.022, lit)
    b.fill([(-1.0, -0.21), (-1.0, -0.05), (-0.88, -0.1), (-0.88, -0.16)], SILVER, edge)  # the mouthpiece
    fingering = int(pose.finger * 7.99)
    for valve in range(3):
        x, down = -0.16 + 0.15 * valve, 0.09 * (fingering >> valve & 1)
        b.bar((x, -0.36 + down), (x, -0.2), 0.03, SILVER)
        b.bar((x, -0.24), (x, 0.36), 0.11, brass, edge)
        b.line([(x - 0.025, -0.2), (x - 0.025, 0.3)], 0.025, lit)
        b.bar((x - 0.05, -0.37 + down), (x + 0.05, -0.37 + down), 0.05, IVORY, edge)


def tuba(b: Brush, pose: Pose) -> None:
    brass, edge, lit = (176, 122, 62), (72, 40, 12), (236, 204, 150)
    coil = ((0.36, -0.3), (0.38, 0.5), (0.14, 0.86), (-0.2, 0.86), (-0.42, 0.5), (-0.4, -0.1), (-0.22, -0.26), (-0.04, -0.1), (-0.04, 0.45))  # fmt: skip
    b.line([(-0.4, -0.1), (-0.62, -0.3), (-0.72, -0.3)], 0.05, edge)
    b.fill(tube(coil, (0.3, 0.2, 0.1)), brass, edge)
    b.fill(tube(coil, (0.06, 0.04, 0.02)), lit)
    bell = ((0.36, 0.1), (0.34, -0.25), (0.3, -0.5), (0.27, -0.7), (0.25, -0.84), (0.24, -0.92))
    b.fill(tube(bell, (0.3, 0.34, 0.46, 0.66, 0.92, 1.16)), brass, edge)
    b.line([(0.28, 0.05), (0.24, -0.35), (0.1, -0.7)], 0.05, lit)
    b.oval(0.24, -0.92, 0.58, 0.08, edge, brass)
    b.disc(-0.75, -0.31, 0.06, SILVER, edge)
    fingering = int(pose.finger * 7.99)
    for valve in range(3):
        x, down = -0.22 + 0.13 * valve, 0.09 * (fingering >> valve & 1)
        b.bar((x, -0.02 + down), (x, 0.2), 0.03, SILVER)
        b.bar((x, 0.14), (x, 0.56), 0.1, lit, edge)
        b.bar((x - 0.045, -0.02 + down), (x + 0.045, -0.02 + down), 0.05, WHITE, edge)


def xylophone(b: Brush, pose: Pose) -> None:
    count = 8
    colours = ((226, 52, 52), (240, 132, 40), (246, 208, 50), (92, 184, 70), (46, 170, 170), (52, 112, 210), (112, 72, 190), (206, 78, 160))  # fmt: skip
    for y in (-0.26, 0.26):
        b.bar((-0.98, y * 1.5), (0.98, y * 0.8), 0.07, (120, 78, 44), DARK)
    struck = int(pose.finger * (count - 0.01))
    for bar in range(count):
        x, tall = -0.86 + 1.72 * bar / (count - 1), 0.62 - 0.036 * bar
        colour = colours[bar]
        if bar == struck:
            colour = tuple(int(c + (255 - c) * 0.7 * pose.hit) for c in colour)  # type: ignore[assignment]
        b.bar((x, -tall), (x, tall), 0.2, colour, DARK)
        for y in (-0.62, 0.62):
            b.disc(x, y * tall, 0.025, SILVER)
    for mallet, x in enumerate((-0.86 + 1.72 * struck / (count - 1), 0.86 - 1.72 * pose.bow * 0.5)):
        y = 0.05 - 0.3 * (1 - pose.hit if mallet == 0 else 0.8)
        b.line([(x, y), (0.25 * x + (0.1 if mallet else -0.1), 0.95)], 0.045, (230, 200, 150))
        b.disc(x, y, 0.085, (150, 30, 40), DARK)


def _strings(b: Brush, xs: tuple[float, ...], top: float, bottom: float, pose: Pose, swing: float) -> None:
    """Strings that bend while they vibrate."""
    for number, x in enumerate(xs):
        bulge = swing * pose.hit * (1 if number % 2 else -1)
        b.line([(x, top), (x + bulge, (top + bottom) / 2), (x, bottom)], 0.012, STRING)


def _bow(b: Brush, pose: Pose, y: float, slope: float) -> None:
    """A bow across the strings, drawn from its frog to its tip as `pose.bow` goes from 0 to 1."""
    x = 0.56 * (pose.bow - 0.5)
    left, right = (x - 0.68, y + slope), (x + 0.68, y - slope)
    b.line([left, right], 0.035, HAIR)
    stick = tube(((-0.68, slope - 0.09), (0.0, -0.06), (0.68, -slope - 0.07)), (0.035, 0.035))
    b.fill(stick + np.array((x, y)), (88, 40, 20))
    b.fill([left, (left[0], left[1] - 0.1), (left[0] + 0.1, left[1] - 0.09), (left[0] + 0.1, left[1])], BLACK)


def _keys(b: Brush, pose: Pose, places: list[Point], r: float, open_: Rgb, closed: Rgb, edge: Rgb) -> None:
    """A row of keys: the lower the pitch, the more of them are pressed."""
    count = round((1 - pose.finger) * len(places))
    for number, (x, y) in enumerate(places):
        b.disc(x, y, r, closed if number < count else open_, edge)


DRAWINGS: dict[str, Callable[[Brush, Pose], None]] = {
    f.__name__: f
    for f in (
        accordion,
        acoustic_guitar,
        cello,
        clarinet,
        erhu,
        flute,
        saxophone,
        trumpet,
        tuba,
        violin,
        xylophone,
    )
}
# How each is held: clockwise rotation of the upright drawing, in degrees.
HELD = {"acoustic_guitar": 62.0, "violin": 50.0, "clarinet": 24.0, "flute": -8.0, "trumpet": -6.0}
