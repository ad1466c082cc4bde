"""Checks a dataset: leaks between splits, copies, shortcuts, missing and unreadable files.

Works on lists without media, too: then every clip is missing, and leaks between lists are still found.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from avrobust.data.entry import SPLITS, Entry
from avrobust.data.examine import Files, Finding, Properties, examine
from avrobust.data.manifest import Manifest
from avrobust.data.shortcuts import Shortcut, sample, shortcuts
from avrobust.data.workers import Lost, cores, in_processes
from avrobust.files import sha256
from avrobust.progress import track_progress

Pair = tuple[str, str]  # two splits

SAMPLING = 60.0  # s after which no more clips are tested for shortcuts
TIME_LIMIT = 120.0  # s after which opening a clip's files, and measuring them, is given up


@dataclass(frozen=True)
class Audit:
    """The findings of `audit`; `summary()` gives them as text.  On a clean dataset all but the counts are empty."""

    name: str
    counts: Mapping[str, Mapping[str, int]]  # split → class → clips listed
    listed: Mapping[str, int]  # split → clips listed: of several labels, a clip counts in each class
    readable: Mapping[str, int]  # split → clips of which every file can be opened
    shared_clips: Mapping[Pair, tuple[str, ...]]  # ids that are in both splits
    shared_videos: Mapping[Pair, tuple[str, ...]]  # source videos with different clips in both splits
    repeated: Mapping[str, tuple[str, ...]]  # split → ids, once for each extra row
    copies: tuple[tuple[Entry, ...], ...]  # clips of different files with the same bytes, or of one file across splits
    missing: Mapping[str, tuple[str, ...]]  # split → ids with a file that is not on disk
    unreadable: Mapping[str, str]  # id → reason, for files that are on disk
    changed: tuple[str, ...]  # ids whose video no longer has the table's sha256
    unreadable_classes: Mapping[str, tuple[str, ...]]  # split → classes with files of which none is readable
    shortcuts: tuple[Shortcut, ...]
    sampled: int  # clips that were tested for shortcuts

    @property
    def clean(self) -> bool:
        """Whether nothing was found that distorts results; missing clips do not."""
        leaks = any({e.split for e in group} != {group[0].split} for group in self.copies)
        found = (
            self.shared_clips, self.shared_videos, self.unreadable, self.unreadable_classes, self.changed, self.shortcuts
        )  # fmt: skip
        return not (leaks or any(found))

    def summary(self) -> str:
        """The counts and findings as text, a line each; leaks come first."""
        return "\n".join(
            [
                f"{self.name}: {sum(self.listed.values())} clips",
                *self._count_lines(),
                *self._finding_lines(),
            ]
        )

    def _count_lines(self) -> Iterable[str]:
        for split, classes in self.counts.items():
            ordered = Counter(classes).most_common() or [("none", 0)]
            (most, high), (least, low) = ordered[0], ordered[-1]
            balance = f"{low} ({least}) to {high} ({most}) clips" if low < high else _counted(low, "clip")
            yield f"  {split}: {self.readable[split]} of {self.listed[split]} clips readable; {_counted(len(classes), 'class', 'classes')} of {balance}"

    def _finding_lines(self) -> Iterable[str]:
        everywhere = {label for classes in self.counts.values() for label in classes}
        for (a, b), ids in self.shared_clips.items():
            yield f"LEAK: {_some(ids, 'clip')} in both {a} and {b}"
        for (a, b), videos in self.shared_videos.items():
            yield f"LEAK: clips of {_some(videos, 'video')} in both {a} and {b}"
        for group in self.copies:
            splits = [s for s in SPLITS if s in {e.split for e in group}]
            kind = "LEAK" if len(splits) > 1 else "copy"
            yield f"{kind}: identical files in {' and '.join(splits)}: {_some([e.id for e in group], 'row')}"
        for split, ids in self.repeated.items():
            yield f"repeated: {_some(ids, 'extra row')} in {split}"
        for split, classes in self.counts.items():
            if absent := sorted(everywhere - classes.keys()):
                yield f"classes: {split} has no clip of {_some(absent, 'class', 'classes')}"
        for split, ids in self.missing.items():
            yield f"missing: {_some(ids, 'clip')} of {split}"
        yield from (f"unreadable: {id}: {reason}" for id, reason in self.unreadable.items())
        for split, labels in self.unreadable_classes.items():
            yield f"CLASS LOST: {split} has no readable clip of {_some(labels, 'class', 'classes')}"
        if self.changed:
            yield f"changed: {_some(self.changed, 'file')} without the sha256 that the table gives"
        readable = sum(self.readable.values())
        of = f" (a sample of the {readable} readable ones)" if self.sampled < readable else ""
        yield from (f"SHORTCUT: {shortcut}{of}" for shortcut in self.shortcuts)


def audit(manifest: Manifest, *, workers: int | None = None, progress: bool = True) -> Audit:
    """Check a manifest: its rows, and those of its files that are on disk.

    Files are opened, not decoded; only files of equal size are compared.  Damage further inside a file is found by
    `prepare`.  Shortcuts are looked for in a sample (see `data.shortcuts`), within a minute,
    where clips have one class each.

    `workers` processes open files side by side, as those of `prepare` do (default: one for each core).  A file that kills its
    process, or holds it up for two minutes, counts as unreadable.  `workers=1` opens the files in this process, without a
    time limit.

    >>> clips = [Entry("a", "dog", split, Path("a.mp4")) for split in ("train", "test")]
    >>> print(audit(Manifest(Path("pets"), tuple(clips)), workers=1, progress=False).summary())
    pets: 2 clips
      train: 0 of 1 clips readable; 1 class of 1 clip
      test: 0 of 1 clips readable; 1 class of 1 clip
    LEAK: 1 clip (a) in both train and test
    missing: 1 clip (a) of train
    missing: 1 clip (a) of test
    """
    entries = manifest.entries
    ids = _by_split(entries, lambda e: e.id)
    sources = _by_split(entries, lambda e: e.source)
    shared = {pair: tuple(sorted(common)) for pair, common in _common(ids).items()}
    leaked = {id for ids in shared.values() for id in ids}
    known = {e.source for e in entries if e.id in leaked}
    on_disk = [e for e in entries if all(path.exists() for path in manifest.paths(e))]
    absent = {e.id for e in entries} - {e.id for e in on_disk}
    unreadable, sampled = _examined(manifest, on_disk, workers, progress)
    readable = [e for e in on_disk if e.id not in unreadable]
    return Audit(
        name=manifest.name,
        counts={s: Counter(label for e in entries if e.split == s for label in e.labels) for s in ids},
        listed={s: sum(e.split == s for e in entries) for s in ids},
        readable={s: sum(e.split == s for e in readable) for s in ids},
        shared_clips=shared,
        shared_videos={
            pair: tuple(sorted(common - known)) for pair, common in _common(sources).items() if common - known
        },
        repeated={s: again for s in ids if (again := _repeats(e.id for e in entries if e.split == s))},
        copies=_copies(manifest, on_disk),
        missing={s: lost for s in ids if (lost := tuple(e.id for e in entries if e.split == s and e.id in absent))},
        unreadable=unreadable,
        changed=tuple(e.id for e in readable if e.sha256 and _hash(manifest.root / e.video) != e.sha256),
        unreadable_classes={s: lost for s in ids if (lost := _lost_classes(s, on_disk, readable))},
        shortcuts=shortcuts(sampled),
        sampled=len(sampled),
    )


def _by_split(entries: Iterable[Entry], what: Callable[[Entry], str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for e in entries:
        found[e.split].add(what(e))
    return {split: found[split] for split in SPLITS if split in found}


def _common(sets: Mapping[str, set[str]]) -> dict[Pair, set[str]]:
    return {(a, b): sets[a] & sets[b] for a, b in combinations(sets, 2) if sets[a] & sets[b]}


def _lost_classes(split: str, on_disk: Iterable[Entry], readable: Iterable[Entry]) -> tuple[str, ...]:
    """The classes of a split with files of which none is readable."""
    present, left = (
        {label for e in entries if e.split == split for label in e.labels} for entries in (on_disk, readable)
    )
    return tuple(sorted(present - left))


def _examined(
    manifest: Manifest, entries: Sequence[Entry], workers: int | None, progress: bool
) -> tuple[dict[str, str], list[tuple[Entry, Properties]]]:
    """Why clips are unreadable, by id, and the properties of a sample of the clips."""
    chosen = [] if manifest.multilabel else sample(entries)  # a shortcut predicts the one class of a clip
    until = time.monotonic() + SAMPLING
    order = list(dict.fromkeys([*chosen, *entries]))  # the sample first: it has a minute

    def tasks() -> Iterator[Files]:
        for number, e in enumerate(order):
            audio = None if e.audio is None else manifest.root / e.audio
            measured = number < len(chosen) and time.monotonic() < until
            yield Files(manifest.root / e.video, audio, e.start, e.end, measured)

    problems: dict[str, str] = {}
    properties: list[tuple[Entry, Properties]] = []
    title = f"opening the files of {manifest.name}"
    with track_progress(title, len(order), visible=progress) as advance:
        for e, finding in zip(order, _findings(tasks(), workers), strict=True):
            if finding.problem is not None:
                problems[e.id] = finding.problem
            elif finding.properties is not None:
                properties.append((e, finding.properties))
            advance()
    return {e.id: problems[e.id] for e in entries if e.id in problems}, properties


def _findings(tasks: Iterable[Files], workers: int | None) -> Iterator[Finding]:
    if workers == 1:
        yield from map(examine, tasks)
        return
    for files, found in in_processes(examine, tasks, workers or cores(), limit_s=lambda task: TIME_LIMIT):
        yield Finding(f"{files.video}: opening {found.reason}") if isinstance(found, Lost) else found


def _hash(video: Path) -> str | None:
    """The sha256 of a file; None of a folder of frames, or where it cannot be read any more."""
    with suppress(OSError):
        return sha256(video)
    return None


def _repeats(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(id for id, n in Counter(ids).items() for _ in range(n - 1))


def _copies(manifest: Manifest, entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], ...]:
    """Groups of clips whose different files have the same bytes, or that share a file across splits.

    Only files of equal size are compared.  Clips of one recording that share its file are in `Audit.shared_videos`.
    """
    users: dict[Path, list[Entry]] = defaultdict(list)
    for e in entries:
        for path in manifest.paths(e):
            if path.is_file():
                users[path].append(e)
    same_size, same = defaultdict(list), defaultdict(list)
    for path in users:
        same_size[path.stat().st_size].append(path)
    for path in (path for paths in same_size.values() if len(paths) > 1 for path in paths):
        with suppress(OSError):  # reported as unreadable
            same[sha256(path)].append(path)
    groups = [paths for paths in same.values() if len(paths) > 1]
    copied = {path for paths in groups for path in paths}
    shared = ([path] for path in users if path not in copied and _leaks(users[path]))
    return tuple(dict.fromkeys(tuple(e for path in paths for e in users[path]) for paths in (*groups, *shared)))


def _leaks(entries: Sequence[Entry]) -> bool:
    """Whether clips of several recordings, as the table says, are in several splits."""
    return len({e.split for e in entries}) > 1 and len({e.source for e in entries}) > 1


def _some(names: Iterable[str], one: str, many: str | None = None) -> str:
    """A count with a few examples.

    >>> _some(["a", "b", "c", "d", "e"], "clip")
    '5 clips (a, b, c, …)'
    """
    names = list(names)
    few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{_counted(len(names), one, many)} ({few})"


def _counted(count: int, one: str, many: str | None = None) -> str:
    return f"{count} {one if count == 1 else many or one + 's'}"
