"""Which clips of a manifest are used: divided into splits, some classes only, the middle of each video only."""

from collections import defaultdict
from dataclasses import replace

from avrobust.data.entry import Entry, ManifestError
from avrobust.data.frames import FRAMES_PER_SECOND, numbered
from avrobust.data.kinetics_sounds import CLASSES, folder_name, listed_classes
from avrobust.data.manifest import Manifest
from avrobust.media import MediaError, probe
from avrobust.seeds import stable_hash


def divide(manifest: Manifest, *, seed: int = 0, shares: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> Manifest:
    """The same clips, divided anew into train, val and test by `shares`, each class by itself; of several, a clip's first.

    Clips of one source video stay together.  The split of a video depends on `seed` and on the names, not on their order.
    A class of one or two videos is all train at the default shares.

    >>> from collections import Counter; from pathlib import Path
    >>> clips = tuple(Entry(f"{n}", "dog", "train", Path(f"{n}.mp4")) for n in range(10))
    >>> sorted(Counter(e.split for e in divide(Manifest(Path("pets"), clips)).entries).items())
    [('test', 2), ('train', 6), ('val', 2)]
    """
    sources: dict[str, set[str]] = defaultdict(set)
    for e in manifest.entries:
        sources[next(iter(e.labels), "")].add(e.source)
    split_of: dict[str, str] = {}
    for label in (*manifest.classes, ""):
        # A video with clips of two classes stays in the split of the first.
        order = sorted(sources[label] - split_of.keys(), key=lambda source: stable_hash(seed, source, "split"))
        test, val = (round(share * len(order)) for share in (shares[2], shares[1]))
        split_of |= dict.fromkeys(order[:test], "test")
        split_of |= dict.fromkeys(order[test : test + val], "val")
        split_of |= dict.fromkeys(order[test + val :], "train")
    entries = tuple(replace(e, split=split_of[e.source]) for e in manifest.entries)
    return replace(manifest, entries=entries, divided=True)


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
