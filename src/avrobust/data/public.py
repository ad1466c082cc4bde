"""Public datasets as their authors distribute them: one function for each layout on disk.

Knows names of files and folders; opens no media.  csv tables of Kinetics and VGGSound are read by `layouts`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from avrobust.data.entry import SPLITS, Entry, ManifestError
from avrobust.data.manifest import Manifest
from avrobust.data.selection import divide

EMOTIONS = {
    "ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happy", "NEU": "neutral", "SAD": "sad",
}  # fmt: skip


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
    return divide(Manifest(root, tuple(entries), name="crema_d"))


class Layout(NamedTuple):
    """How a dataset's folder is recognised, and read."""

    recognised: Callable[[Path], bool]
    read: Callable[[Path], Manifest]


LAYOUTS: dict[str, Layout] = {
    "AVE": Layout(lambda root: all((root / f"{split}Set.txt").is_file() for split in SPLITS), ave),
    "CREMA-D": Layout(lambda root: (root / "VideoFlash").is_dir(), crema_d),
}


def layout_of(root: Path) -> Layout | None:
    """The layout of a dataset's folder; None if it is none of these."""
    return next((layout for layout in LAYOUTS.values() if layout.recognised(root)), None)
