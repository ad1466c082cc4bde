"""Cells on disk: one model under one attack inside one threat, whole or not there; see docs/decisions/0003."""

import json
import shutil
from collections.abc import Container
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from avrobust.config import parse
from avrobust.data.store import Store
from avrobust.evaluation.schema import Rows
from avrobust.files import draft, write_json
from avrobust.study.plan import Cell
from avrobust.study.record import describe


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
        **cell.threat.budget.columns(), "clip": failed, "label": [store.classes.index(tested[id]["label"]) for id in failed],
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
    """Move cells of this model and seed that no longer belong to it out of the way; what they were, by name.

    Another version of the code made them, or other weights or clips.  They lie in `cells_of_other_versions`.
    """
    moved = {}
    for file in sorted(out.glob("cells/[!.]*/cell.json")):
        try:
            told = parse(_CellFile, json.loads(file.read_text()), extra="ignore")
        except ValueError:
            continue  # not written by us; the report says what is wrong with it
        if (told.model, told.seed) != (model, seed) or file.parent.name in current:
            continue
        there = out / "cells_of_other_versions" / file.parent.name
        shutil.rmtree(there, ignore_errors=True)
        there.parent.mkdir(exist_ok=True)
        file.parent.rename(there)
        moved[there.name] = asdict(told)
    return moved


@dataclass(frozen=True)
class _CellFile:
    """What `write_cell` says of a cell, as far as it tells whose it is."""

    model: str
    seed: int
    attack: str
    subset: str
    code: dict[str, str] = field(default_factory=dict)


def write_cell(out: Path, key: str, cell: Cell, rows: Rows, world: str = "") -> None:
    """Write a cell whole, then give it its name: a kill loses at most the cell it was in."""
    about = {
        "model": cell.model, "seed": cell.seed, "attack": cell.attack_name, "settings": describe(cell.attack),
        "subset": cell.threat.subset, "eps_audio": cell.threat.audio.eps, "eps_visual": cell.threat.visual.eps,
        "threat": describe(cell.threat), "n": len(rows), "code": cell.code, "world": world,
    }  # fmt: skip
    with draft(cell_folder(out, key), folder=True, locked=True) as part:
        write_json(part / "cell.json", about)
        rows.save(part / "rows.parquet")
