"""What a prepared clip holds: how long, how fine, how many frames.  Knows no files."""

from dataclasses import dataclass
from typing import Literal, get_args

Mono = Literal["mix", "loudest", "left", "right"]


@dataclass(frozen=True)
class ClipSpec:
    """The sound and the picture that one clip keeps.

    Frame `j` is the one shown at `(j + 0.5) / fps` seconds after the clip's start.  `fit` says how a picture
    becomes a square of `size` pixels: "crop" brings the short side to `size` and keeps the centre, "stretch"
    keeps everything and changes the aspect.  `short` says what becomes of a sound that ends before `seconds`:
    "tile" repeats it, "pad" adds silence, "error" refuses it.  The last frame is held in either case.

    `mono` says what becomes of several channels: "mix" is their downmix, or the loudest one where they cancel
    (opposite phase); "loudest", "left" (the first) and "right" (the second) take one.  `audio_track` and
    `video_track` choose among several of a file, counted from 0 as in FFmpeg's `a:1`; None is FFmpeg's choice.

    >>> ClipSpec(seconds=2.0, rate=11025, fps=4).samples, ClipSpec(seconds=2.0, rate=11025, fps=4).frames
    (22050, 8)
    """

    seconds: float = 2.0
    rate: int = 11025  # Hz, mono
    fps: float = 4.0  # frames kept per second
    size: int = 72  # pixels, each side
    fit: Literal["crop", "stretch"] = "crop"
    short: Literal["error", "pad", "tile"] = "tile"
    mono: Mono = "mix"
    audio_track: int | None = None
    video_track: int | None = None

    def __post_init__(self) -> None:
        for name in ("seconds", "rate", "fps", "size"):
            value = getattr(self, name)
            if not 0 < value < float("inf"):
                raise ValueError(f"{name} should be a positive number, got {value}. Change ClipSpec({name}=...).")
        if self.samples < 1:
            raise ValueError(
                f"a clip should hold at least one sample, got {self.seconds} s at {self.rate} Hz. Give it more seconds."
            )
        for name, choices in (
            ("fit", ("crop", "stretch")),
            ("short", ("error", "pad", "tile")),
            ("mono", get_args(Mono)),
        ):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} should be one of {choices}, got {getattr(self, name)!r}. Pick one.")

        for name in ("audio_track", "video_track"):
            if (track := getattr(self, name)) is not None and track < 0:
                raise ValueError(f"{name} should be 0 or more, got {track}. Tracks of a kind are counted from 0.")

    @property
    def samples(self) -> int:
        """Samples of sound in a clip."""
        return round(self.seconds * self.rate)

    @property
    def frames(self) -> int:
        """Frames of picture in a clip: at least one, however short it is."""
        return max(1, round(self.seconds * self.fps))
