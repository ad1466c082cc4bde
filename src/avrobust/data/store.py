"""Prepared clips on disk: opens at once whatever its size, and reads any clip without decoding.

A store is a folder:

    store.json        what a clip holds (its `ClipSpec`)
    clips-*.arrow     decoded clips, see `data.shards`
    table.parquet     the manifest as last prepared: for every listed clip, its file and row, or why it has none
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avrobust.data.entry import Box, Label
from avrobust.data.shards import Shard, StoreError, read_shard
from avrobust.media import ClipSpec
from avrobust.media.decode import Clip

ABOUT, TABLE = "store.json", "table.parquet"
VERSION = 2  # of the table
OK = "ok"
MAPPED = 8  # files at a time, 1 GB: pages that were read count as this process's memory as long as their file is mapped


@dataclass(frozen=True, eq=False)
class Store:
    """The clips that `prepare` made of a manifest; `Store.open(path)` gives one.

    `store[id]` is a `Clip` whose arrays are read-only views of the file.  It is pickled with its table, as
    another study may meanwhile list other clips in its folder, and without clips.  See `prepare` for an example.
    """

    path: Path
    spec: ClipSpec
    name: str
    root: Path  # the manifest's
    classes: tuple[str, ...]
    table: pa.Table  # a row per listed clip: the manifest's columns, status, notes, window, digest, shard, row

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """The store in the folder `path`.  Raises StoreError where there is none, or a damaged one."""
        path = Path(path)
        spec = read_spec(path)
        if spec is None:
            raise StoreError(
                f"{path}: expected a folder of prepared clips, got none. Prepare a manifest into it first."
            )
        if not (path / TABLE).exists():
            raise StoreError(
                f"{path}: expected {TABLE}, got none: preparing was interrupted. Prepare again; finished clips are kept."
            )
        table = read_table(path)
        about = json.loads(table.schema.metadata[b"avrobust"])
        return cls(path, spec, about["name"], Path(about["root"]), tuple(about["classes"]), table)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, tuple(getattr(self, field.name) for field in fields(self))

    def __len__(self) -> int:
        """The number of readable clips."""
        return len(self.ids())

    def __contains__(self, id: str) -> bool:
        return id in self._index and self._column("status")[self._index[id]] == OK

    def __getitem__(self, id: str) -> Clip:
        """The prepared clip, as decoded.  Raises KeyError for an unknown id, StoreError for a clip that could not be decoded."""
        i = self._readable(id)
        shard, row = self._shard(self._column("shard")[i]), self._column("row")[i]
        about = {name: self.table.column(name)[i].as_py() for name in ("window", "notes")}
        return Clip(shard.waves[row], shard.frames[row], tuple(about["window"]), tuple(about["notes"]))

    def ids(self, split: str | None = None) -> tuple[str, ...]:
        """The readable clips of one split or of all, in the manifest's order."""
        rows = zip(self._index, self._column("split"), self._column("status"), strict=True)
        return tuple(id for id, s, status in rows if status == OK and split in (None, s))

    def label(self, id: str) -> int | tuple[float, ...]:
        """The number of the clip's class; of a multi-label clip 1.0 for each class that it has and 0.0 for the others."""
        label = self._label(self._row(id))
        if isinstance(label, str):
            return self._class_number[label]
        return tuple(float(name in label) for name in self.classes)

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Of every listed clip with tags, where its classes can be perceived: id → class → "audible", "visible" or "both"."""
        tagged = ((id, row, self._column("tags")[row]) for id, row in self._index.items())
        return {id: dict(zip(self._labels(row), tags, strict=True)) for id, row, tags in tagged if tags}

    def digest(self, id: str) -> str:
        """A hash of the clip's samples and pixels, as they were when it was prepared."""
        digest: str = self._column("digest")[self._readable(id)]
        return digest

    def box(self, id: str) -> Box | None:
        """The box of the sounding object, x0 y0 x1 y1 in [0, 1] of the prepared frame; None if unknown or cropped away."""
        box = self.table.column("box")[self._readable(id)].as_py()
        return None if box is None else self.cropped(id, (box[0], box[1], box[2], box[3]))

    def cropped(self, id: str, box: Box) -> Box | None:
        """A box of the source frame in coordinates of the prepared frame; None if it was cropped away."""
        window: list[float] = self.table.column("window")[self._readable(id)].as_py()
        return box_in_window(box, window)

    def counts(self, split: str) -> tuple[int, int]:
        """The numbers of readable and of listed clips in a split."""
        status = [status for s, status in zip(self._column("split"), self._column("status"), strict=True) if s == split]
        return sum(s == OK for s in status), len(status)

    def summary(self) -> str:
        """The number of readable clips in each split, and a line for each unreadable clip."""
        counts = (
            f"{split}: {readable} of {listed} clips"
            for split in ("train", "val", "test")
            for readable, listed in [self.counts(split)]
        )
        failures = (f"  {id} ({file}): {reason}" for id, file, reason in self.failures)
        return "\n".join([f"{self.name}: {len(self.classes)} classes, {self.spec}", *counts, *failures])

    def unreadable_classes(self, split: str) -> dict[str, str]:
        """The classes of a split without a readable clip, each with the file of its first clip and the reason."""
        rows = [
            (label, self._column("status")[row], self._column("video")[row])
            for row, s in enumerate(self._column("split"))
            if s == split
            for label in self._labels(row)
        ]
        readable = {label for label, status, _ in rows if status == OK}
        lost = ((label, status, file) for label, status, file in reversed(rows) if label not in readable)
        return {label: status if file in status else f"{file}: {status}" for label, status, file in lost}

    def require_classes(self, *splits: str) -> None:
        """Raise StoreError for a class without readable clips in one of the splits: fewer classes are an easier task."""
        for split in splits:
            for label, reason in self.unreadable_classes(split).items():
                raise StoreError(
                    f"expected clips of '{label}' among the {split} clips, got none that can be read: {reason}. Repair or "
                    f"replace its files (avrobust show {self.path}), or name the other classes with --classes."
                )

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """Id, file and reason of the listed clips that cannot be read."""
        rows = zip(self._index, self._column("video"), self._column("status"), strict=True)
        return [(id, file, status) for id, file, status in rows if status != OK]

    @cached_property
    def sha256(self) -> str:
        """A hash of everything that results depend on: classes, labels, splits, boxes, every sample and pixel."""
        labels = [self._label(row) for row in range(self.table.num_rows)]
        split, *others = (self._column(name) for name in ("split", "digest", "window", "box", "rival"))
        rows = sorted("\t".join(map(str, row)) for row in zip(self._column("id"), labels, split, *others, strict=True))
        return hashlib.sha256("\n".join([json.dumps(self.classes), *rows]).encode()).hexdigest()

    def _label(self, row: int) -> Label:
        label: str | None = self._column("label")[row]
        return tuple(self._column("labels")[row]) if label is None else label

    def _labels(self, row: int) -> tuple[str, ...]:
        label = self._label(row)
        return (label,) if isinstance(label, str) else label

    def _row(self, id: str) -> int:
        if id not in self._index:
            raise KeyError(f"expected a clip of {self.path}, got '{id}'. See ids().")
        return self._index[id]

    def _readable(self, id: str) -> int:
        i = self._row(id)
        if self._column("status")[i] != OK:
            raise StoreError(
                f"clip '{id}' could not be prepared: {self._column('status')[i]}. Choose clips from ids(), or repair the file and prepare "
                "again."
            )
        return i

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
            for oldest in [*self._shards][: max(0, len(self._shards) + 1 - MAPPED)]:
                self._shards.pop(oldest, None)
            self._shards[name] = read_shard(self.path / name, self.spec)
        return self._shards[name]

    def _column(self, name: str) -> list[Any]:
        if name not in self._columns:
            self._columns[name] = self.table.column(name).to_pylist()
        return self._columns[name]

    @cached_property
    def _index(self) -> Mapping[str, int]:
        return {id: i for i, id in enumerate(self._column("id"))}

    @cached_property
    def _class_number(self) -> Mapping[str, int]:
        return {label: k for k, label in enumerate(self.classes)}

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {}

    @cached_property
    def _shards(self) -> dict[str, Shard]:
        return {}


def box_in_window(box: Box | list[float], window: Box | list[float]) -> Box | None:
    """A box of the source frame in coordinates of the window that is kept; None if they do not overlap.

    >>> box_in_window((0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 0.75, 1.0))
    (0.0, 0.0, 0.5, 0.5)
    """
    width, height = window[2] - window[0], window[3] - window[1]
    x0, x1 = (min(max((x - window[0]) / width, 0.0), 1.0) for x in (box[0], box[2]))
    y0, y1 = (min(max((y - window[1]) / height, 0.0), 1.0) for y in (box[1], box[3]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def read_table(path: Path) -> pa.Table:
    """The table of the store at `path`.  Raises StoreError if it is missing, damaged, or of another version."""
    try:
        table = pq.read_table(path / TABLE)
        about = json.loads((table.schema.metadata or {}).get(b"avrobust", b"{}"))
        version = about.get("version", 1)
        found = "" if version == VERSION else f"one of version {version}"
    except (pa.ArrowException, OSError, ValueError, AttributeError) as error:
        found = str(error)
    if found:
        raise StoreError(
            f"{path / TABLE}: expected a table of prepared clips, got {found}. Prepare again; finished clips are kept."
        )
    return table


def read_spec(path: Path) -> ClipSpec | None:
    """The `ClipSpec` of the clips in a folder; None if the folder is no store."""
    try:
        return ClipSpec(**json.loads((path / ABOUT).read_text(encoding="utf-8"))["spec"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path / ABOUT}: expected the ClipSpec of the clips, got: {error!r}. Prepare into another folder."
        ) from None
