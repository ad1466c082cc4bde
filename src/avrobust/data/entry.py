"""One labelled clip: its files, times, class and split.  Opens no media."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from avrobust.data.youtube import id_of_cut
from avrobust.media.bounds import SECONDS

SPLITS = ("train", "val", "test")
TAGS = ("audible", "visible", "both")  # where a class of a clip can be perceived
Label = str | tuple[str, ...]  # the class of a clip; of a multi-label clip its classes, which may be none
Box = tuple[float, float, float, float]  # x0 y0 x1 y1 in [0, 1] of the upright frame


class ManifestError(ValueError):
    """A list of clips that cannot be used: what was expected, what came, what to do."""


@dataclass(frozen=True)
class Entry:
    """One clip.

    `label` is the class, or the tuple of the classes of a multi-label clip.  `tags` may say for each of `labels` where it can
    be perceived: "audible", "visible" or "both".
    `video` and `audio` are paths relative to the manifest's root; `audio=None` takes the audio of `video`.  `video` may
    be a folder of numbered frames (see `data.frames`).  `start` and `end` are seconds in the files; `end=None` is the
    file's end.  `box` is where the source of the audio is visible.  `extra` keeps a table's other columns, without empty
    cells.  Raises ManifestError for values that no clip can have.

    >>> Entry("dog/a", "dog", "train", Path("dog/a.mp4"), start=1.0, end=3.0).source
    'dog/a'
    """

    id: str
    label: Label
    split: str
    video: Path
    audio: Path | None = None
    start: float = 0.0
    end: float | None = None
    box: Box | None = None
    sha256: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.id or not all((*self.labels, self.label != "")):
            raise ManifestError(
                f"expected an id and a label, got {self.id!r} and {self.label!r}. Name every clip and its class."
            )
        if len(set(self.labels)) < len(self.labels):
            raise ManifestError(
                f"expected every label of a clip once, got {', '.join(self.labels)}. Remove one of them."
            )
        if self.tags and (len(self.tags) != len(self.labels) or set(self.tags) - set(TAGS)):
            raise ManifestError(
                f"expected {', '.join(TAGS)} for each of {len(self.labels)} labels, got {', '.join(self.tags)}. Tag every "
                "label, or none."
            )
        if self.split not in SPLITS:
            raise ManifestError(
                f"expected split to be one of {', '.join(SPLITS)}, got {self.split!r}. Rename it, or leave the row out."
            )
        for path in (self.video, self.audio):
            if path is not None and "\0" in str(path):
                raise ManifestError(f"expected a path, got {str(path)!r}, which no file can have. Correct the name.")
            if path is not None and (path.is_absolute() or ".." in path.parts):
                raise ManifestError(
                    f"expected a path inside the manifest's folder, got '{path}'. Move the file there, or give a folder that "
                    "holds all clips as root (--root)."
                )
        if not (0 <= self.start <= SECONDS and (self.end is None or self.start < self.end <= SECONDS)):
            raise ManifestError(
                f"expected 0 <= start < end in seconds, at most {SECONDS:g}, got start {self.start} and end {self.end}. "
                "Correct the times."
            )
        for box in (self.box, self.rival):
            if box is not None and not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                raise ManifestError(
                    f"expected a box x0 y0 x1 y1 with x0 < x1 and y0 < y1 in [0, 1], got {box}. Divide pixels by the "
                    "frame's width and height."
                )

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes of the clip: one, unless the dataset is multi-label."""
        return (self.label,) if isinstance(self.label, str) else self.label

    def kept(self, names: Mapping[str, str]) -> "Entry | None":
        """The clip with those of its classes that are in `names`, called as there; None if it has none of them.

        >>> Entry("a", ("dog", "cat"), "train", Path("a.mp4")).kept({"dog": "hound"}).label
        ('hound',)
        """
        on = [i for i, label in enumerate(self.labels) if label in names]
        if not on:
            return None
        labels = tuple(names[self.labels[i]] for i in on)
        tags = tuple(self.tags[i] for i in on) if self.tags else ()
        return replace(self, label=labels[0] if isinstance(self.label, str) else labels, tags=tags)

    @property
    def source(self) -> str:
        """The recording that the clip belongs to, all of whose clips should be in one split.

        It is the column `recording` or `youtube_id` of a table, the YouTube id in a file name with cutting times, or else
        the path without the suffix.

        >>> Entry("a", "dog", "train", Path("dog/3qesirWAGt4_000020_000030.mp4")).source
        '3qesirWAGt4'
        >>> Entry("a", "dog", "train", Path("dog/VID_20240130_142501.mp4")).source
        'dog/VID_20240130_142501'
        """
        given = self.extra.get("recording") or self.extra.get("youtube_id")
        return given or id_of_cut(self.video.stem) or self.video.with_suffix("").as_posix()

    @property
    def rival(self) -> Box | None:
        """The box of a silent object as large as the sounding one, from a column `rival_box`."""
        return read_box(self.extra.get("rival_box", ""))


def read_box(text: str) -> Box | None:
    """A box as tables write it: four numbers, with spaces, commas or brackets; None if there is none.

    Raises ManifestError.

    >>> read_box("[0.1, 0.2, 0.3, 0.4]")
    (0.1, 0.2, 0.3, 0.4)
    """
    numbers = [read_number(part) for part in re.split(r"[\s,;\[\]()]+", text) if part]
    if not numbers:
        return None
    if len(numbers) != 4:
        raise ManifestError(f"expected a box of four numbers x0 y0 x1 y1, got {text!r}. Correct the cell.")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def read_number(text: str) -> float:
    """A finite number as tables write it.  Raises ManifestError."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        hint = ", with a point in place of the comma" if "," in text else ""
        raise ManifestError(f"expected a number, got {text!r}. Correct the cell{hint}.")
    return value
