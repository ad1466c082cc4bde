"""One clip before and after a joint attack: waveform, audio, frame, attention and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from avrobust.report.media import Audio, Room, audio, read_wav
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.localisation import Strip, strips

WIDTH, HEIGHT = 480, 90  # of a waveform's drawing
STEPS = 240  # of it: each spans from the lowest to the highest sample of its stretch


@dataclass(frozen=True)
class Side:
    """The clip in one condition."""

    condition: str  # "clean" or "AV"
    waveform: Markup
    audio: Audio
    frame: str
    heat: str
    pred: str


@dataclass(frozen=True)
class OneClip:
    """One clip of one model that localises; `sides` are clean and attacked on both modalities."""

    model: str
    strip: Strip
    sides: tuple[Side, Side]


def one_clip(run: Run, room: Room) -> OneClip | None:
    """The first clip that the joint attack fools, else the first; None where no study kept its audio."""
    for model in run.localisers:
        whole = [s for s in strips(run, model) if {"clean", "AV"} <= s.audio.keys() & s.frames.keys()]
        for strip in sorted(whole, key=lambda s: s.about.pred["AV"] == s.about.label)[:1]:
            clean, attacked = (_side(strip, condition, room) for condition in ("clean", "AV"))
            return OneClip(model, strip, (clean, attacked))
    return None


def _side(strip: Strip, condition: str, room: Room) -> Side:
    wav = audio(strip.audio[condition], room)
    assert wav is not None
    wave, _ = read_wav(strip.audio[condition])
    return Side(
        condition, waveform(wave), wav, strip.frames[condition], strip.heat[condition], strip.about.pred[condition]
    )


def waveform(wave: np.ndarray) -> Markup:
    """Audio in [-1, 1] as inline SVG: time to the right, full scale from bottom to top.

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


def data(run: Run) -> Mapping[str, Any] | None:
    found = one_clip(run, Room())
    return {"one": found} if found else None


SECTION = Section("one_clip", "One clip, clean and attacked", data)
