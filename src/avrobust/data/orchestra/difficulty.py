"""What the two difficulties mean: every quantity at 0, 0.5 and 1, and straight lines between."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Range = tuple[float, float]  # a clip draws evenly between these


@dataclass(frozen=True)
class Looks:
    """How hard the picture is to read.  Colours in 8-bit steps."""

    odd: float  # share of instruments painted in another colour than their own
    spread: float  # degrees by which an instrument is turned from how it is held, at most
    furniture: float  # pieces, on average
    occluders: float  # things in front, on average
    vivid: float  # how far the room's colours lie from grey, at most
    texture: float  # standard deviation of the wall's and floor's texture
    blur: float  # what a pixel gives to each neighbour, at most
    grain: float  # standard deviation of the noise, at most


@dataclass(frozen=True)
class Acoustics:
    """How hard the sound is to hear."""

    others: float  # share of clips in which another instrument interferes
    below_db: Range  # by so much it is softer
    snr_db: Range  # from noise to instrument
    room_s: Range  # reverberation time
    tilt_db: float  # per octave: how much brighter or duller the recording is made, at most


LOOKS = (
    Looks(odd=0.0, spread=8, furniture=1, occluders=0.0, vivid=10, texture=4, blur=0.02, grain=1),
    Looks(odd=0.08, spread=14, furniture=3, occluders=0.5, vivid=18, texture=8, blur=0.08, grain=4),
    Looks(odd=0.5, spread=45, furniture=15, occluders=3.0, vivid=45, texture=25, blur=0.25, grain=16),
)
ACOUSTICS = (
    Acoustics(others=0.3, below_db=(8, 20), snr_db=(25, 40), room_s=(0.05, 0.2), tilt_db=0),
    Acoustics(others=0.65, below_db=(1, 10), snr_db=(-4, 12), room_s=(0.1, 0.6), tilt_db=3),
    Acoustics(others=0.9, below_db=(0, 5), snr_db=(-14, 0), room_s=(0.3, 1.2), tilt_db=6),
)


def looks(difficulty: float) -> Looks:
    """The picture at a difficulty in [0, 1]."""
    return Looks(**{f.name: _at(difficulty, [getattr(g, f.name) for g in LOOKS]) for f in fields(Looks)})


def acoustics(difficulty: float) -> Acoustics:
    """The sound at a difficulty in [0, 1]."""
    return Acoustics(**{f.name: _at(difficulty, [getattr(g, f.name) for g in ACOUSTICS]) for f in fields(Acoustics)})


def _at(difficulty: float, grades: list[Any]) -> Any:
    """A number, or a range, between what it is at 0, 0.5 and 1."""
    if isinstance(grades[0], tuple):
        return tuple(_at(difficulty, list(ends)) for ends in zip(*grades, strict=True))
    return float(np.interp(difficulty, (0, 0.5, 1), grades))
