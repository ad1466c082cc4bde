"""Rows by condition: for each model, attack and budget, one table of (seeds, clips) per column.

Knows the columns of rows; knows no statistics.  A clip that could not be read is not in the tables, but is counted among
the listed clips.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from avrobust.facts import BUDGET_COLUMNS, BUDGET_VALUES, AttackInfo, Budget

# The modes of rows that are no attack's on the model itself: they stand in no table of attacks.
NO_ATTACK = ("control", "sent", "corruption", "missing", "smoothed")
UNKNOWN = AttackInfo()  # clean clips, and attacks of which nothing is known


@dataclass(frozen=True, order=True)
class Condition:
    """What was done: which model, attacked how, on which modalities, with what budget."""

    model: str
    attack: str
    subset: str
    budget: Budget


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions under one condition: (seeds, clips) per column, for the clips read with every seed.

    `listed` counts all clips of the evaluation, readable or not.
    """

    condition: Condition
    mode: str
    seeds: tuple[int, ...]
    clips: tuple[str, ...]
    listed: int
    columns: Mapping[str, np.ndarray]
    info: AttackInfo = UNKNOWN

    def __getitem__(self, column: str) -> np.ndarray:
        return self.columns[column]

    def subset(self, seeds: Iterable[int], clips: Iterable[str]) -> "Predictions":
        """The same, for some seeds and clips, in the order given."""
        seeds, clips = tuple(seeds), tuple(clips)
        place = {name: i for i, name in enumerate(self.clips)}
        index = np.ix_([self.seeds.index(s) for s in seeds], [place[c] for c in clips])
        columns = {name: values[index] for name, values in self.columns.items()}
        return replace(self, seeds=seeds, clips=clips, columns=columns)


def tabulate(rows: pa.Table) -> dict[Condition, Predictions]:
    """All rows of a study, by condition, in sorted order.

    Raises `ValueError` when a clip has two rows under one condition and seed, and for rows that do not say theirs.
    """
    columns: dict[str, np.ndarray] = {
        name: np.array(rows[name].to_pylist())
        if pa.types.is_string(rows.schema.field(name).type)
        else rows[name].to_numpy(zero_copy_only=False)
        for name in rows.column_names
    }
    place: dict[tuple[Any, ...], dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    names = ("model", "attack", "subset", *BUDGET_VALUES)
    if lacks := [name for name in ("seed", *names) if rows[name].null_count]:
        raise ValueError(
            f"expected rows that say their {', '.join(lacks)}, got rows without. Give each a seed, an attack and a subset of "
            "modalities, and Budget(...).columns() of facts."
        )
    keys = zip(*(rows[name].to_pylist() for name in names), strict=True)
    for i, (key, seed, clip) in enumerate(zip(keys, columns["seed"], columns["clip"], strict=True)):
        if clip in (seen := place[key][int(seed)]):
            within = rows["threat"][i]
            raise ValueError(
                f"expected one row per clip, got two for '{clip}' of {key[0]} under {key[1]} ({within}, seed {seed}). "
                "Give two attacks different names; delete cells of an earlier training."
            )
        seen[str(clip)] = i
    found = {Condition(key[0], key[1], key[2], _budget(rows, by_seed)): by_seed for key, by_seed in place.items()}
    return {condition: _predictions(condition, found[condition], columns) for condition in sorted(found)}


def _budget(rows: pa.Table, by_seed: Mapping[int, Mapping[str, int]]) -> Budget:
    """The budget of a condition, as its first row writes it."""
    first = next(iter(next(iter(by_seed.values())).values()))
    return Budget.of({name: rows[name][first].as_py() for name in BUDGET_COLUMNS if name in rows.column_names})


def _predictions(condition: Condition, place: dict[int, dict[str, int]], columns: dict[str, np.ndarray]) -> Predictions:
    seeds = tuple(sorted(place))
    listed = set.union(*(set(place[s]) for s in seeds))
    ok = columns["status"] == "ok"
    clips = tuple(sorted(c for c in listed if all(c in place[s] and ok[place[s][c]] for s in seeds)))
    index = np.array([[place[s][c] for c in clips] for s in seeds], dtype=int).reshape(len(seeds), len(clips))
    first = next(iter(place[seeds[0]].values()))
    tables = {name: values[index] for name, values in columns.items()}
    tables["finite"] = np.not_equal(tables["finite"], False).astype(bool)  # unless it is said otherwise
    for name in ("correct", "correct_clean"):
        tables[name] = tables[name].astype(bool)  # a column with unread clips arrives with nulls in it
    info = AttackInfo(**{f.name: _fact(columns[f.name][first], f.default) for f in fields(AttackInfo)})
    return Predictions(condition, str(columns["mode"][first]), seeds, clips, len(listed), tables, info)


def _fact(value: Any, missing: Any) -> Any:
    """One value of a column as what its default is; rows of clean clips have none."""
    return missing if value is None or value != value else type(missing)(value)


def by_mode(
    every: Mapping[Condition, Predictions],
) -> tuple[dict[Condition, Predictions], dict[str, dict[Condition, Predictions]]]:
    """The predictions on clean and attacked clips; and, for each mode in `NO_ATTACK`, those on its clips."""
    apart = {mode: {c: p for c, p in every.items() if p.mode == mode} for mode in NO_ATTACK}
    return {c: p for c, p in every.items() if p.mode not in NO_ATTACK}, apart


def shared(*every: Predictions) -> tuple[Predictions, ...]:
    """The same predictions, cut to the seeds and clips that all of them have."""
    seeds = [s for s in every[0].seeds if all(s in a.seeds for a in every)]
    clips = sorted(set.intersection(*(set(a.clips) for a in every)))
    return tuple(a.subset(seeds, clips) for a in every)


def survivors(every: Sequence[Predictions]) -> Predictions:
    """Correct where all of them are correct: the worst case over attacks on one model."""
    same = shared(*every)
    columns = dict(same[0].columns) | {"correct": np.logical_and.reduce([p["correct"] for p in same])}
    return replace(same[0], columns=columns)


def curves(conditions: Iterable[Condition]) -> list[tuple[Condition, ...]]:
    """Attacked conditions that differ by their budget only, each list from its smallest budget on."""
    found: dict[tuple[object, ...], list[Condition]] = defaultdict(list)
    for c in sorted(conditions):
        if c.subset != "clean":
            found[c.model, c.attack, c.subset, c.budget.kind].append(c)
    return [tuple(curve) for curve in found.values()]
