"""Datasets on a user's disk become manifests: folders of classes, and files wherever a list's clips are.

Knows names of files and folders; opens no media.  Clips that a list names and that are not on disk stay in the manifest:
`audit` counts them, `prepare` records them as missing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from avrobust.data.entry import Entry, ManifestError
from avrobust.data.kinetics_sounds import folder_name
from avrobust.data.manifest import Manifest
from avrobust.data.youtube import cut_of, without_times

# File name suffixes of videos.  FFmpeg itself looks at the content.
VIDEOS = frozenset(
    [
        ".3g2", ".3gp", ".3gp2", ".3gpp", ".amv", ".asf", ".avi", ".divx", ".dv", ".dvr-ms", ".f4v", ".flv", ".gxf",
        ".m1v", ".m2p", ".m2t", ".m2ts", ".m2v", ".m4v", ".mj2", ".mk3d", ".mkv", ".mod", ".mov", ".mp2v", ".mp4", ".mpe",
        ".mpeg", ".mpg", ".mpg4", ".mpv", ".mts", ".mxf", ".nsv", ".nut", ".ogm", ".ogv", ".ogx", ".qt", ".rm", ".rmvb",
        ".tod", ".tp", ".trp", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid",
    ]
)  # fmt: skip

Name = str | tuple[str, int | None]  # of a file, or a YouTube id with the second that a clip starts at, if it is known


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
    return Manifest(root, tuple(entries)).divide(seed=seed)


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


def located(entries: Iterable[Entry], root: Path) -> Iterator[Entry]:
    """The entries with the paths of their videos, which lie up to three folders below `root`.

    A file is found by its class folder and name, or by its name alone outside of the folders of other classes.  A clip of
    YouTube is also found by its id and the second it starts at, however that is written, and where either the file's name or
    the list's has no times, by the id alone.  An entry without a file is unchanged.
    """
    entries = list(entries)
    labels = {folder_name(label) for e in entries for label in e.labels}
    found: dict[tuple[str, Name], Path] = {}
    for file in sorted(file for depth in ("*", "*/*", "*/*/*") for file in root.glob(depth)):
        if _is_video(file):
            label = folder_name(file.parent.name)
            for name in (file.stem, cut_of(file.stem), (without_times(file.stem), None)):
                if name is not None:
                    found.setdefault((label if label in labels else "", name), file.relative_to(root))
    for e in entries:
        stem = e.video.stem
        names = (stem, cut_of(stem), (stem, None), without_times(stem))
        places = (
            found.get((label, name))
            for name in names
            if name is not None
            for label in (*map(folder_name, e.labels), "")
        )
        yield replace(e, video=next(filter(None, places), e.video))
