"""Which clips of a manifest are used: some classes only, the middle of each video only."""

from dataclasses import replace

from avrobust.data.entry import Entry, ManifestError
from avrobust.data.frames import FRAMES_PER_SECOND, numbered
from avrobust.data.kinetics_sounds import CLASSES, folder_name, listed_classes
from avrobust.data.manifest import Manifest
from avrobust.media import MediaError, probe


def keep_classes(manifest: Manifest, names: str) -> Manifest:
    """The clips of some classes: a list in `kinetics_sounds.CLASSES` by its name, or class names separated by commas.

    "tap dancing" and "tap_dancing" are the same class, called as in `names`.  Raises ManifestError for a class without
    clips, because fewer classes are another, easier dataset.

    >>> from pathlib import Path
    >>> clips = tuple(Entry(label, label, "train", Path(f"{label}.mp4")) for label in ("tap_dancing", "singing", "tickling"))
    >>> keep_classes(Manifest(Path("kinetics"), clips), "tap dancing, singing").classes
    ('singing', 'tap dancing')
    """
    wanted = {folder_name(name): name for name in listed_classes(names)}
    have = {folder_name(label) for label in manifest.classes}
    if missing := [name for key, name in wanted.items() if key not in have]:
        raise ManifestError(
            f"{manifest.name}: expected clips of {len(wanted)} classes ({names}), got none of {', '.join(missing)}. "
            "Name the classes that are there, or keep all of them (--classes all)."
        )
    renamed = {label: wanted[folder_name(label)] for label in manifest.classes if folder_name(label) in wanted}
    return replace(
        manifest,
        entries=tuple(kept for e in manifest.entries if (kept := e.kept(renamed)) is not None),
        classes=tuple(sorted(wanted.values())),
        name=f"kinetics_sounds-{names}" if names in CLASSES else manifest.name,
    )


def keep_middle(manifest: Manifest, seconds: float) -> Manifest:
    """The middle `seconds` of each clip, by the duration of its file, which may have been cut since it was listed.

    A list that counts frames (a column `frames`, 8 a second) puts the middle at frame `count // 2`, counted from 1; its
    own count is used where there is no file.  A shorter clip keeps its start.  A clip whose file cannot be opened is left
    unchanged: `prepare` reports it.
    """
    centres = [_centre(manifest, e) for e in manifest.entries]
    return replace(
        manifest,
        entries=tuple(
            e if centre is None else replace(e, start=max(e.start, centre - seconds / 2))
            for e, centre in zip(manifest.entries, centres, strict=True)
        ),
    )


def _centre(manifest: Manifest, e: Entry) -> float | None:
    """The time in the middle of a clip, in seconds; None if unknown."""
    end = e.end or _duration(manifest, e)
    if "frames" not in e.extra:
        return None if end is None else (e.start + end) / 2
    count = int(e.extra["frames"]) if end is None else round(end * FRAMES_PER_SECOND)
    return (count // 2 - 0.5) / FRAMES_PER_SECOND


def _duration(manifest: Manifest, e: Entry) -> float | None:
    """Seconds of a video or a folder of frames; None if it cannot be opened."""
    video = manifest.root / e.video
    if video.is_dir():
        return len(numbered(video)) / FRAMES_PER_SECOND
    try:
        return probe(video).seconds
    except MediaError:
        return None
