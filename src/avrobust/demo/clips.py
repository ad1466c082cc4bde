"""Clips for the page: uploads, bounded in size and length, and clips of the orchestra, made when they are asked for."""

from dataclasses import dataclass
from pathlib import Path

from avrobust.data.orchestra.dataset import Job, Orchestra, make
from avrobust.evaluation.one_clip import as_signals
from avrobust.media import ClipSpec, MediaError, probe
from avrobust.media.decode import decode
from avrobust.training import View
from avrobust.training.views import cut, received
from avrobust.types import Signals

TAKES = 1000  # clips of each instrument to choose from


@dataclass(frozen=True)
class Limits:
    """What an upload may be."""

    megabytes: float = 50
    seconds: float = 120


@dataclass(frozen=True, eq=False)
class Taken:
    """What a model receives of a clip, as a batch of one; `said` tells how that comes of the file."""

    name: str
    x: Signals
    said: str


def read(path: Path, spec: ClipSpec, view: View, *, start: float = 0.0, limits: Limits | None = None) -> Taken:
    """The part of a media file that a model receives, from `start` seconds on.

    Raises `ValueError` that names the file, not its folder, for one that is too large, too long, without audio or video, or no
    media file at all.
    """
    limits, size = limits or Limits(), path.stat().st_size / 1e6
    if size > limits.megabytes:
        raise ValueError(
            f"{path.name}: expected a file of at most {limits.megabytes:g} MB, got {size:.3g} MB. Cut it, or give a smaller one."
        )
    try:
        found = probe(path)
        if found.seconds is not None and found.seconds > limits.seconds:
            raise ValueError(
                f"{path.name}: expected at most {limits.seconds:g} s, got {found.seconds:.1f} s. Cut the part that you mean."
            )
        clip = decode(path, spec, start=start)
    except MediaError as error:
        reason = error.reason.replace(str(path), path.name)
        advice = "Upload another file, or convert this one to .mp4"
        raise ValueError(f"{path.name}: expected a video with sound: {reason}. {advice}.") from error
    at = f", which begins at {start:g} s" if start else ""
    said = f"{path.name}: the model receives {received(spec, view)}{at}."
    return Taken(
        path.stem, as_signals(cut(clip, spec, view)), " ".join([said, *(f"{n[0].upper()}{n[1:]}." for n in clip.notes)])
    )


def of_orchestra(orchestra: Orchestra, instrument: str, number: int, folder: Path) -> Path:
    """The file of one clip of the orchestra, made in `folder` unless it is there; never one that a network was trained on."""
    job = Job(f"{instrument}-test-{number:04d}", instrument, "test")
    make(orchestra, folder, job)
    return folder / job.path
