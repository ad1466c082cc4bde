"""Datasets on a user's disk become manifests: folders of classes, and the csv tables of Kinetics and VGGSound.

Knows names of files and folders; opens no media.  Clips that a list names and that are not on disk stay in the manifest:
`audit` counts them, `prepare` records them as missing.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from avrobust.data.entry import Entry, ManifestError
from avrobust.data.kinetics_sounds import folder_name
from avrobust.data.manifest import Manifest
from avrobust.data.selection import divide
from avrobust.data.youtube import without_times

# File name suffixes of videos.  FFmpeg itself looks at the content.
VIDEOS = frozenset(
    [
        ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".asf", ".avi", ".divx", ".dv", ".dvr-ms", ".f4v", ".flv", ".gxf",
        ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mk3d", ".mkv", ".mod", ".mov", ".mp2v", ".mp4", ".mpe",
        ".mpeg", ".mpg", ".mpg4", ".mpv", ".mts", ".mxf", ".nsv", ".nut", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb",
        ".tod", ".tp", ".trp", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid",
    ]
)  # fmt: skip
SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "test": "test"}

Row = list[str]


# ---- folders


def folder(root: Path | str, *, listed: Path | str | None = None, seed: int = 0) -> Manifest:
    """Videos as `<class>/<video>.mp4` below `root`, divided 60 : 20 : 20 into train, val and test.

    `listed` is a json list like MIT-MUSIC's, `{"videos": {class: [id, ...]}}`: then the manifest has these clips, also
    those that are not on disk.  Raises ManifestError where there are no such folders.
    """
    root = Path(root)
    videos = _videos(root)
    if listed is not None:
        names = [(label, id) for label, ids in _json_lists(Path(listed)).items() for id in ids]
        by_key = {(folder_name(label), path.stem): path for (label, _), path in videos.items()}
        videos = {(label, id): by_key[key] for label, id in names if (key := (folder_name(label), id)) in by_key}
    else:
        names = sorted(videos)
    entries = [
        Entry(
            f"{label}/{id}", label, "train", videos.get((label, id), Path(label, f"{id}.mp4")),
            extra={} if listed is None else {"youtube_id": id},
        )
        for label, id in names
    ]  # fmt: skip
    return divide(Manifest(root, tuple(entries)), seed=seed)


def _videos(root: Path) -> dict[tuple[str, str], Path]:
    """(class, id) → path relative to root, of the videos in the folders of `root`.

    The id is the file's name without its suffix, or with it where files differ by the suffix only.
    """
    if not root.is_dir():
        raise ManifestError(
            f"{root}: expected a folder, got {'a file' if root.exists() else 'nothing'}. Check the path."
        )
    files = (file for label in sorted(root.iterdir()) if label.is_dir() for file in sorted(label.iterdir()))
    videos = [f.relative_to(root) for f in files if _is_video(f)]
    if not videos:
        deeper = sorted({f.parents[1].name for f in root.glob("*/*/*") if f.suffix.lower() in VIDEOS})
        found = f"some one folder further down, in {' and '.join(deeper)}" if deeper else "none"
        raise ManifestError(
            f"{root}: expected videos in folders named by class ({root / '<class>' / '<video>.mp4'}), got {found}. "
            f"Give the folder that holds the class folders{f', for example {root / deeper[0]}' if deeper else ''}."
        )
    stems = Counter(f.with_suffix("") for f in videos)
    return {(f.parent.name, f.stem if stems[f.with_suffix("")] == 1 else f.name): f for f in videos}


def _json_lists(path: Path) -> Mapping[str, list[str]]:
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return {label: [str(id) for id in ids] for label, ids in videos.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ManifestError(
            f'{path}: expected a json list {{"videos": {{class: [id, ...]}}}}, got: {error!r}. Give MIT-MUSIC\'s list.'
        ) from None


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEOS and file.name[0] != "."


# ---- csv tables of YouTube clips


class Format(NamedTuple):
    """A dataset's csv table: whether its first row belongs to the format, and (file name, class, split) of a row."""

    header: bool  # whether the first row names columns
    recognised: Callable[[Row], bool]
    clip: Callable[[Mapping[str, str], Row], tuple[str, str, str]]


def _kinetics(row: Mapping[str, str], _: Row) -> tuple[str, str, str]:
    start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
    return f"{row['youtube_id']}_{start:06d}_{end:06d}", row["label"], row["split"]


def _vggsound(_: Mapping[str, str], row: Row) -> tuple[str, str, str]:
    if len(row) != 4:
        raise ManifestError(f"expected id, start, label, split, got {','.join(row)!r}. Give the list as published.")
    return f"{row[0]}_{int(row[1]):06d}", row[2], row[3]


def _vggsound_test(_: Mapping[str, str], row: Row) -> tuple[str, str, str]:
    if len(row) != 2:
        raise ManifestError(f"expected file, label, got {','.join(row)!r}. Give the list as published.")
    return Path(row[0]).stem, row[1], "test"


# One line per dataset.  Files are named by the YouTube id and the times of six digits each that are given here.
FORMATS: dict[str, Format] = {
    # label,youtube_id,time_start,time_end,split; files <id>_<start>_<end>.mp4
    "Kinetics": Format(True, lambda first: "youtube_id" in first, _kinetics),
    # id,start,label,split without a header; files <id>_<start>.mp4
    "VGGSound": Format(False, lambda first: len(first) == 4 and first[1].isdecimal() and first[3] in SPLIT_NAMES, _vggsound),
    # file,label without a header, for the test clips only
    "VGGSound test": Format(False, lambda first: len(first) == 2 and Path(first[0]).suffix.lower() in VIDEOS, _vggsound_test),
}  # fmt: skip


def youtube_format(table: Path) -> Format | None:
    """The format of a csv table of YouTube clips; None for any other file."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return None  # `Manifest.read` says what is wrong
    return next((format for format in FORMATS.values() if format.recognised(first)), None)


def youtube(table: Path) -> Manifest:
    """The clips of a csv table of Kinetics or VGGSound, wherever their files are below its folder.

    Files are the clips, cut already; the times in a table only tell the clips of one video apart.  Files without the
    times in their names are found too.  Raises ManifestError with file and line.
    """
    try:
        rows = [row for row in csv.reader(table.read_text(encoding="utf-8-sig").splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{table}: expected a csv table of clips, got: {error}. Check the file.") from None
    format = youtube_format(table) or FORMATS["VGGSound"]
    header = [name.strip() for name in rows.pop(0)] if format.header else []
    entries = []
    for line, row in enumerate(rows, 2 if format.header else 1):
        try:
            name, label, split = format.clip(dict(zip(header, row, strict=True)) if header else {}, row)
            video, extra = Path(f"{name}.mp4"), {"youtube_id": without_times(name)}
            entries.append(Entry(name, label, SPLIT_NAMES.get(split, split), video, extra=extra))
        except (ValueError, KeyError, OverflowError) as error:
            raise ManifestError(f"{table} line {line}: {error}") from None
    manifest = Manifest(table.parent, tuple(entries), name=table.stem)
    return replace(manifest, entries=tuple(located(entries, manifest.root)))


def located(entries: Iterable[Entry], root: Path) -> Iterator[Entry]:
    """The entries with the paths of their videos, which lie up to three folders below `root`.

    A file is found by its class folder and name, or by its name alone outside of the folders of other classes.  Either
    the file's name or the list's may have cutting times that the other one lacks.  An entry without a file is unchanged.
    """
    entries = list(entries)
    labels = {folder_name(e.label) for e in entries}
    by_name: dict[tuple[str, str], Path] = {}
    by_id: dict[tuple[str, str], Path] = {}
    for file in sorted(file for depth in ("*", "*/*", "*/*/*") for file in root.glob(depth)):
        if _is_video(file):
            label = folder_name(file.parent.name)
            label = label if label in labels else ""
            by_name.setdefault((label, file.stem), file.relative_to(root))
            by_id.setdefault((label, without_times(file.stem)), file.relative_to(root))
    for e in entries:
        names = ((by_name, e.video.stem), (by_id, e.video.stem), (by_name, without_times(e.video.stem)))
        found = (files.get((label, name)) for files, name in names for label in (folder_name(e.label), ""))
        yield replace(e, video=next(filter(None, found), e.video))
