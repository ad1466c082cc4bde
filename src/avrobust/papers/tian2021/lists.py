"""The splits of Tian & Xu 2021, from the csv lists of their code, with the media in the layout of that code."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avrobust.data.entry import SPLITS, Entry, ManifestError
from avrobust.data.kinetics_sounds import folder_name
from avrobust.data.layouts import located
from avrobust.data.manifest import Manifest
from avrobust.data.youtube import without_times

Dataset = Literal["music", "kinetics_sounds", "ave"]
# Suffixes of the lists' file names: train.csv, train_kinetics.csv, train_AVE.csv, ...
LISTS = {"music": "", "kinetics_sounds": "_kinetics", "ave": "_AVE"}


@dataclass(frozen=True)
class Lists:
    """The lists in a folder, as a value for `Source.lists`: called with the folder of media, it gives the manifest.

    >>> Lists(Path("lists"), "ave").dataset
    'ave'
    """

    folder: Path
    dataset: Dataset = "music"

    def __call__(self, root: Path) -> Manifest:
        """The listed clips with their media below `root`.  Raises ManifestError where either is not as published."""
        return published(self.folder, root, dataset=self.dataset)


def published(
    lists: Path | str,
    root: Path | str | None = None,
    *,
    dataset: Dataset = "music",
) -> Manifest:
    """The splits of Tian & Xu 2021, from the csv lists of their code: rows `/class/id.wav,/class/id.mp4,frames`.

    `root` holds the media in the layout of their code, `audio/<class>/<id>.wav` and
    `frames/<class>/<id>.mp4/000001.jpg` at 8 frames a second, or videos, `<class>/<id>.mp4`, up to three folders below
    it.  Videos with cutting times in their names (Kinetics) or without class folders (AVE) are found too.  Without `root`
    only the lists can be audited.  Raises ManifestError.

    The AVE lists name clips twice, some of them in train and in test.  The manifest repeats this; `unique` removes it.
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


def _list(path: Path, split: str) -> Iterator[Entry]:
    """The clips of one published list, as videos in class folders."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(
            f"{path}: expected a list of the paper's code, got: {error}. Give the folder that holds its csv files."
        ) from None
    for line, row in enumerate(rows, 1):
        video = Path(row[1].lstrip("/")) if len(row) == 3 else Path()
        if len(video.parts) != 2 or Path(row[0]).stem != video.stem or not row[2].strip().isdecimal():
            raise ManifestError(
                f"{path} line {line}: expected /class/id.wav,/class/id.mp4,frames, got {','.join(row)!r}. Give the lists as "
                "published."
            )
        label = video.parts[0]
        yield Entry(
            f"{label}/{video.stem}",
            label,
            split,
            video,
            extra={"frames": row[2].strip(), "youtube_id": without_times(video.stem)},
        )


def _placed(entries: list[Entry], root: Path) -> Iterator[Entry]:
    """The entries with the paths of their files below `root`: folders of frames with audio files, or videos."""
    if (root / "frames").is_dir():
        folders = {folder_name(path.name): path.name for path in (root / "frames").iterdir()}
        for e in entries:
            video = Path(folders.get(folder_name(e.labels[0]), e.labels[0]), e.video.name)
            yield replace(e, video="frames" / video, audio=("audio" / video).with_suffix(".wav"))
        return
    placed = list(located(entries, root))
    if not any((root / e.video).exists() for e in placed):
        raise ManifestError(
            f"{root}: expected the folders audio and frames, or videos in folders named by class, got neither: none of "
            f"{len(placed)} listed clips is there. Give the folder of the dataset."
        )
    yield from placed
