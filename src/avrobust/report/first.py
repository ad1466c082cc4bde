"""The paper's Figure 1 in one piece: a clip before and after an attack on both modalities, seen, heard and looked at."""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from avrobust.report.gallery import Room, Sound, read_wav, sound
from avrobust.report.load import Run
from avrobust.report.localisation import Strip, strips

WIDTH, HEIGHT = 480, 90  # of a waveform's drawing
STEPS = 240  # of it: each spans from the lowest to the highest sample of its stretch


@dataclass(frozen=True)
class Side:
    """The clip in one condition: what is heard, seen, looked at, and said."""

    condition: str  # "clean" or "AV"
    waveform: Markup
    sound: Sound
    frame: str
    heat: str
    pred: str


@dataclass(frozen=True)
class First:
    """One clip of one model that points; `sides` are clean and attacked on both."""

    model: str
    strip: Strip
    sides: tuple[Side, Side]


def first(run: Run, room: Room) -> First | None:
    """The first clip that the joint attack fools, else the first; None where no study kept its sounds."""
    for model in run.pointing():
        whole = [s for s in strips(run, model) if {"clean", "AV"} <= s.sounds.keys() & s.frames.keys()]
        for strip in sorted(whole, key=lambda s: s.about.pred["AV"] == s.about.label)[:1]:
            clean, attacked = (_side(strip, condition, room) for condition in ("clean", "AV"))
            return First(model, strip, (clean, attacked))
    return None


def _side(strip: Strip, condition: str, room: Room) -> Side:
    heard = sound(strip.sounds[condition], room)
    assert heard is not None
    wave, _ = read_wav(strip.sounds[condition])
    return Side(
        condition, waveform(wave), heard, strip.frames[condition], strip.heat[condition], strip.about.pred[condition]
    )


def waveform(wave: np.ndarray) -> Markup:
    """A sound in [-1, 1] as inline SVG: time to the right, full scale from bottom to top.

    >>> waveform(np.array([0.0, 0.5, -0.5, 0.0])).count("M")
    4
    """
    parts = np.array_split(wave, min(STEPS, max(len(wave), 1)))
    middle, path = HEIGHT / 2, []
    for i, part in enumerate(parts):
        x = WIDTH * (i + 0.5) / len(parts)
        low, high = (float(np.clip(v, -1, 1)) for v in (part.min(initial=0.0), part.max(initial=0.0)))
        path.append(f"M{x:.1f} {middle - middle * high:.1f}V{middle - middle * low + 0.5:.1f}")
    return Markup(
        f'<svg class="wave" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{"".join(path)}" stroke="var(--audio)" stroke-width="1.6" fill="none"/></svg>'
    )
