"""One table of clips: which file, from when to when, which class, which split.

Knows tables and paths; opens no media.  A manifest may list clips that are not on disk, and lists as published
may name a clip twice: that is for `audit` to say and for `unique` to settle.
"""

import csv
import io
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avrobust.media import write_bytes
from avrobust.media.bounds import SECONDS

SPLITS = ("train", "val", "test")
Box = tuple[float, float, float, float]  # x0 y0 x1 y1 in [0, 1] of the upright picture

_COLUMNS = ("id", "label", "split", "video", "audio", "start", "end", "box", "sha256")
# What Kinetics and VGGSound put behind a video's name, which is a YouTube id of 11 characters.
TIMES = re.compile(r"_\d{6}(_\d{6})?$")
YOUTUBE = re.compile(r"([\w-]{11})(_\d{6}){0,2}", re.ASCII)
CUT = re.compile(r"(?!\w{3}20\d{6}_)([\w-]{11})_\d{6}(_\d{6})?", re.ASCII)  # not a day and a time: VID20240130_142501


class ManifestError(ValueError):
    """A table of clips that cannot be used as it stands."""


def uncut(name: str) -> str:
    """A name of a list of YouTube videos, without cutting times.

    >>> [uncut(name) for name in ("3qesirWAGt4_000020", "abcd_123456", "abcd_123456_000020_000030")]
    ['3qesirWAGt4', 'abcd_123456', 'abcd_123456']
    """
    id = YOUTUBE.fullmatch(name)
    return id[1] if id else TIMES.sub("", name)


@dataclass(frozen=True)
class Entry:
    """One clip.

    `video` and `audio` are relative to the manifest's root; `audio=None` means the sound of `video` itself.
    `video` may be a folder of numbered frames (see `data.frames`).  `start` and `end` are seconds in the files;
    `end=None` is the file's own end.  `box` is where the source of the sound is seen, x0 y0 x1 y1 in [0, 1] of
    the upright picture.  `extra` keeps a table's other columns; empty cells are left out.
    """

    id: str
    label: str
    split: str
    video: Path
    audio: Path | None = None
    start: float = 0.0
    end: float | None = None
    box: Box | None = None
    sha256: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.id or not self.label:
            raise ManifestError(
                f"expected an id and a label, got {self.id!r} and {self.label!r}. Name every clip and its class."
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
                    f"expected a path inside the manifest's folder, got '{path}'. Move the file there, or give root= a folder that holds all clips."
                )
        if not (0 <= self.start <= SECONDS and (self.end is None or self.start < self.end <= SECONDS)):
            raise ManifestError(
                f"expected 0 <= start < end in seconds, at most {SECONDS:g}, got start {self.start} and end {self.end}. Correct the times."
            )
        for box in (self.box, self.rival):
            if box is not None and not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
                raise ManifestError(
                    f"expected a box x0 y0 x1 y1 with x0 < x1 and y0 < y1 in [0, 1], got {box}. Divide pixels by the picture's width and height."
                )

    @property
    def source(self) -> str:
        """The recording that the clip was cut from: its YouTube id where that is known, else its path without the ending.

        It is known from a column `youtube_id`, and from names that are such an id and cutting times.

        >>> Entry("a", "dog", "train", Path("dog/3qesirWAGt4_000020_000030.mp4")).source
        '3qesirWAGt4'
        >>> Entry("a", "dog", "train", Path("dog/VID_20240130_142501.mp4")).source
        'dog/VID_20240130_142501'
        """
        cut = CUT.fullmatch(self.video.stem)
        return self.extra.get("youtube_id") or (cut[1] if cut else self.video.with_suffix("").as_posix())

    @property
    def rival(self) -> Box | None:
        """Where a silent thing as large as the sounding one is seen, if the table has a column `rival_box`."""
        return _box(self.extra.get("rival_box", ""))


@dataclass(frozen=True)
class Manifest:
    """Clips of a dataset; `root` is the folder that all paths start from, `classes` the order of the labels."""

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...] = ()  # default: the labels that occur, sorted
    name: str = ""

    def __post_init__(self) -> None:
        if not self.entries:
            raise ManifestError(
                f"{self.root}: expected at least one clip, got none. Check the folder, the list, or the split that was asked for."
            )
        if not self.classes:
            object.__setattr__(self, "classes", tuple(sorted({e.label for e in self.entries})))
        if not self.name:
            object.__setattr__(self, "name", self.root.name)
        known = set(self.classes)
        for entry in self.entries:
            if entry.label not in known:
                raise ManifestError(f"clip '{entry.id}': {_unknown(entry.label, self.classes)}")

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        root: Path | str | None = None,
        label: str = "label",
        split: str | None = "split",
        start: str | None = None,
        end: str | None = None,
        classes: Sequence[str] | None = None,
        repeats: bool = False,
    ) -> "Manifest":
        """The clips of a csv file with a header; paths in it are relative to `root`, or else to its own folder.

        Needed are the columns `video` and the label's; `id` (else the video's path without its ending), `audio`,
        `start`, `end`, `box` or `bbox` and `sha256` are understood; others are kept as `extra`.  `label`, `split`,
        `start`, `end` name the columns to use; `split=None` puts every clip in train (`layouts.divide` then
        splits them).  With `classes`, another label is an error.  `repeats=True` keeps a clip that is listed
        twice, for an audit.

        Raises `ManifestError`, naming file and line.
        """
        path = Path(path)
        root = Path(path).parent if root is None else Path(root)
        use = {"label": label, "split": split, "start": start or "start", "end": end or "end"}
        entries: list[Entry] = []
        lines: dict[str, int] = {}
        for line, row in _rows(path, [c for c in ("video", label, split, start, end) if c is not None]):
            try:
                entry = _entry(row, use, root)
                if classes is not None and entry.label not in classes:
                    raise ManifestError(_unknown(entry.label, classes))
                if entry.id in lines and not repeats:
                    raise ManifestError(
                        f"expected every id once, got '{entry.id}' again (first on line {lines[entry.id]}). Rename or remove one of them."
                    )
            except ManifestError as error:
                raise ManifestError(f"{path} line {line}: {error}") from None
            lines.setdefault(entry.id, line)
            entries.append(entry)
        if not entries:
            raise ManifestError(f"{path}: expected at least one clip, got only a header. Fill the table.")
        return cls(
            root,
            tuple(entries),
            tuple(classes or ()),
            root.resolve().name if path.stem == "manifest" else path.stem,
        )

    def write(self, path: Path | str) -> None:
        """Write the table as csv, whole or not at all; paths stay relative to `root`, so give `read` that root."""
        extras = sorted({key for e in self.entries for key in e.extra})
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*_COLUMNS, *extras])
        for e in self.entries:
            audio = "" if e.audio is None else e.audio.as_posix()
            box = "" if e.box is None else " ".join(map(repr, e.box))
            end = "" if e.end is None else repr(e.end)
            fixed = [
                e.id,
                e.label,
                e.split,
                e.video.as_posix(),
                audio,
                repr(e.start),
                end,
                box,
                e.sha256 or "",
            ]
            writer.writerow([*fixed, *(e.extra.get(key, "") for key in extras)])
        write_bytes(path, text.getvalue().encode())

    def select(self, *splits: str) -> "Manifest":
        """The clips of some splits, with the same classes; an error when there are none."""
        entries = tuple(e for e in self.entries if e.split in splits)
        if not entries:
            have = ", ".join(f"{n} {s}" for s, n in Counter(e.split for e in self.entries).items())
            raise ManifestError(
                f"{self.name}: expected clips in {' or '.join(splits)}, got none (there are {have}). Give some clips that split."
            )
        return replace(self, entries=entries)

    def repeated(self) -> tuple[str, ...]:
        """The ids that stand in the table more than once."""
        return tuple(id for id, n in Counter(e.id for e in self.entries).items() if n > 1)

    def unique(self, repeats: Literal["drop", "rename"] = "drop") -> "Manifest":
        """Every id once.

        "drop" keeps a repeated clip in test rather than val rather than train, so that nothing is tested on what
        was learnt.  "rename" keeps lists as published, leaks included: the second time, `#2` follows the id.

        >>> clips = [Entry("a", "dog", split, Path("a.mp4")) for split in ("train", "test")]
        >>> [(e.id, e.split) for e in Manifest(Path("d"), tuple(clips)).unique().entries]
        [('a', 'test')]
        >>> [(e.id, e.split) for e in Manifest(Path("d"), tuple(clips)).unique("rename").entries]
        [('a', 'train'), ('a#2', 'test')]
        """
        if repeats == "rename":
            seen: Counter[str] = Counter()
            renamed = []
            for e in self.entries:
                seen[e.id] += 1
                renamed.append(e if seen[e.id] == 1 else replace(e, id=f"{e.id}#{seen[e.id]}"))
            return replace(self, entries=tuple(renamed))
        best: dict[str, Entry] = {}
        for e in self.entries:
            if e.id not in best or SPLITS.index(e.split) > SPLITS.index(best[e.id].split):
                best[e.id] = e
        return replace(self, entries=tuple(best.values()))

    def paths(self, entry: Entry) -> tuple[Path, ...]:
        """The files of a clip: its video, and its sound where that is a file of its own."""
        return tuple(self.root / p for p in (entry.video, entry.audio) if p is not None)


def _rows(path: Path, needed: Sequence[str]) -> Iterable[tuple[int, dict[str, str]]]:
    """(line, row) of a csv file, once its header is known to hold what is needed."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, delimiter=_separator(path, needed))
            header = [name.strip() for name in next(reader, [])]
            if missing := [c for c in needed if c not in header]:
                raise ManifestError(
                    f"{path}: expected a column {' and '.join(map(repr, missing))}, got {', '.join(header) or 'nothing'}. Add it, or name the column to use instead."
                )
            if twice := [name for name, n in Counter(header).items() if n > 1 and name]:
                raise ManifestError(
                    f"{path}: expected every column once, got {' and '.join(map(repr, twice))} again. Rename or remove one."
                )
            for row in filter(None, reader):
                if len(row) != len(header):
                    raise ManifestError(
                        f"{path} line {reader.line_num}: expected {len(header)} cells, got {len(row)}. Quote cells that hold commas."
                    )
                yield reader.line_num, dict(zip(header, row, strict=True))
    except OSError as error:
        raise ManifestError(f"{path}: expected a csv table of clips, got: {error.strerror}. Check the path.") from None
    except (UnicodeError, csv.Error) as error:
        raise ManifestError(f"{path}: expected a csv table in UTF-8, got: {error}. Save it as such.") from None


def _separator(path: Path, needed: Sequence[str]) -> str:
    """What stands between the cells: a comma, or what a spreadsheet writes instead, if the header then has it all."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        first = file.readline()
    for separator in ",;\t|":
        header = [name.strip() for name in next(csv.reader([first], delimiter=separator), [])]
        if all(name in header for name in needed):
            return separator
    return max(",;\t|", key=first.count)  # for the error to name the columns


def _entry(row: dict[str, str], use: Mapping[str, str | None], root: Path) -> Entry:
    cells = {key: value.strip() for key, value in row.items()}
    video = _inside(cells["video"], root)
    audio = _inside(cells["audio"], root) if cells.get("audio") else None
    end = cells.get(use["end"] or "")
    taken = {*_COLUMNS, "bbox", *use.values()}
    return Entry(
        id=cells.get("id") or video.with_suffix("").as_posix(),
        label=cells[use["label"] or "label"],
        split=cells[use["split"]] if use["split"] else "train",
        video=video,
        audio=None if audio == video else audio,
        start=_number(cells.get(use["start"] or "") or "0"),
        end=_number(end) if end else None,
        box=_box(cells.get("box") or cells.get("bbox") or ""),
        sha256=cells.get("sha256") or None,
        extra={key: value for key, value in cells.items() if key and value and key not in taken},
    )


def _inside(cell: str, root: Path) -> Path:
    """A path as the table gives it, relative to the root; whether it lies inside is for `Entry` to say."""
    if not cell:
        raise ManifestError("expected a path, got an empty cell. Name the clip's file.")
    return Path(os.path.relpath(root / cell, root))


def _number(cell: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        hint = ", with a point in place of the comma" if "," in cell else ""
        raise ManifestError(f"expected a number, got {cell!r}. Correct the cell{hint}.")
    return value


def _box(cell: str) -> Box | None:
    numbers = [_number(part) for part in re.split(r"[\s,;\[\]()]+", cell) if part]
    if not numbers:
        return None
    if len(numbers) != 4:
        raise ManifestError(f"expected a box of four numbers x0 y0 x1 y1, got {cell!r}. Correct the cell.")
    return (numbers[0], numbers[1], numbers[2], numbers[3])


def _unknown(label: str, classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:12]) + (", …" if len(classes) > 12 else "")
    return f"expected a label of the {len(classes)} classes ({shown}), got {label!r}. Add it to the classes, or leave the clip out."
