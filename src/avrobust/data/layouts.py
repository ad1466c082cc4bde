"""Datasets as they lie on a user's disk become manifests: folders of classes, or lists beside them.

Knows names of files and folders; only `middle` opens media.  Clips that a list names and the disk lacks stay in the manifest:
`audit` counts them, `prepare` records them as missing.
"""

import csv
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from avrobust.data.frames import FRAMES_PER_SECOND, numbered
from avrobust.data.kinetics_sounds import CLASSES, chosen, folder_name
from avrobust.data.manifest import Entry, Manifest, ManifestError, uncut
from avrobust.media.errors import MediaError
from avrobust.media.probe import probe
from avrobust.seeds import digest

# What videos are called, whichever container they are in; FFmpeg itself goes by what a file holds.
VIDEOS = frozenset(
    [
        ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".asf", ".avi", ".divx", ".dv", ".dvr-ms", ".f4v", ".flv", ".gxf",
        ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mk3d", ".mkv", ".mod", ".mov", ".mp2v", ".mp4", ".mpe",
        ".mpeg", ".mpg", ".mpg4", ".mpv", ".mts", ".mxf", ".nsv", ".nut", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb",
        ".tod", ".tp", ".trp", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid",
    ]
)  # fmt: skip
SPLIT_NAMES = {"train": "train", "val": "val", "validate": "val", "test": "test"}


def folder(root: Path | str, *, listed: Path | str | None = None, seed: int = 0) -> Manifest:
    """Videos laid out as `<class>/<video>.mp4`, divided 60 : 20 : 20 by `divide`.

    `listed` is a json list as MIT-MUSIC has it, `{"videos": {class: [id, ...]}}`: then these clips are meant, and
    those that are not on disk are kept as missing.
    """
    root = Path(root)
    found = _videos(root)
    if listed is not None:
        names = [(label, id) for label, ids in _json_lists(Path(listed)).items() for id in ids]
        found = {(folder_name(label), path.stem): path for (label, _), path in found.items()}
        found = {(label, id): found[key] for label, id in names if (key := (folder_name(label), id)) in found}
    else:
        names = sorted(found)
    entries = [
        Entry(
            f"{label}/{id}", label, "train", found.get((label, id), Path(label, f"{id}.mp4")),
            extra={} if listed is None else {"youtube_id": id},
        )
        for label, id in names
    ]  # fmt: skip
    return divide(Manifest(root, tuple(entries)), seed=seed)


def divide(manifest: Manifest, *, seed: int = 0, shares: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Manifest:
    """The same clips, divided anew into train, val and test, each class by itself.

    Clips of one source video stay together.  Who goes where depends on `seed` and on the names alone, not on
    their order.  A class of one or two videos is all train at the default shares.
    """
    sources: dict[str, set[str]] = defaultdict(set)
    for e in manifest.entries:
        sources[e.label].add(e.source)
    split_of: dict[str, str] = {}
    for label in manifest.classes:
        # A video that stands in two classes stays where its first class put it.
        order = sorted(sources[label] - split_of.keys(), key=lambda source: digest(seed, source, "split"))
        test, val = (round(share * len(order)) for share in (shares[2], shares[1]))
        split_of |= dict.fromkeys(order[:test], "test")
        split_of |= dict.fromkeys(order[test : test + val], "val")
        split_of |= dict.fromkeys(order[test + val :], "train")
    return replace(manifest, entries=tuple(replace(e, split=split_of[e.source]) for e in manifest.entries))


def keep(manifest: Manifest, names: str) -> Manifest:
    """The clips of some classes: those of a list in `kinetics_sounds.CLASSES`, or names with commas between them.

    "tap dancing" and "tap_dancing" are the same class; it is then called as it was asked for.  A class without
    clips is an error: 26 of the 27 classes are another, easier dataset.
    """
    asked = {folder_name(name): name for name in chosen(names)}
    have = {folder_name(label) for label in manifest.classes}
    if lacking := [name for key, name in asked.items() if key not in have]:
        raise ManifestError(
            f"{manifest.name}: expected clips of {len(asked)} classes ({names}), got none of {', '.join(lacking)}. "
            "Name the classes that are there, or keep all of them (--classes None)."
        )
    entries = (e for e in manifest.entries if folder_name(e.label) in asked)
    return replace(
        manifest,
        entries=tuple(replace(e, label=asked[folder_name(e.label)]) for e in entries),
        classes=tuple(sorted(asked.values())),
        name=f"kinetics_sounds-{names}" if names in CLASSES else manifest.name,
    )


def middle(manifest: Manifest, seconds: float) -> Manifest:
    """The middle `seconds` of each clip, by the file in hand, which may have been cut since it was listed.

    In clips whose list counts frames it is around frame `count // 2`, counted from 1, of 8 a second.  The list's own count stands in where there is no file.  A clip that is shorter begins at its
    beginning; one whose file cannot be opened stays as it is: that is for `prepare` to say.
    """
    centres = [_centre(manifest, e) for e in manifest.entries]
    return replace(
        manifest,
        entries=tuple(
            e if centre is None else replace(e, start=max(e.start, centre - seconds / 2))
            for e, centre in zip(manifest.entries, centres, strict=True)
        ),
    )


def is_youtube(table: Path) -> bool:
    """Whether a csv file lists clips by YouTube id, as those of Kinetics and VGGSound do."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            first = [cell.strip() for cell in next(csv.reader(file), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return False  # for `Manifest.read` to complain about
    if len(first) == 4:
        return first[1].isdecimal() and first[3] in SPLIT_NAMES
    return "youtube_id" in first or (len(first) == 2 and Path(first[0]).suffix.lower() in VIDEOS)


def youtube(table: Path) -> Manifest:
    """The clips of a csv file of Kinetics or VGGSound, wherever they lie below its folder.

    Kinetics has a header, `label,youtube_id,time_start,time_end,split`; VGGSound has none, `id,start,label,split`,
    or in its list of test clips `file,label`.  Files are called `<id>_<start>_<end>.mp4`, `<id>_<start>.mp4`, with
    six digits each, or `<id>.mp4`.  They are the clips, cut already: times only tell clips of one video apart.
    """
    try:
        rows = [row for row in csv.reader(table.read_text(encoding="utf-8-sig").splitlines()) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{table}: expected a csv table of clips, got: {error}. Check the file.") from None
    header = rows.pop(0) if rows and "youtube_id" in rows[0] else None
    entries = []
    for line, row in enumerate(rows, 1 if header is None else 2):
        try:
            name, label, split = _youtube_row(dict(zip(header, row, strict=True)) if header else row)
            entries.append(
                Entry(
                    name, label, SPLIT_NAMES.get(split, split), Path(f"{name}.mp4"), extra={"youtube_id": uncut(name)}
                )
            )
        except (ValueError, KeyError, OverflowError) as error:
            raise ManifestError(f"{table} line {line}: {error}") from None
    manifest = Manifest(table.parent, tuple(entries), name=table.stem)
    return replace(manifest, entries=tuple(found(entries, manifest.root)))


def _youtube_row(row: Mapping[str, str] | list[str]) -> tuple[str, str, str]:
    """(file name without its ending, class, split) of a row."""
    if isinstance(row, Mapping):
        start, end = (int(float(row[key])) for key in ("time_start", "time_end"))
        return f"{row['youtube_id']}_{start:06d}_{end:06d}", row["label"], row["split"]
    if len(row) == 2:
        return Path(row[0]).stem, row[1], "test"
    if len(row) != 4:
        raise ManifestError(f"expected id, start, label, split, got {','.join(row)!r}. Give the list as published.")
    return f"{row[0]}_{int(row[1]):06d}", row[2], row[3]


def _centre(manifest: Manifest, e: Entry) -> float | None:
    """The second in the middle of a clip; None where nothing tells."""
    end = e.end or _seconds(manifest.root / e.video)
    if "frames" not in e.extra:
        return None if end is None else (e.start + end) / 2
    count = int(e.extra["frames"]) if end is None else round(end * FRAMES_PER_SECOND)
    return (count // 2 - 0.5) / FRAMES_PER_SECOND


def _seconds(video: Path) -> float | None:
    """How long a video or a folder of frames is; None where it cannot be opened."""
    if video.is_dir():
        return len(numbered(video)) / FRAMES_PER_SECOND
    try:
        return probe(video).seconds
    except MediaError:
        return None


def _videos(root: Path) -> dict[tuple[str, str], Path]:
    """(class, id) → path within root, of the videos in the folders of `root`.

    The id is the file's name without its ending, or with it where files differ by nothing else.
    """
    if not root.is_dir():
        raise ManifestError(
            f"{root}: expected a folder, got {'a file' if root.exists() else 'nothing'}. Check the path."
        )
    files = (file for label in sorted(root.iterdir()) if label.is_dir() for file in sorted(label.iterdir()))
    videos = [f.relative_to(root) for f in files if f.suffix.lower() in VIDEOS and f.name[0] != "."]
    if not videos:
        deeper = sorted({f.parents[1].name for f in root.glob("*/*/*") if f.suffix.lower() in VIDEOS})
        came = f"some one folder further down, in {' and '.join(deeper)}" if deeper else "none"
        raise ManifestError(
            f"{root}: expected videos in folders named by class ({root / '<class>' / '<video>.mp4'}), got {came}. "
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


def found(entries: Iterable[Entry], root: Path) -> Iterator[Entry]:
    """The entries, pointing at videos up to three folders below `root`: by class and name, or by name alone.

    By name alone only outside of other classes' folders.  Either the file's name or the list's may have cutting
    times that the other lacks.
    """
    entries = list(entries)
    labels = {folder_name(e.label) for e in entries}
    whole: dict[tuple[str, str], Path] = {}
    cut: dict[tuple[str, str], Path] = {}
    for file in sorted(file for depth in ("*", "*/*", "*/*/*") for file in root.glob(depth)):
        if file.suffix.lower() in VIDEOS and file.name[0] != ".":
            place = folder_name(file.parent.name)
            place = place if place in labels else ""
            whole.setdefault((place, file.stem), file.relative_to(root))
            cut.setdefault((place, uncut(file.stem)), file.relative_to(root))
    for e in entries:
        places = (folder_name(e.label), "")
        ways = ((whole, e.video.stem), (cut, e.video.stem), (whole, uncut(e.video.stem)))
        found = (table.get((place, name)) for table, name in ways for place in places)
        yield replace(e, video=next(filter(None, found), e.video))
