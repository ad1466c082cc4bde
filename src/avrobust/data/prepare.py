"""Decodes the clips of a manifest that are not prepared yet, on all cores, and adds them to a store.

A clip is identified by its times, its files (name, size, time of change; of a folder of frames, those of each frame) and
what decodes them.  So nothing is decoded twice, and a clip whose file is damaged is tried again only when the file or the
decoder has changed.  Versions of FFmpeg need not agree to the last bit: clips of another one are decoded anew, too.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from avrobust.data.entry import Entry, ManifestError
from avrobust.data.frames import numbered, read_clip
from avrobust.data.manifest import Manifest
from avrobust.data.shards import PATTERN, StoreError, clip_bytes, read_shard, write_shard
from avrobust.data.store import ABOUT, OK, TABLE, VERSION, Store, read_spec, read_table
from avrobust.data.workers import Lost, cores, in_processes
from avrobust.files import DRAFTS, occupied, write_bytes, write_json
from avrobust.media import ClipSpec
from avrobust.media.bounds import COMPUTING
from avrobust.media.decode import DECODER, Clip
from avrobust.media.errors import MediaError
from avrobust.progress import track_progress

SHARD_BYTES = 128 << 20  # lost at most when a run is killed, and held in memory

TEXTS = pa.list_(pa.string())
NUMBERS = pa.list_(pa.float64())
COLUMNS = pa.schema(
    {
        **dict.fromkeys(("id", "label", "split", "video", "audio"), pa.string()),
        **{"labels": TEXTS, "tags": TEXTS},  # of multi-label clips in place of `label`; see `Entry`
        **{"start": pa.float64(), "end": pa.float64(), "box": NUMBERS, "rival": NUMBERS},
        **{"status": pa.string(), "notes": TEXTS, "window": NUMBERS},
        **{"key": pa.string(), "digest": pa.string(), "shard": pa.string(), "row": pa.int32()},
    }
)


@dataclass(frozen=True)
class Task:
    """One clip to decode, and the key that identifies it in the store."""

    key: str
    video: Path
    audio: Path | None
    start: float
    end: float | None
    spec: ClipSpec


class Failure(NamedTuple):
    """Why a clip could not be decoded; `permanent` if it will fail again until its file or the decoder changes."""

    reason: str
    permanent: bool


STOPPED = Failure("not prepared yet: the run was stopped", permanent=False)


def prepare(
    manifest: Manifest, spec: ClipSpec, out: Path | str, *, workers: int | None = None, progress: bool = True
) -> Store:
    """Decode the clips of a manifest into the store at `out`, and return the store.

    Only new clips are decoded.  A clip that cannot be decoded is listed with the reason (`Store.failures`); it is never
    replaced by silence or black frames.  When the run is stopped, finished clips are kept.  The store then lists this
    manifest: clips of an earlier one stay on disk and are found again when they are listed again.

    `workers` processes decode side by side (default: one for each core).  A clip that kills its process, or that takes
    longer than `time_limit`, counts as unreadable; the others are not affected.  Processes are started afresh, so a
    script that calls this should do so under `if __name__ == "__main__":`.  `workers=1` decodes in this process, without
    a time limit.

    Raises ManifestError for ids that occur twice, and StoreError for a folder with other content or a full disk.

    >>> import tempfile; import numpy as np; from avrobust.media import write_mp4
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root, wave, frames = Path(folder, "media"), np.zeros(8000, np.float32), np.zeros((4, 48, 64, 3), np.uint8)
    ...     _ = write_mp4(root / "a.mp4", wave, frames, rate=8000, fps=4.0)
    ...     clips = (Entry("a", "dog", "train", Path("a.mp4")), Entry("b", "dog", "test", Path("b.mp4")))
    ...     store = prepare(Manifest(root, clips), ClipSpec(seconds=1.0), Path(folder, "out"), workers=1, progress=False)
    >>> store.ids(), store.failures
    (('a',), [('b', 'b.mp4', 'missing: b.mp4 (No such file or directory)')])
    """
    out = Path(out)
    if repeated := manifest.repeated():
        raise ManifestError(
            f"{manifest.name}: expected every id once, got {len(repeated)} repeated ids such as '{repeated[0]}'. Settle "
            "them with unique()."
        )
    _create(out, spec)
    have = _prepared(out, spec)
    failed = _failed(out)
    tasks = [_task(manifest, e, spec) for e in manifest.entries]
    todo = {t.key: t for t in tasks if isinstance(t, Task) and t.key not in have and t.key not in failed}
    _check_disk(out, len(todo), spec)

    unwritten: list[tuple[str, Clip]] = []
    try:
        with track_progress(f"preparing {manifest.name}", len(todo), visible=progress) as advance:
            for task, result in decoded(todo.values(), workers):
                if isinstance(result, Failure):
                    failed[task.key] = result
                else:
                    unwritten.append((task.key, result))
                if len(unwritten) * clip_bytes(spec) >= SHARD_BYTES:
                    full, unwritten = unwritten, []
                    write_shard(out, full)
                advance()
    finally:  # also when stopped
        if unwritten:
            write_shard(out, unwritten)
        table = _write_table(out, manifest, tasks, _prepared(out, spec), failed)
    return Store(out, spec, manifest.name, manifest.root.resolve(), manifest.classes, table)


def decoded(tasks: Iterable[Task], workers: int | None) -> Iterator[tuple[Task, Clip | Failure]]:
    """Each task with its clip, or with the failure, in order; `workers` as for `prepare`."""
    if workers == 1:
        yield from ((task, attempt(task)) for task in tasks)
        return
    for task, result in in_processes(attempt, tasks, workers or cores(), limit_s=time_limit):
        yield task, Failure(f"decoding {result.reason}", permanent=False) if isinstance(result, Lost) else result


def time_limit(task: Task) -> float:
    """Seconds after which decoding a clip is given up: as long as computing both of its streams may take, and some more."""
    return 2 * COMPUTING + 10 * task.spec.seconds


def attempt(task: Task) -> Clip | Failure:
    """The clip, or why it could not be decoded."""
    try:
        return read_clip(task.video, task.spec, audio=task.audio, start=task.start, end=task.end)
    except MediaError as error:
        return Failure(error.reason, permanent=True)
    except OSError as error:
        return Failure(f"cannot be opened ({error.strerror})", permanent=False)


def _create(out: Path, spec: ClipSpec) -> None:
    """Make `out` a store for `spec`, if it is none; refuse folders with other content."""
    if out.exists() and not out.is_dir():
        raise StoreError(f"{out}: expected a folder to prepare into, got a file. Give another path.")
    there = read_spec(out)
    if there is None:
        if occupied(out):
            raise StoreError(
                f"{out}: expected a new folder or one of prepared clips, got a folder with other files. Give "
                "another path."
            )
        write_json(out / ABOUT, {"spec": asdict(spec)})
    elif there != spec:
        raise StoreError(
            f"{out}: expected clips as {spec}, got a folder of clips as {there}. Give another path, or delete the "
            "folder."
        )
    for part in out.glob(DRAFTS):  # left by a killed run; a live one needs seconds to write one
        if time.time() - part.stat().st_mtime > 3600:
            part.unlink(missing_ok=True)


def _prepared(out: Path, spec: ClipSpec) -> dict[str, dict[str, Any]]:
    """key → file, row, digest, window and notes of all clips on disk, without those in damaged files."""
    have: dict[str, dict[str, Any]] = {}
    for path in sorted(out.glob(PATTERN)):
        try:
            about = read_shard(path, spec).about.to_pylist()
        except StoreError:
            continue  # its clips are decoded anew
        have |= {clip["key"]: {**clip, "shard": path.name, "row": row} for row, clip in enumerate(about)}
    return have


def _failed(out: Path) -> dict[str, Failure]:
    """key → failure, of the clips that failed before and would fail again."""
    try:
        rows = read_table(out).select(["key", "status"]).to_pylist()
    except StoreError:
        return {}  # damaged, or none: clips that failed before are tried again
    return {row["key"]: Failure(row["status"], True) for row in rows if row["key"] and row["status"] != OK}


def _check_disk(out: Path, clips: int, spec: ClipSpec) -> None:
    needed, free = clips * clip_bytes(spec), shutil.disk_usage(out).free
    if needed > free:
        raise StoreError(
            f"{out}: expected {needed / 1e9:.1f} GB of free disk for {clips} clips, got {free / 1e9:.1f} GB. Free some, give a "
            "folder on another disk, or a smaller spec."
        )


def _task(manifest: Manifest, entry: Entry, spec: ClipSpec) -> Task | str:
    """What to decode for an entry, or the reason why its file cannot be read."""
    identity: list[object] = [*DECODER, entry.start, entry.end]
    for path in (entry.video, entry.audio):
        if path is not None:
            try:
                state = _file_state(manifest.root / path)
                if not os.access(manifest.root / path, os.R_OK):
                    raise PermissionError(errno.EACCES, "Permission denied")
            except OSError as error:
                return f"missing: {path} ({error.strerror})"
            except ValueError as error:  # a name that no file can have
                return f"missing: {path!r} ({error})"
            identity += [path.as_posix(), *state]
    key = hashlib.blake2b(json.dumps(identity).encode(), digest_size=16).hexdigest()
    audio = None if entry.audio is None else manifest.root / entry.audio
    return Task(key, manifest.root / entry.video, audio, entry.start, entry.end, spec)


def _file_state(path: Path) -> list[object]:
    """Size and time of change of a file; of a folder of frames, those of each frame, which may be overwritten in place."""
    if path.is_dir():
        return [[frame.name, *_file_state(frame)] for frame in numbered(path)]
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _write_table(
    out: Path,
    manifest: Manifest,
    tasks: Sequence[Task | str],
    have: Mapping[str, Mapping[str, Any]],
    failed: Mapping[str, Failure],
) -> pa.Table:
    """Write the table of the store, and return it: each listed clip, and where it is or why it is not there."""
    rows = []
    for entry, task in zip(manifest.entries, tasks, strict=True):
        if isinstance(task, str):
            outcome: Mapping[str, Any] = {"status": task}
        elif task.key in have:
            outcome = {"status": OK, **have[task.key]}
        else:
            failure = failed.get(task.key, STOPPED)
            outcome = {"status": failure.reason, "key": task.key if failure.permanent else None}
        audio = None if entry.audio is None else entry.audio.as_posix()
        listed = {name: getattr(entry, name) for name in ("id", "split", "start", "end", "box", "rival", "tags")}
        listed |= {"labels" if manifest.multilabel else "label": entry.label}
        rows.append({**listed, "video": entry.video.as_posix(), "audio": audio, **outcome})
    about = {
        "version": VERSION,
        "name": manifest.name,
        "root": str(manifest.root.resolve()),
        "classes": manifest.classes,
    }
    table = pa.Table.from_pylist(rows, COLUMNS.with_metadata({"avrobust": json.dumps(about)}))
    file = BytesIO()
    pq.write_table(table, file)
    write_bytes(out / TABLE, file.getvalue())
    return table
