"""Cells on disk: one model under one attack inside one threat, whole or not there; see docs/decisions/0003."""

import json
import shutil
from collections.abc import Callable, Container, Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from avrobust.config import parse, to_plain
from avrobust.data.store import Store
from avrobust.evaluation.schema import Rows
from avrobust.files import draft, write_json
from avrobust.progress import part, track_progress
from avrobust.study.plan import Cell
from avrobust.study.record import Notes

VERSION = 2  # of cell.json


def unreadable(store: Store, cell: Cell, split: str = "test") -> Rows:
    """A row with the reason for every listed clip of a split that could not be prepared: missing is not zero."""
    tested = {
        row["id"]: row
        for row in store.table.select(["id", "split", "label", "status"]).to_pylist()
        if row["split"] == split
    }
    failed = [id for id, _, _ in store.failures if id in tested]
    columns = {
        "model": cell.model, "seed": cell.seed, "attack": cell.attack_name, "mode": "corrected", "subset": cell.threat.subset,
        **cell.threat.budget.columns(), "clip": failed, "label": [store.classes.index(name) if (name := tested[id]["label"]) else None for id in failed],
        "status": [tested[id]["status"] for id in failed],
    }  # fmt: skip
    return Rows.of(columns)


def cell_folder(out: Path, key: str) -> Path:
    """Where a finished cell lies."""
    return out / "cells" / key


def is_whole(folder: Path) -> bool:
    """Whether a cell's rows are there and can be read."""
    try:
        Rows.load(folder / "rows.parquet")
    except (OSError, ValueError):  # Arrow's errors are both
        return False
    return True


def set_aside(out: Path, model: str, seed: int, current: Container[str]) -> dict[str, Any]:
    """Move cells of this model and seed that no longer belong to it out of the way; their records, by name.

    Other code, weights or clips made them.  They lie in `cells_of_other_versions`.
    """
    moved = {}
    for folder in sorted(file.parent for file in out.glob("cells/[!.]*/cell.json")):
        record = _read(folder)
        if record is None or (record.model, record.seed) != (model, seed) or folder.name in current:
            continue
        there = out / "cells_of_other_versions" / folder.name
        shutil.rmtree(there, ignore_errors=True)
        there.parent.mkdir(exist_ok=True)
        folder.rename(there)
        moved[there.name] = {"model": model, "seed": seed, "attack": record.attack, "code": record.code}
    return moved


@dataclass(frozen=True)
class CellRecord:
    """cell.json: what was computed in a cell, by which code and in which world.

    `settings` and `threat` are plain data of the attack and its budgets; `n` counts the rows.  Of an older version only
    the model, the seed, the attack and the code are read, to set the cell aside.
    """

    model: str
    seed: int
    attack: str
    code: dict[str, str] = field(default_factory=dict)
    settings: Any = None
    threat: Any = None
    subset: str = ""
    n: int = 0
    world: str = ""
    version: int = 1

    @classmethod
    def of(cls, cell: Cell, n: int, world: str) -> "CellRecord":
        settings, threat = to_plain(cell.attack), to_plain(cell.threat)
        return cls(
            cell.model, cell.seed, cell.attack_name, cell.code, settings, threat, cell.threat.subset, n, world, VERSION
        )


@cache  # a cell does not change under its name
def _read(folder: Path) -> CellRecord | None:
    """The record of a cell; None where the file is not ours, which the report says."""
    try:
        return parse(CellRecord, json.loads((folder / "cell.json").read_text()), extra="ignore")
    except ValueError:
        return None


def write_cell(out: Path, key: str, cell: Cell, rows: Rows, world: str = "") -> None:
    """Write a cell whole, then give it its name: a kill loses at most the cell it was in."""
    with draft(cell_folder(out, key), folder=True, locked=True) as part:
        write_json(part / "cell.json", asdict(CellRecord.of(cell, len(rows), world)))
        rows.save(part / "rows.parquet")


def compute_missing(
    out: Path,
    cells: Mapping[str, Cell],
    rows_of: Callable[[Cell], Rows | None],
    notes: Notes,
    *,
    title: str,
    world: Callable[[], str],
    visible: bool = True,
) -> None:
    """Compute and write those cells of one model and seed that a run lacks, and set aside cells that are none of them.

    `rows_of` gives a cell's rows, or None where it failed; `world` the short name of the machine that computed them.
    """
    first = next(iter(cells.values()))
    if other := set_aside(out, first.model, first.seed, cells):
        notes.update(set_aside=other)
    todo = {key: cell for key, cell in cells.items() if not is_whole(cell_folder(out, key))}
    total = sum(cell.steps + 1 for cell in todo.values())
    with track_progress(title, total, visible=visible, count=False):
        for key, cell in todo.items():
            with part(cell.steps + 1, cell.title):
                if (rows := rows_of(cell)) is not None:
                    write_cell(out, key, cell, rows, world())
