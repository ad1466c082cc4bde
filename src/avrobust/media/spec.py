"""What a prepared clip holds: duration, sample rate, frame rate, size.  Knows no files."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

from avrobust.config import check_choices

Mono = Literal["mix", "loudest", "left", "right"]
Fit = Literal["crop", "stretch"]
Short = Literal["error", "pad", "tile"]


@dataclass(frozen=True)
class ClipSpec:
    """Duration, sample rate, frame rate and frame size of a clip, and how a file is brought to them.

    Frame `j` is the one that a player shows `(j + 0.5) / fps` seconds after the clip's start.  `fit` makes frames square:
    "crop" scales the shorter side to `size` and keeps the centre, "stretch" keeps everything and changes the aspect
    ratio.  `short` decides about audio that ends before `seconds`: "tile" repeats it, "pad" appends silence, "error"
    refuses it.  Video that ends early repeats its last frame.

    `mono` reduces several audio channels to one: "mix" averages them, or takes the loudest one where they would cancel
    (opposite phase); "loudest", "left" (the first) and "right" (the second) take one.  `audio_track` and `video_track`
    choose one of a file's tracks, counted from 0 as in FFmpeg's `a:1`; None takes FFmpeg's choice.

    Raises ValueError for values that no clip can have.

    >>> ClipSpec(seconds=2.0, rate=11025, fps=4).samples, ClipSpec(seconds=2.0, rate=11025, fps=4).frames
    (22050, 8)
    """

    seconds: float = 2.0  # duration in seconds
    rate: int = 11025  # sample rate in Hz, mono
    fps: float = 4.0  # frames per second
    size: int = 72  # width and height in pixels
    fit: Fit = "crop"  # how frames become square
    short: Short = "tile"  # what happens to audio that is too short
    mono: Mono = "mix"  # how audio channels become one
    audio_track: int | None = None  # number of the file's audio track, from 0
    video_track: int | None = None  # number of the file's video track, from 0

    def __post_init__(self) -> None:
        for name, whole in {"seconds": False, "rate": True, "fps": False, "size": True}.items():
            value = _number(getattr(self, name), whole)
            if not 0 < value < math.inf:
                what = f"a positive {'whole ' * whole}number"
                raise ValueError(f"{name} should be {what}, got {getattr(self, name)!r}. Change ClipSpec({name}=...).")
            object.__setattr__(self, name, value)
        if self.samples < 1:
            raise ValueError(
                f"a clip should hold at least one sample, got {self.seconds} s at {self.rate} Hz. Give it more seconds."
            )
        check_choices(self)
        for name in ("audio_track", "video_track"):
            if (track := getattr(self, name)) is not None:
                if not _number(track, whole=True) >= 0:
                    raise ValueError(f"{name} should be 0 or more, got {track!r}. Tracks of a kind are counted from 0.")
                object.__setattr__(self, name, int(track))

    @property
    def samples(self) -> int:
        """Audio samples of a clip."""
        return round(self.seconds * self.rate)

    @property
    def frames(self) -> int:
        """Video frames of a clip: at least one, however short it is."""
        return max(1, round(self.seconds * self.fps))


def _number(value: Any, whole: bool) -> float:
    """A number of any kind as Python's own, which files hold; nan for what is none."""
    if not isinstance(value, Real):
        return math.nan
    number = float(value)
    if whole:
        return int(number) if number % 1 == 0 else math.nan
    return value if isinstance(value, int | float) else number
