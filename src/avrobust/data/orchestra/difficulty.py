"""What the audio and the visual difficulty mean: each quantity at 0, 0.5 and 1, interpolated linearly in between."""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

Range = tuple[float, float]  # of a uniform distribution, from which each clip draws


@dataclass(frozen=True)
class Looks:
    """Visual difficulty.  Colours in steps of 1/255."""

    odd: float  # share of instruments in an unusual colour
    spread: float  # degrees of rotation away from how an instrument is held, at most
    furniture: float  # pieces, on average
    occluders: float  # objects in front, on average
    vivid: float  # distance of the room's colours from grey, at most
    texture: float  # standard deviation of the wall's and floor's texture
    blur: float  # share of a pixel that goes to each neighbour, at most
    grain: float  # standard deviation of the noise, at most


@dataclass(frozen=True)
class Acoustics:
    """Audio difficulty."""

    others: float  # share of clips with another instrument in the background
    below_db: Range  # how much softer it is
    snr_db: Range  # instrument to noise
    room_s: Range  # reverberation time (60 dB)
    tilt_db: float  # per octave, spectral tilt of the recording, at most


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
    """The visual quantities at a difficulty in [0, 1]."""
    return Looks(**{f.name: _at(difficulty, [getattr(g, f.name) for g in LOOKS]) for f in fields(Looks)})


def acoustics(difficulty: float) -> Acoustics:
    """The audio quantities at a difficulty in [0, 1]."""
    return Acoustics(**{f.name: _at(difficulty, [getattr(g, f.name) for g in ACOUSTICS]) for f in fields(Acoustics)})


def _at(difficulty: float, grades: list[Any]) -> Any:
    """A number or a range, interpolated between its values at 0, 0.5 and 1."""
    if isinstance(grades[0], tuple):
        return tuple(_at(difficulty, list(ends)) for ends in zip(*grades, strict=True))
    return float(np.interp(difficulty, (0, 0.5, 1), grades))
