"""Composes the melody that a clip's audio plays and its video moves to.  Knows no samples and no pixels."""

from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

# Lowest and highest pitch (MIDI numbers, 60 is middle C) of each instrument.
RANGES: dict[str, tuple[int, int]] = {
    "accordion": (53, 81),
    "acoustic_guitar": (45, 74),
    "cello": (36, 62),
    "clarinet": (51, 79),
    "erhu": (62, 84),
    "flute": (62, 91),
    "saxophone": (47, 74),
    "trumpet": (55, 80),
    "tuba": (31, 53),
    "violin": (57, 88),
    "xylophone": (65, 93),
}
SCALES = ((0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10), (0, 2, 4, 7, 9))  # major, minor, pentatonic


@dataclass(frozen=True)
class Note:
    """One note: when it starts, how long it lasts, its MIDI pitch, and how loud it is in (0, 1]."""

    start_s: float
    seconds: float
    pitch: float
    loud: float


@dataclass(frozen=True)
class Pose:
    """The posture of player and instrument at one moment."""

    bow: float  # 0 to 1: position of bow, bellows or plectrum; the direction changes with each note
    finger: float  # 0 to 1: lowest to highest pitch
    hit: float  # 1 when a note begins, then decays to 0: strings vibrate, mallets are down, bars light up
    sway: float  # -1 to 1: the body leans with the beat


@dataclass(frozen=True)
class Score:
    """A melody of at least one note, ordered by time."""

    notes: tuple[Note, ...]
    beat_s: float
    low: int
    high: int

    def pose(self, t: float) -> Pose:
        """The pose at `t` seconds; in rests it is that of the note before, and at first that of the first note."""
        number = max(0, bisect_right([note.start_s for note in self.notes], t) - 1)
        note = self.notes[number]
        done = min(max((t - note.start_s) / note.seconds, 0.0), 1.0)
        return Pose(
            bow=done if number % 2 else 1 - done,
            finger=(note.pitch - self.low) / (self.high - self.low),
            hit=float(np.exp(-max(t - note.start_s, 0.0) / 0.12)),
            sway=float(np.sin(np.pi * t / self.beat_s)),
        )


def compose(name: str, seconds: float, rng: np.random.Generator) -> Score:
    """A random melody of `seconds` for the instrument `name`: a random walk on a scale, with a few rests."""
    low, high = RANGES[name]
    scale = SCALES[rng.integers(len(SCALES))]
    key = int(rng.integers(12))
    pitches = [p for p in range(low, high + 1) if (p - key) % 12 in scale]
    beat = float(rng.uniform(0.17, 0.5))
    at, step, notes = float(rng.uniform(0, 0.08)), int(rng.integers(len(pitches))), list[Note]()
    while at < seconds - 0.05:
        length = min(beat * float(rng.choice((0.5, 1, 1, 2))), 0.9)
        if not notes or rng.random() > 0.06:  # else a rest
            notes.append(Note(at, length, pitches[step], float(rng.uniform(0.5, 1))))
        at += length
        step = int(np.clip(step + rng.integers(-3, 4), 0, len(pitches) - 1))
    return Score(tuple(notes), beat, low, high)
