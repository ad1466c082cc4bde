"""Datasets as they lie on a user's disk become manifests: folders of classes, or lists as published.

Knows names of files and folders; opens no media.  Clips that a list names and the disk lacks stay in the manifest:
`audit` counts them, `prepare` records them as missing.
"""

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from avrobust.data.frames import FRAMES_PER_SECOND
from avrobust.data.manifest import SPLITS, Entry, Manifest, ManifestError
from avrobust.seeds import digest

VIDEOS = frozenset(
    [".3gp", ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".ts", ".webm", ".wmv"]
)
# What the lists of the paper's code are called: train.csv, train_kinetics.csv, train_AVE.csv, ...
LISTS = {"music": "", "kinetics_sounds": "_kinetics", "ave": "_AVE"}


def folder(root: Path | str, *, listed: Path | str | None = None, seed: int = 0) -> Manifest:
    """Videos laid out as `<class>/<video>.mp4`, divided 60 : 20 : 20 by `divide`.

    `listed` is a json list as MIT-MUSIC has it, `{"videos": {class: [id, ...]}}`: then these clips are meant, and
    those that are not on disk are kept as missing.
    """
    root = Path(root)
    found = _videos(root)
    if listed is not None:
        names = [(label, id) for label, ids in _json_lists(Path(listed)).items() for id in ids]
    else:
        names = sorted(found)
    if not found:
        raise ManifestError(
            f"{root}: expected videos in folders named by class ({root / '<class>' / '<video>.mp4'}), got none. "
            "Give the folder that holds the class folders."
        )
    entries = [
        Entry(f"{label}/{id}", label, "train", found.get((label, id), Path(label, f"{id}.mp4"))) for label, id in names
    ]
    return divide(Manifest(root, tuple(entries)), seed=seed)


def published(
    lists: Path | str,
    root: Path | str | None = None,
    *,
    dataset: Literal["music", "kinetics_sounds", "ave"] = "music",
) -> Manifest:
    """The splits of Tian & Xu 2021, from the csv lists of their code: rows `/class/id.wav,/class/id.mp4,frames`.

    `root` holds the media as their code wants them, `audio/<class>/<id>.wav` beside
    `frames/<class>/<id>.mp4/000001.jpg` at 8 frames a second, or as videos, `<class>/<id>.mp4`.  Without `root` the
    lists alone can be audited.

    The AVE lists name clips twice, some of them in train and in test.  The manifest says what the lists say;
    `unique` settles it before use.
    """
    lists = Path(lists)
    entries = [entry for split in SPLITS for entry in _list(lists / f"{split}{LISTS[dataset]}.csv", split)]
    manifest = Manifest(lists if root is None else Path(root), tuple(entries), name=dataset)
    if root is None:
        return manifest
    return replace(manifest, entries=tuple(_placed(entries, manifest.root)))


def music(lists: Path | str, root: Path | str | None = None) -> Manifest:
    """MIT-MUSIC's solos as the paper splits them: 11 instruments, 312 / 104 / 104 clips."""
    return published(lists, root, dataset="music")


def kinetics_sounds(lists: Path | str, root: Path | str | None = None) -> Manifest:
    """Kinetics-Sounds as the paper splits it: 27 classes, 9309 / 3103 / 3104 clips."""
    return published(lists, root, dataset="kinetics_sounds")


def ave(lists: Path | str, root: Path | str | None = None) -> Manifest:
    """AVE as the paper splits it: 28 classes, 3339 / 402 / 402 rows, repeats and leaks included."""
    return published(lists, root, dataset="ave")


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


def centred(manifest: Manifest, seconds: float) -> Manifest:
    """The middle `seconds` of each clip, as the paper's code tests: around frame `count // 2`, counted from 1.

    Needs the frame counts of the published lists.  A clip that is shorter begins at its beginning.
    """
    entries = []
    for e in manifest.entries:
        if not e.extra.get("frames", "").isdecimal():
            raise ManifestError(
                f"clip '{e.id}': expected a count of frames, got {e.extra.get('frames')!r}. Centre clips of published lists, or set start yourself."
            )
        middle = (int(e.extra["frames"]) // 2 - 0.5) / FRAMES_PER_SECOND
        entries.append(replace(e, start=max(0.0, middle - seconds / 2)))
    return replace(manifest, entries=tuple(entries))


def _videos(root: Path) -> dict[tuple[str, str], Path]:
    """(class, id) → path within root, of the videos in the folders of `root`."""
    if not root.is_dir():
        raise ManifestError(
            f"{root}: expected a folder, got {'a file' if root.exists() else 'nothing'}. Check the path."
        )
    files = (file for label in sorted(root.iterdir()) if label.is_dir() for file in sorted(label.iterdir()))
    return {
        (f.parent.name, f.stem): f.relative_to(root) for f in files if f.suffix.lower() in VIDEOS and f.name[0] != "."
    }


def _json_lists(path: Path) -> Mapping[str, list[str]]:
    try:
        videos = json.loads(path.read_text(encoding="utf-8"))["videos"]
        return {label: [str(id) for id in ids] for label, ids in videos.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ManifestError(
            f'{path}: expected a json list {{"videos": {{class: [id, ...]}}}}, got: {error!r}. Give MIT-MUSIC\'s list.'
        ) from None


def _list(path: Path, split: str) -> Iterator[Entry]:
    """The rows of one published list, as videos in class folders."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{path}: expected a list of the paper's code, got: {error}. Give the folder that holds its csv files."
        ) from None
    for line, row in enumerate(rows, 1):
        video = Path(row[1].lstrip("/")) if len(row) == 3 else Path()
        if len(video.parts) != 2 or Path(row[0]).stem != video.stem:
            raise ManifestError(
                f"{path} line {line}: expected /class/id.wav,/class/id.mp4,frames, got {','.join(row)!r}. Give the lists as published."
            )
        label = video.parts[0]
        yield Entry(f"{label}/{video.stem}", label, split, video, extra={"frames": row[2].strip()})


def _placed(entries: list[Entry], root: Path) -> Iterator[Entry]:
    """The entries, pointing at the files that `root` has: folders of frames with sounds, or videos."""
    if (root / "frames").is_dir():
        for e in entries:
            yield replace(e, video="frames" / e.video, audio=("audio" / e.video).with_suffix(".wav"))
        return
    found = _videos(root)
    if not found:
        raise ManifestError(
            f"{root}: expected the folders audio and frames, or videos in folders named by class, got neither. Give the folder of the dataset."
        )
    for e in entries:
        yield replace(e, video=found.get((e.label, e.video.stem), e.video))
