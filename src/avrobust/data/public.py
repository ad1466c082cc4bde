"""Public datasets as their authors distribute them: one function for each layout on disk.

Knows names of files and folders; opens no media.  Lists of Kinetics, VGGSound, VGGSounder and AudioSet are read by `lists`.
"""

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from avrobust.data import boxes
from avrobust.data.entry import SPLITS, Entry, ManifestError
from avrobust.data.manifest import Manifest
from avrobust.data.youtube import without_times

EMOTIONS = {
    "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip
SOURCE, SILENT = "sounding", "non-sounding"  # classes of benchmarks of localisation: whether the source is visible


def ave(root: Path) -> Manifest:
    """AVE (Tian et al. 2018): `AVE/<id>.mp4`, with `trainSet.txt`, `valSet.txt` and `testSet.txt` as published.

    Their lines are `category&id&quality&start&end`; a clip is the event, from `start` to `end` seconds.  Some clips are
    listed twice, which `Manifest.unique` removes.
    """
    entries = []
    for split in SPLITS:
        table = root / f"{split}Set.txt"
        try:
            lines = table.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ManifestError(f"{table}: expected a list of AVE, got: {error}. Use the file as published.") from None
        for line, text in enumerate(lines, 1):
            try:
                label, id, _, start, end = text.split("&")
                entries.append(
                    Entry(f"{label}/{id}", label, split, Path("AVE", f"{id}.mp4"), None, float(start), float(end),
                          extra={"youtube_id": id})
                )  # fmt: skip
            except ValueError as error:
                raise ManifestError(
                    f"{table} line {line}: expected category&id&quality&start&end, got {text!r} ({error}). Use the file as "
                    "published."
                ) from None
    return Manifest(root, tuple(entries), name="ave")


def crema_d(root: Path) -> Manifest:
    """CREMA-D (Cao et al. 2014): `VideoFlash/<actor>_<sentence>_<emotion>_<level>.flv` with `AudioWAV/....wav`.

    Classes are the six emotions.  There are no published splits: actors are divided 60 : 20 : 20, so that no actor is in two
    splits.
    """
    entries = []
    for video in sorted((root / "VideoFlash").glob("*.flv")):
        actor, _, emotion, *_ = [*video.stem.split("_"), "", "", ""]
        if emotion not in EMOTIONS:
            raise ManifestError(
                f"{video}: expected <actor>_<sentence>_<emotion>_<level>.flv with one of {', '.join(EMOTIONS)}, got another "
                "name. Use the files as published."
            )
        wav = Path("AudioWAV", f"{video.stem}.wav")
        entries.append(
            Entry(video.stem, EMOTIONS[emotion], "train", video.relative_to(root), wav if (root / wav).exists() else None,
                  extra={"recording": actor})
        )  # fmt: skip
    return Manifest(root, tuple(entries), name="crema_d").divide()


def vgg_ss(root: Path) -> Manifest:
    """VGG-SS (Chen et al. 2021): `frames/<id>.jpg`, `audio/<id>.wav` and `vggss.json`, boxes around the sounding objects.

    All clips are test clips.  `Entry.box` is the box around all of a clip's boxes, which the column `boxes` keeps.  With
    `vggss_test_plus_silent.csv` (Mo & Morgado 2022) the pairs without a visible source follow, without a box.
    """
    table = root / "vggss.json"
    try:
        rows = [
            (str(row["file"]), str(row["class"]), list(row["bbox"])) for row in json.loads(table.read_text("utf-8"))
        ]
        entries = [_boxed(id, label, [[float(side) for side in box] for box in given]) for id, label, given in rows]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestError(
            f'{table}: expected a json list of {{"file", "class", "bbox": [[x0, y0, x1, y1], ...]}}, got: {error!r}. Use the '
            "file as published."
        ) from None
    return Manifest(root, (*entries, *_silent(root)), name="vgg_ss")


def flickr_soundnet(root: Path) -> Manifest:
    """Flickr-SoundNet's annotated pairs (Senocak et al. 2018): `frames/<id>.jpg`, `audio/<id>.wav`, `Annotations/<id>.xml`.

    Each file has the boxes of three annotators, in pixels of a frame of 256 x 256.  `Entry.box` is around the places on which
    two agree; the column `boxes` keeps all of them.  `flickr_test.csv` (Chen et al. 2021), if it is there, names the test
    clips, and the others are training clips; else all are test clips.  There is one class.  Pairs without a visible source
    follow, as for `vgg_ss`.
    """
    listed = root / "flickr_test.csv"
    tested = {row[0].strip() for row in _csv(listed, 1)} if listed.is_file() else None
    entries = []
    for file in sorted((root / "Annotations").glob("*.xml")):
        try:
            given = [
                [int(side.text or "") / 256 for side in list(box)[1:]] for box in ElementTree.parse(file).iter("bbox")
            ]
            split = "test" if tested is None or file.stem in tested else "train"
            entries.append(_boxed(file.stem, SOURCE, given, votes=2, split=split))
        except (OSError, ValueError, ElementTree.ParseError) as error:
            raise ManifestError(
                f"{file}: expected boxes of annotators (a name and four sides in pixels), got: {error}. Use the file as "
                "published."
            ) from None
    if missing := sorted((tested or set()) - {e.id for e in entries}):
        raise ManifestError(
            f"{listed}: expected annotations of every listed clip, got none of {', '.join(missing[:3])} ({len(missing)} in all). "
            "Put their files into Annotations."
        )
    return Manifest(root, (*entries, *_silent(root)), name="flickr_soundnet")


def _boxed(id: str, label: str, given: Sequence[Sequence[float]], *, votes: int = 1, split: str = "test") -> Entry:
    """A picture with a sound and published boxes; boxes of no area are dropped from the consensus, not from the column."""
    if any(len(box) != 4 for box in given):
        raise ManifestError(f"clip '{id}': expected boxes of four sides, got {given}. Use the file as published.")
    whole = [box for box in map(boxes.inside, given) if box is not None]
    return Entry(
        id, label, split, Path("frames", f"{id}.jpg"), Path("audio", f"{id}.wav"),
        box=boxes.consensus(whole, votes), extra={"boxes": boxes.words(given), "recording": without_times(id)},
    )  # fmt: skip


def _silent(root: Path) -> Iterator[Entry]:
    """The pairs of `<set>_test_plus_silent.csv` of which the picture does not show what sounds: picture, sound, kind."""
    for table in sorted(root.glob("*_test_plus_silent.csv")):
        for frame, sound, kind in _csv(table, 3):
            if kind.strip() == SILENT:
                files = Path("frames", f"{frame}.jpg"), Path("audio", f"{sound}.wav")
                yield Entry(f"{frame}+{sound}", SILENT, "test", *files, extra={"recording": without_times(frame)})


def _csv(table: Path, cells: int) -> Iterator[list[str]]:
    """The rows of a table without a header."""
    try:
        for line, row in enumerate(csv.reader(table.read_text(encoding="utf-8").splitlines()), 1):
            if len(row) < cells:
                raise ManifestError(
                    f"{table} line {line}: expected {cells} cells, got {','.join(row)!r}. Use it as published."
                )
            yield row[:cells]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{table}: expected a csv table, got: {error}. Use the file as published.") from None


class Layout(NamedTuple):
    """How a dataset's folder is recognised, and read."""

    recognised: Callable[[Path], bool]
    read: Callable[[Path], Manifest]


LAYOUTS: dict[str, Layout] = {
    "AVE": Layout(lambda root: all((root / f"{split}Set.txt").is_file() for split in SPLITS), ave),
    "VGG-SS": Layout(lambda root: (root / "vggss.json").is_file(), vgg_ss),
    "Flickr-SoundNet": Layout(
        lambda root: (root / "Annotations").is_dir() and (root / "frames").is_dir(), flickr_soundnet
    ),
    "CREMA-D": Layout(lambda root: (root / "VideoFlash").is_dir(), crema_d),
}


def layout_of(root: Path) -> Layout | None:
    """The layout of a dataset's folder; None if it is none of these."""
    return next((layout for layout in LAYOUTS.values() if layout.recognised(root)), None)
