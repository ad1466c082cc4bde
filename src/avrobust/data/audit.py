"""Looks for what makes a data set's numbers wrong: leaks between splits, copies, shortcuts, missing and broken files.

Knows manifests and files.  It works on lists alone, too: then every clip is missing, and leaks between lists are still
found.
"""

import hashlib
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TypeVar

from avrobust.data.entry import SPLITS, Entry
from avrobust.data.frames import numbered
from avrobust.data.manifest import Manifest
from avrobust.data.shortcuts import Facts, Shortcut, facts, sample, shortcuts
from avrobust.data.workers import cores
from avrobust.media.container import Kind
from avrobust.media.errors import MediaError
from avrobust.media.probe import probe
from avrobust.media.reader import Reader
from avrobust.progress import track_progress

Pair = tuple[str, str]  # two splits
T = TypeVar("T")

LISTENING = 60.0  # s after which no more clips are listened to


@dataclass(frozen=True)
class Audit:
    """What was found; every field but `counts` is empty on a clean data set.  `summary()` says it in words."""

    name: str
    counts: Mapping[str, Mapping[str, int]]  # split → class → clips listed
    shared: Mapping[Pair, tuple[str, ...]]  # ids that stand in both splits
    related: Mapping[Pair, tuple[str, ...]]  # source videos of which different clips stand in both splits
    repeated: Mapping[str, tuple[str, ...]]  # split → ids, once for each row too many
    copies: tuple[tuple[Entry, ...], ...]  # clips whose different files are the same byte for byte
    missing: Mapping[str, tuple[str, ...]]  # split → ids of which a file is not there
    unreadable: Mapping[str, str]  # id → reason, of files that are there
    readable: Mapping[str, int]  # split → clips of which every file can be opened
    changed: tuple[str, ...]  # ids whose video no longer has the sha256 that the table gives
    vanished: Mapping[str, tuple[str, ...]]  # split → classes of which no file that is there can be read
    shortcuts: tuple[Shortcut, ...]  # single numbers that tell the classes apart
    listened: int  # clips that were decoded to find those, of all that are there

    @property
    def clean(self) -> bool:
        """Whether nothing was found that makes numbers wrong; clips that are only missing do not."""
        leaks = any({e.split for e in group} != {group[0].split} for group in self.copies)
        found = (self.shared, self.related, self.unreadable, self.vanished, self.changed, self.shortcuts)
        return not (leaks or any(found))

    def summary(self) -> str:
        """The findings as plain text, a line each; leaks first after the counts."""
        return "\n".join(
            [f"{self.name}: {sum(map(_total, self.counts.values()))} clips", *self._counted(), *self._found()]
        )

    def _counted(self) -> Iterable[str]:
        for split, classes in self.counts.items():
            listed = _total(classes)
            (most, high), (least, low) = Counter(classes).most_common()[0], Counter(classes).most_common()[-1]
            balance = f"{low} ({least}) to {high} ({most}) a class" if low < high else f"{low} in each class"
            yield f"  {split}: you have {self.readable[split]} of {listed} clips; {len(classes)} classes, {balance}"

    def _found(self) -> Iterable[str]:
        everywhere = {label for classes in self.counts.values() for label in classes}
        for (a, b), ids in self.shared.items():
            yield f"LEAK: {_some(ids, 'clip')} in both {a} and {b}"
        for (a, b), videos in self.related.items():
            yield f"LEAK: clips of {_some(videos, 'video')} in both {a} and {b}"
        for group in self.copies:
            splits = {e.split for e in group}
            where = " and ".join(s for s in SPLITS if s in splits)
            yield f"{'LEAK' if len(splits) > 1 else 'copy'}: files of {_some([e.id for e in group], 'row')} in {where} are the same"
        for split, ids in self.repeated.items():
            yield f"repeated: {_some(ids, 'row')} too many in {split}"
        for split, classes in self.counts.items():
            if absent := sorted(everywhere - classes.keys()):
                yield f"classes: none in {split} of {_some(absent, 'class', 'classes')}"
        for split, ids in self.missing.items():
            yield f"missing: {_some(ids, 'clip')} of {split}"
        yield from (f"unreadable: {id}: {reason}" for id, reason in self.unreadable.items())
        for split, labels in self.vanished.items():
            yield f"CLASS LOST: no clip in {split} can be read of {_some(labels, 'class', 'classes')}"
        if self.changed:
            yield f"changed: {_some(self.changed, 'file')} not as the table's sha256 says"
        there = sum(self.readable.values())
        of = f" (a sample; there are {there})" if self.listened < there else ""
        yield from (f"SHORTCUT: {shortcut}{of}" for shortcut in self.shortcuts)


def audit(manifest: Manifest, *, progress: bool = True) -> Audit:
    """Look a manifest over: its rows, and whichever of its files are there.

    Files are opened, not decoded; only those of equal size are compared.  What breaks off later is found by
    `prepare`.  To find shortcuts, a sample is listened to (see `data.shortcuts`).
    """
    entries = manifest.entries
    ids = _by_split(entries, lambda e: e.id)
    sources = _by_split(entries, lambda e: e.source)
    shared = {pair: tuple(sorted(common)) for pair, common in _common(ids).items()}
    leaked = {id for ids in shared.values() for id in ids}
    known = {e.source for e in entries if e.id in leaked}
    related = {pair: tuple(sorted(common - known)) for pair, common in _common(sources).items() if common - known}
    there = [e for e in entries if all(path.exists() for path in manifest.paths(e))]
    absent = {e.id for e in entries} - {e.id for e in there}
    unreadable = _unreadable(manifest, there, progress)
    opened = [e for e in there if e.id not in unreadable]
    listened = _listened(manifest, opened, progress)
    return Audit(
        name=manifest.name,
        counts={s: Counter(e.label for e in entries if e.split == s) for s in ids},
        shared=shared,
        related=related,
        repeated={s: again for s in ids if (again := _again(e.id for e in entries if e.split == s))},
        copies=_copies(manifest, there),
        missing={s: lost for s in ids if (lost := tuple(e.id for e in entries if e.split == s and e.id in absent))},
        unreadable=unreadable,
        readable={s: sum(e.split == s for e in opened) for s in ids},
        changed=tuple(e.id for e in opened if e.sha256 and sha256(manifest.root / e.video) != e.sha256),
        vanished={s: lost for s in ids if (lost := _vanished(s, there, opened))},
        shortcuts=shortcuts(listened),
        listened=len(listened),
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _by_split(entries: Iterable[Entry], what: Callable[[Entry], str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for e in entries:
        found[e.split].add(what(e))
    return {split: found[split] for split in SPLITS if split in found}


def _common(sets: Mapping[str, set[str]]) -> dict[Pair, set[str]]:
    return {(a, b): sets[a] & sets[b] for a, b in combinations(sets, 2) if sets[a] & sets[b]}


def _vanished(split: str, there: Iterable[Entry], opened: Iterable[Entry]) -> tuple[str, ...]:
    """The classes of a split of which there are files, none of them readable."""
    labels, left = ({e.label for e in entries if e.split == split} for entries in (there, opened))
    return tuple(sorted(labels - left))


def _listened(manifest: Manifest, entries: Sequence[Entry], progress: bool) -> list[tuple[Entry, Facts]]:
    """What single numbers say of a sample of the clips; those that cannot be decoded are for `prepare` to name."""
    chosen, until = sample(entries), time.monotonic() + LISTENING

    def known(e: Entry) -> Facts | None:
        with suppress(MediaError, OSError):
            return facts(manifest, e) if time.monotonic() < until else None
        return None

    found = _side_by_side(known, chosen, f"listening to {len(chosen)} clips of {manifest.name}", progress)
    return [(e, said) for e, said in zip(chosen, found, strict=True) if said is not None]


def _side_by_side(work: Callable[[Entry], T], entries: Sequence[Entry], title: str, progress: bool) -> list[T]:
    """`work` of each, in threads, because FFmpeg works outside Python's lock."""
    found: list[T] = []
    with ThreadPoolExecutor(cores()) as pool, track_progress(title, len(entries), visible=progress) as advance:
        for result in pool.map(work, entries):
            found.append(result)
            advance()
    return found


def _again(ids: Iterable[str]) -> tuple[str, ...]:
    return tuple(id for id, n in Counter(ids).items() for _ in range(n - 1))


def _copies(manifest: Manifest, entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], ...]:
    """Clips by different files of the same content; to be the same, files must be of the same size first."""
    users: dict[Path, list[Entry]] = defaultdict(list)
    for e in entries:
        for path in manifest.paths(e):
            if path.is_file():
                users[path].append(e)
    same_size, same = defaultdict(list), defaultdict(list)
    for path in users:
        same_size[path.stat().st_size].append(path)
    for path in (path for paths in same_size.values() if len(paths) > 1 for path in paths):
        with suppress(OSError):  # which is said of the file as unreadable
            same[sha256(path)].append(path)
    return tuple(tuple(e for path in paths for e in users[path]) for paths in same.values() if len(paths) > 1)


def _unreadable(manifest: Manifest, entries: Sequence[Entry], progress: bool) -> dict[str, str]:
    reasons = _side_by_side(lambda e: _problem(manifest, e), entries, f"opening the files of {manifest.name}", progress)
    return {e.id: reason for e, reason in zip(entries, reasons, strict=True) if reason}


def _problem(manifest: Manifest, e: Entry) -> str | None:
    """Why a clip cannot be had from its files, as far as opening them tells."""
    video, *apart = manifest.paths(e)
    try:
        if video.is_dir():
            has_picture, has_sound = bool(numbered(video)), False
        else:
            held = probe(video)
            has_picture, has_sound = held.video is not None, held.audio is not None
        if apart:
            has_sound = probe(apart[0]).audio is not None
    except (MediaError, OSError) as error:
        return str(error)
    if not has_sound:
        return _why(apart[0] if apart else video, "audio")
    return None if has_picture else _why(video, "video")


def _why(path: Path, kind: Kind) -> str:
    """Why a file gives no audio or no video."""
    if path.is_dir():
        missing = "audio file beside its frames" if kind == "audio" else "numbered frames"
        return f"{path}: has no {missing}"
    with suppress(OSError):
        try:
            Reader(path, kind).container.close()
        except MediaError as error:
            return str(error)
    return f"{path}: has no {kind} stream"


def _total(classes: Mapping[str, int]) -> int:
    return sum(classes.values())


def _some(names: Iterable[str], one: str, many: str | None = None) -> str:
    """A count with a few examples.

    >>> _some(["a", "b", "c", "d", "e"], "clip")
    '5 clips (a, b, c, …)'
    """
    names = list(names)
    few = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return f"{len(names)} {one if len(names) == 1 else many or one + 's'} ({few})"
