"""Published lists of YouTube clips become manifests: Kinetics, VGGSound, VGGSounder, AudioSet.

A list is recognised by its first row.  Files are the clips, cut already: the times in a list only tell the clips of one video
apart.  Knows names of files and columns; opens no media.
"""

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from avrobust.data.entry import Entry, ManifestError
from avrobust.data.layouts import VIDEOS, located
from avrobust.data.manifest import Manifest
from avrobust.data.tables import unknown_label
from avrobust.data.youtube import without_times

Row = list[str]
SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "test": "test"}
# The three lists of AudioSet (Gemmeke et al. 2017) and their splits.
SEGMENTS = {"balanced_train_segments": "train", "unbalanced_train_segments": "train", "eval_segments": "test"}
KINETICS = ("youtube_id", "label", "split", "time_start", "time_end")  # a table of one's own may have the first, too
TAG = {"A": "audible", "V": "visible", "AV": "both"}
# A table of classes beside a list, index,mid,display_name: the order of a model's outputs.
CLASS_TABLES = ("class_labels_indices.csv", "classes.csv")


class List(NamedTuple):
    """A list that is being read: its file, the columns of its header, and the classes by the key in `CLASS_TABLES`."""

    table: Path
    header: Row
    names: Mapping[str, str]


class Format(NamedTuple):
    """A dataset's list: whether a first row belongs to it, and the clip of a row."""

    recognised: Callable[[Row], bool]
    clip: Callable[[List, Row], Entry]
    header: bool = False  # whether the first row names columns
    joined: bool = False  # whether the rows of one clip are one multi-label clip
    certain: bool = True  # whether no other table begins like this, so that a folder with the list is the dataset's


def _cells(given: List, row: Row, *names: str) -> list[str]:
    """The cells of some columns."""
    if len(row) != len(given.header):
        raise ManifestError(f"expected {len(given.header)} cells, got {','.join(row)!r}. Give the list as published.")
    return [row[given.header.index(name)] for name in names]


def _youtube(name: str, label: str | tuple[str, ...], split: str, **extra: str) -> Entry:
    """A clip by its file's name, which starts with the video's id."""
    split = SPLIT_NAMES.get(split, split)
    return Entry(name, label, split, Path(f"{name}.mp4"), extra={"youtube_id": without_times(name), **extra})


def _kinetics(given: List, row: Row) -> Entry:
    id, label, split, *times = _cells(given, row, *KINETICS)
    start, end = (int(float(time)) for time in times)
    return _youtube(f"{id}_{start:06d}_{end:06d}", label, split)


def _vggsound(given: List, row: Row) -> Entry:
    if len(row) != 4:
        raise ManifestError(f"expected id, start, label, split, got {','.join(row)!r}. Give the list as published.")
    return _youtube(f"{row[0]}_{int(row[1]):06d}", row[2], row[3])


def _vggsound_test(given: List, row: Row) -> Entry:
    if len(row) != 2:
        raise ManifestError(f"expected file, label, got {','.join(row)!r}. Give the list as published.")
    return _youtube(Path(row[0]).stem, row[1], "test")


def _vggsounder(given: List, row: Row) -> Entry:
    name, label, modality = _cells(given, row, "video_id", "label", "modality")
    if given.names and label not in given.names.values():
        raise ManifestError(unknown_label(label, tuple(given.names.values())))
    if modality not in TAG:
        raise ManifestError(f"expected a modality A, V or AV, got {modality!r}. Give the list as published.")
    about = ("background_music", "static_image", "voice_over")
    extra = {column: row[given.header.index(column)] for column in about if column in given.header}
    return replace(_youtube(name, (label,), "test", **extra), tags=(TAG[modality],))


def _audioset(given: List, row: Row) -> Entry:
    if len(row) != 4:
        raise ManifestError(f"expected id, start, end, labels, got {','.join(row)!r}. Give the list as published.")
    if not given.names:
        beside = given.table.with_name(CLASS_TABLES[0])
        raise ManifestError(
            f"expected the names of the classes in {beside}, got no such file. Put AudioSet's table there."
        )
    if given.table.stem not in SEGMENTS:
        raise ManifestError(
            f"expected a list called {' or '.join(f'{name}.csv' for name in SEGMENTS)}, which says its split, got "
            f"{given.table.name}. Rename it."
        )
    if unknown := [key for key in row[3].split(",") if key not in given.names]:
        raise ManifestError(unknown_label(unknown[0], tuple(given.names)))
    labels = tuple(given.names[key] for key in row[3].split(","))
    return _youtube(f"{row[0]}_{int(float(row[1])):06d}", labels, SEGMENTS[given.table.stem])


FORMATS: dict[str, Format] = {
    # label,youtube_id,time_start,time_end,split; files <id>_<start>_<end>.mp4
    "Kinetics": Format(lambda first: {*first} >= {*KINETICS} and "video" not in first, _kinetics, header=True),
    # video_id,label,modality,...: a row for each label of a clip; files <id>_<start>.mp4, as of VGGSound
    "VGGSounder": Format(lambda first: first[:3] == ["video_id", "label", "modality"], _vggsounder, header=True, joined=True),
    # id,start,label,split without a header; files <id>_<start>.mp4
    "VGGSound": Format(lambda first: len(first) == 4 and first[1].isdecimal() and first[3] in SPLIT_NAMES, _vggsound),
    # file,label without a header, for the test clips only
    "VGGSound test": Format(lambda first: len(first) == 2 and Path(first[0]).suffix.lower() in VIDEOS, _vggsound_test, certain=False),
    # id, start, end, "key,key" after lines of comments; files <id>_<start>.mp4
    "AudioSet": Format(lambda first: first[0].startswith(("# Segments csv", "# YTID")), _audioset),
}  # fmt: skip


def format_of(table: Path) -> Format | None:
    """The format of a published list; None for any other file."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = [cell.strip() for cell in next(csv.reader(file, skipinitialspace=True), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None  # `Manifest.read` says what is wrong
    return next((format for format in FORMATS.values() if first and format.recognised(first)), None)


def inside(folder: Path) -> list[Path]:
    """The published lists in a folder.  Raises ManifestError for lists of several formats."""
    known = {table: format_of(table) for table in sorted(folder.glob("*.csv"))}
    found = {table: format for table, format in known.items() if format is not None and format.certain}
    if len(set(found.values())) > 1:
        names = " and ".join(table.name for table in found)
        raise ManifestError(f"{folder}: expected lists of one dataset, got {names}. Give the list to use instead.")
    return list(found)


def read(*tables: Path) -> Manifest:
    """The clips of published lists of one folder, wherever their files are below it.

    Files may be named by the id and the start in any way that `layouts.located` knows.  Clips without a file stay in the
    manifest.  Of VGGSounder and AudioSet clips are multi-label.  Raises ManifestError with file and line.
    """
    root = tables[0].parent
    names = _class_names(root)
    entries = [entry for table in tables for entry in _clips(table, names)]
    manifest = Manifest(root, tuple(located(entries, root)), name=tables[0].stem if len(tables) == 1 else "")
    return replace(manifest, classes=tuple(names.values())) if manifest.multilabel and names else manifest


def _clips(table: Path, names: Mapping[str, str]) -> Iterable[Entry]:
    format = format_of(table) or FORMATS["VGGSound"]
    lines = list(_rows(table))
    header = [name.strip() for name in lines.pop(0)[1]] if format.header else []
    given = List(table, header, names)
    clips: dict[object, Entry] = {}
    for line, row in lines:
        with _named(table, line):
            entry = format.clip(given, row)
            key = entry.id if format.joined else line
            clips[key] = _joined(clips[key], entry) if key in clips else entry
    return clips.values()


def _joined(one: Entry, other: Entry) -> Entry:
    return replace(one, label=(*one.labels, *other.labels), tags=(*one.tags, *other.tags))


def _rows(table: Path) -> Iterator[tuple[int, Row]]:
    """(line, cells) of a csv file, without empty lines and comments."""
    try:
        reader = csv.reader(table.read_text(encoding="utf-8-sig").splitlines(), skipinitialspace=True)
        yield from ((reader.line_num, row) for row in reader if row and not row[0].startswith("#"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{table}: expected a csv table of clips, got: {error}. Check the file.") from None


def _class_names(folder: Path) -> dict[str, str]:
    """Key → class, in the order of a table of classes in the folder; empty without one."""
    for table in (folder / name for name in CLASS_TABLES):
        if table.is_file():
            names: dict[str, str] = {}
            for line, row in _rows(table):
                with _named(table, line):
                    if len(row) != 3:
                        raise ManifestError(
                            f"expected index,mid,display_name, got {','.join(row)!r}. Give it as published."
                        )
                    if row[0] != "index":
                        names[row[1]] = row[2].strip()
            return names
    return {}


@contextmanager
def _named(table: Path, line: int) -> Iterator[None]:
    """Name the file and the line of what is wrong."""
    try:
        yield
    except (ValueError, KeyError, OverflowError) as error:
        raise ManifestError(f"{table} line {line}: {error}") from None
