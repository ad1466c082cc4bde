"""Prepared clips on disk: opens at once whatever its size, and gives any clip without decoding.

A store is a folder:

    store.json        what a clip holds (its `ClipSpec`)
    clips-*.arrow     decoded clips, see `data.shards`
    table.parquet     the manifest as last prepared: for every listed clip where it lies, or why it does not
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from avrobust.data.entry import Box
from avrobust.data.shards import Shard, StoreError, read_shard
from avrobust.media import ClipSpec
from avrobust.media.decode import Clip

ABOUT, TABLE = "store.json", "table.parquet"
OK = "ok"


@dataclass(frozen=True, eq=False)
class Store:
    """The clips that `prepare` made of a manifest; `Store.open(path)` gives one.

    `store[id]` is a `Clip` whose arrays are read-only views of the file.  A store can be sent to other processes: only
    its path travels.
    """

    path: Path
    spec: ClipSpec
    name: str
    root: Path  # the manifest's
    classes: tuple[str, ...]
    table: pa.Table  # a row per listed clip: the manifest's columns, status, notes, window, digest, shard, row

    @classmethod
    def open(cls, path: Path | str) -> "Store":
        """The store in the folder `path`."""
        path = Path(path)
        spec = read_spec(path)
        if spec is None:
            raise StoreError(
                f"{path}: expected a folder of prepared clips, got none. Prepare a manifest into it first."
            )
        if not (path / TABLE).exists():
            raise StoreError(
                f"{path}: expected {TABLE}, got none: preparing was cut off. Prepare again; finished clips are kept."
            )
        table = read_table(path)
        about = json.loads(table.schema.metadata[b"avrobust"])
        return cls(path, spec, about["name"], Path(about["root"]), tuple(about["classes"]), table)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)

    def __len__(self) -> int:
        """How many clips can be read."""
        return len(self.ids())

    def __contains__(self, id: str) -> bool:
        return id in self._index and self._column("status")[self._index[id]] == OK

    def __getitem__(self, id: str) -> Clip:
        """The prepared clip, as the decoder gave it."""
        i = self._readable(id)
        shard, row = self._shard(self._column("shard")[i]), self._column("row")[i]
        about = {name: self.table.column(name)[i].as_py() for name in ("window", "notes")}
        return Clip(shard.waves[row], shard.frames[row], tuple(about["window"]), tuple(about["notes"]))

    def ids(self, split: str | None = None) -> tuple[str, ...]:
        """The clips that can be read, of one split or of all, in the manifest's order."""
        rows = zip(self._index, self._column("split"), self._column("status"), strict=True)
        return tuple(id for id, s, status in rows if status == OK and split in (None, s))

    def label(self, id: str) -> int:
        """The number of the clip's class."""
        return self._class_number[self._column("label")[self._row(id)]]

    def digest(self, id: str) -> str:
        """A number for what the clip sounds and looks like, as it was when it was prepared."""
        digest: str = self._column("digest")[self._readable(id)]
        return digest

    def box(self, id: str) -> Box | None:
        """Where the sounding object is seen, x0 y0 x1 y1 in [0, 1] of the prepared frame; None: not known, or cut off."""
        box = self.table.column("box")[self._readable(id)].as_py()
        return None if box is None else self.seen(id, (box[0], box[1], box[2], box[3]))

    def seen(self, id: str, box: Box) -> Box | None:
        """A box of the clip's whole picture, in the prepared frame; None: cut off."""
        window: list[float] = self.table.column("window")[self._readable(id)].as_py()
        return box_in_window(box, window)

    def counts(self, split: str) -> tuple[int, int]:
        """(readable, listed) clips of a split."""
        status = [status for s, status in zip(self._column("split"), self._column("status"), strict=True) if s == split]
        return sum(s == OK for s in status), len(status)

    def summary(self) -> str:
        """How many clips of each split can be read, and a line for each that cannot."""
        counts = (
            f"{split}: {readable} of {listed} clips"
            for split in ("train", "val", "test")
            for readable, listed in [self.counts(split)]
        )
        failures = (f"  {id} ({file}): {reason}" for id, file, reason in self.failures)
        return "\n".join([f"{self.name}: {len(self.classes)} classes, {self.spec}", *counts, *failures])

    def vanished(self, split: str) -> dict[str, str]:
        """The classes of a split whose listed clips can all not be read, each with the first one's reason."""
        rows = [
            (label, status)
            for label, s, status in zip(*(self._column(c) for c in ("label", "split", "status")), strict=True)
            if s == split
        ]
        readable = {label for label, status in rows if status == OK}
        return {label: status for label, status in reversed(rows) if label not in readable}

    def require_classes(self, *splits: str) -> None:
        """Raise a `StoreError` where no clip of a class can be read in one of the splits: fewer are an easier task."""
        for split in splits:
            for label, reason in self.vanished(split).items():
                raise StoreError(
                    f"expected clips of '{label}' among the {split} clips, got none that can be read ({reason}). Mend or "
                    f"replace its files (avrobust show {self.path}), or name the other classes with --classes."
                )

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """(id, file, reason) of the listed clips that cannot be read."""
        rows = zip(self._index, self._column("video"), self._column("status"), strict=True)
        return [(id, file, status) for id, file, status in rows if status != OK]

    @cached_property
    def sha256(self) -> str:
        """One number for all that decides results: classes, labels, splits, boxes, and every sample and pixel."""
        columns = (self._column(name) for name in ("id", "label", "split", "digest", "window", "box", "rival"))
        rows = sorted("\t".join(map(str, row)) for row in zip(*columns, strict=True))
        return hashlib.sha256("\n".join([json.dumps(self.classes), *rows]).encode()).hexdigest()

    def _row(self, id: str) -> int:
        if id not in self._index:
            raise KeyError(f"expected a clip of {self.path}, got '{id}'. See ids().")
        return self._index[id]

    def _readable(self, id: str) -> int:
        i = self._row(id)
        if self._column("status")[i] != OK:
            raise StoreError(
                f"clip '{id}' could not be prepared: {self._column('status')[i]}. Take clips from ids(), or mend the file and prepare again."
            )
        return i

    def _shard(self, name: str) -> Shard:
        if name not in self._shards:
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
    """A box of the whole picture, seen in the part of it that is kept; None when nothing of it is left.

    >>> box_in_window((0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 0.75, 1.0))
    (0.0, 0.0, 0.5, 0.5)
    """
    width, height = window[2] - window[0], window[3] - window[1]
    x0, x1 = (min(max((x - window[0]) / width, 0.0), 1.0) for x in (box[0], box[2]))
    y0, y1 = (min(max((y - window[1]) / height, 0.0), 1.0) for y in (box[1], box[3]))
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def read_table(path: Path) -> pa.Table:
    """The table of the store at `path`.  Raises StoreError where it is damaged, or none, or of another version."""
    try:
        table = pq.read_table(path / TABLE)
        came = ", ".join(c for c in ("status", "digest", "window", "box", "rival") if c not in table.column_names)
        came = f"one without {came}" if came else ""
        if b"avrobust" not in (table.schema.metadata or {}):
            came = came or "one without classes"
    except (pa.ArrowException, OSError) as error:
        came = str(error)
    if came:
        raise StoreError(
            f"{path / TABLE}: expected a table of prepared clips, got {came}. Prepare again; finished clips are kept."
        )
    return table


def read_spec(path: Path) -> ClipSpec | None:
    """What the clips in a folder hold, or None where the folder is no store."""
    try:
        return ClipSpec(**json.loads((path / ABOUT).read_text(encoding="utf-8"))["spec"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{path / ABOUT}: expected what the clips hold, got: {error!r}. Prepare into another folder."
        ) from None
