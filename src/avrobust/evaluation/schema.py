"""Rows: one line per clip, model, attack and threat; their columns, their file, and the numbers they give."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avrobust.config import from_plain, parse
from avrobust.evaluation.certified import Certified, certified, certified_lines
from avrobust.evaluation.conditions import Condition, Predictions, by_mode, tabulate
from avrobust.evaluation.flags import Evidence, Flag, flags
from avrobust.evaluation.measures import Accuracy, Measures, Numbers
from avrobust.evaluation.stats import MISSING, Estimate, among, columns, estimate
from avrobust.facts import BUDGET_VALUES, Budget

_F, _I, _S, _B, _L = pa.float64(), pa.int64(), pa.string(), pa.bool_(), pa.list_(pa.float32())
SCHEMA = pa.schema(
    {
        # what was tried
        "model": _S, "seed": _I, "attack": _S, "mode": _S, "subset": _S,
        # the budget of each modality; see `facts.ModalityBudget`.  `threat` is for display
        "norm_audio": _S, "eps_audio": _F, "unit_audio": _S, "norm_visual": _S, "eps_visual": _F, "unit_visual": _S, "threat": _S,
        # what is known of the attack; see `attacks.base.AttackInfo`
        "family": _S, "steps": _I, "restarts": _I, "objective": _S, "on_answer": _B, "source": _S, "variant": _S, "search": _S,
        "crafted_by": _S, "channel": _S, "adaptive": _B,
        # the clip and its predictions; status is "ok", or the reason why there is no prediction
        "clip": _S, "label": _I, "status": _S,
        "pred_clean": _I, "pred": _I, "margin_clean": _F, "margin": _F, "correct_clean": _B, "correct": _B,
        # whether the logits are finite; otherwise there is no prediction: `pred` is -1, and counts as misclassified.  Of a
        # smoothed model, whether they are on all copies; the others vote for no class
        "finite": _B,
        # the size of the perturbation: see `distortion`
        "linf_audio": _F, "linf_visual": _F, "l2_audio": _F, "l2_visual": _F,
        "used_audio": _F, "used_visual": _F, "snr_db": _F, "psnr_db": _F,
        # joint attacks: whether the prediction is correct with the audio perturbation alone, and with the visual one
        # alone; the audio's share of what both budgets could add to the margin of the clean clip, to first order
        "right_audio_half": _F, "right_visual_half": _F, "slope_audio": _F,
        # how well an attention map finds the sound source; see `localisation.Localisation`
        "pointing": _F, "mass": _F, "iou": _F, "rival_mass": _F, "peak": _F, "heat_moved": _F,
        # of tasks that are measured by more than one class per clip: what the model answers, and what would be right; see
        # `measures`.  `label` and the predictions are then missing where the task has no classes
        "scores": _L, "targets": _L,
        # of corruptions, which have no budget: see `facts.AttackInfo`
        "strength": _F,
        # which modality a model takes for attacked, above 0; see `suspicion`
        "suspicion_audio": _F, "suspicion_visual": _F,
        # the largest probability that a classifier gives to a class
        "confidence": _F,
        # the budgets as they were typed, for display; missing where they were computed
        "typed_audio": _S, "typed_visual": _S,
        # of smoothed models: the certificate as plain data (JSON), the votes of the predicted class and of the label among
        # so many draws; of clean clips, the lower bound of the predicted class's probability and the distance below which it
        # is certified; of attacked ones, how far they are: see `certificates.Certificate`
        "certificate": _S, "draws": _I, "votes": _I, "votes_label": _I, "p_low": _F, "reach": _F, "distance": _F,
        # how audible and how visible the perturbation is: see `perception`; audio only where the sampling rate is known
        "segsnr_db": _F, "mask_db": _F, "nmr_db": _F, "ssim": _F, "delta_e": _F,
    }
)  # fmt: skip

# Of the columns and their meaning: a file of another version is refused.
VERSION = 2
# The keys of a file's metadata: of `Rows.about`, and of the version.
ABOUT, SCHEMA_VERSION = b"avrobust", b"avrobust.schema"

# The columns that every row has, those that every prediction has, and those that some rows leave out.
ALWAYS = (
    "model", "seed", "attack", "mode", "subset", *BUDGET_VALUES, "threat", "clip", "status",
)  # fmt: skip
PREDICTED = ("correct_clean", "correct")
OPTIONAL = SCHEMA.names[SCHEMA.names.index("psnr_db") + 1 :]


def _family(kind: pa.DataType) -> str:
    """Types that hold the same values."""
    families = {
        "whole numbers": pa.types.is_integer,
        "numbers": pa.types.is_floating,
        "True or False": pa.types.is_boolean,
        "lists of numbers": pa.types.is_list,
    }
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return "text" if text else next((name for name, fits in families.items() if fits(kind)), str(kind))


@dataclass(frozen=True)
class _About:
    """`Rows.about`, as a file may state it."""

    classes: dict[str, int] = field(default_factory=dict)
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)
    memories: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Rows:
    """A table with one line per clip, model, attack and threat; `data` is an Arrow table of `SCHEMA`.

    `about` is what the evaluation knows about the models: by model, `classes`, how many it has, `probes`, the answers to
    `probe.probe`, `memories`, how its memory codes features, and `measures`, what its task measures, as plain data; of a run,
    `cells`, see `Evidence`.

    >>> what = {"model": "m", "seed": 0, "attack": "PGD", "subset": "A", "status": "ok"} | Budget().columns()
    >>> seen = {"clip": ["a", "b", "c"], "correct_clean": [True, True, False], "correct": [True, False, False]}
    >>> rows = Rows.of(what | seen)
    >>> print(rows.accuracy())
    33.3 % of 3 [6.1, 79.2]
    >>> print(rows.attack_success())
    50.0 % of 2 [9.5, 90.5]
    """

    data: pa.Table
    about: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "Rows":
        """From one value or one sequence per column; a column that is not given is null."""
        n = max(len(v) for v in columns.values() if _many(v))
        full = {}
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True):
            v = columns.get(name)
            full[name] = pa.array(v if _many(v) else [v] * n, kind, from_pandas=False)
        return cls(pa.table(full, schema=SCHEMA))

    @classmethod
    def load(cls, path: Path) -> "Rows":
        """From a Parquet file written by `save`.

        Raises `ValueError` that names the file and the column where one is not there, or is of another type; what only
        some rows measure may be left out.
        """
        try:
            there = pq.read_schema(path)
        except pa.ArrowInvalid as error:
            raise ValueError(
                f"{path}: expected rows in a Parquet file, got something else: {error}. Evaluate again."
            ) from error
        for name, kind in zip(SCHEMA.names, SCHEMA.types, strict=True):
            found = there.field(name).type if name in there.names else None
            if found is None and name in OPTIONAL:
                continue
            if found is None or _family(found) != _family(kind):
                raise ValueError(
                    f"{path}: expected a column '{name}' of {kind}, got {'none' if found is None else found}. "
                    "Another version, or another program, wrote it: evaluate again."
                )
        metadata = there.metadata or {}
        try:
            about = parse(_About, json.loads(metadata.get(ABOUT, b"{}")), extra="ignore", finite=False)
        except ValueError as error:
            raise ValueError(f"{path}: expected facts by model beside its rows, {error}. Evaluate again.") from None
        if (version := metadata.get(SCHEMA_VERSION, str(VERSION).encode()).decode()) != str(VERSION):
            raise ValueError(f"{path}: expected rows of schema version {VERSION}, got {version}. Evaluate again.")
        return cls(pq.read_table(path, schema=SCHEMA), {key: told for key, told in vars(about).items() if told})

    def check(self) -> None:
        """Raise `ValueError` where a row lacks what every row has, or an answer lacks whether it is right."""
        answered = self.data.filter(pc.equal(self.data["status"], "ok"))
        for data, names in ((self.data, ALWAYS), (answered, PREDICTED)):
            for name in names:
                if missing := data[name].null_count:
                    raise ValueError(f"expected a value for '{name}' in each row, got none in {missing}")
        if odd := set(self.data["subset"].unique().to_pylist()) - {"clean", "A", "V", "AV"}:
            raise ValueError(f"expected subsets clean, A, V and AV, got {sorted(odd)}")

    def save(self, path: Path) -> None:
        """To a Parquet file, which pandas, polars and DuckDB open."""
        metadata = {ABOUT: json.dumps(dict(self.about)).encode(), SCHEMA_VERSION: str(VERSION).encode()}
        pq.write_table(self.data.replace_schema_metadata(metadata), path)

    @classmethod
    def concat(cls, parts: Sequence["Rows"], about: Mapping[str, Any] | None = None) -> "Rows":
        """All rows, in order, with what is known about their models: `about`, else all that the parts know."""
        data = pa.concat_tables([p.data for p in parts]) if parts else SCHEMA.empty_table()
        if about is None:
            keys = {key for part in parts for key in part.about}
            about = {key: {m: v for part in parts for m, v in part.about.get(key, {}).items()} for key in sorted(keys)}
        return cls(data, about)

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def column(self, name: str) -> np.ndarray:
        """One column as a NumPy array; missing numbers are nan.  Raises `ValueError` for a column that rows do not have."""
        values: np.ndarray = self.data[_known(name)].to_numpy(zero_copy_only=False)
        return values

    def where(self, **equal: object) -> "Rows":
        """The rows whose columns have these values; None is a value that is missing.

        Raises `ValueError` for a column that rows do not have, and for a value of another type than the column's.
        """
        data = self.data
        for name, wanted in equal.items():
            kind = SCHEMA.field(_known(name)).type
            try:
                value = pa.scalar(wanted, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(
                    f"the column '{name}' holds {_family(kind)}, got {wanted!r}. Give one of its values, as in "
                    f"rows.column('{name}')."
                ) from error
            data = data.filter(pc.is_null(data[name]) if wanted is None else pc.equal(data[name], value))
        return Rows(data, self.about)

    def accuracy(self) -> Estimate:
        """The share of readable clips that are classified correctly: of attacked clips, the robust accuracy.

        Over several seeds, their mean, with `stats.estimate`.  Raises `ValueError` for rows of several models, attacks, subsets
        or budgets.
        """
        return estimate(self._one_condition()["correct"]) if len(self) else MISSING

    def attack_success(self) -> Estimate:
        """The attack success rate: of the clips that are classified correctly when clean, the share that the attack turns wrong.

        Over several seeds its count is of clips in all of them, its interval of clips: see `stats.among`.  Raises `ValueError` for rows of several models, attacks, subsets or budgets.
        """
        if not len(self):
            return MISSING
        found = self._one_condition()
        return among(~found["correct"], of=found["correct_clean"])

    def _one_condition(self) -> Predictions:
        every = tabulate(self.data)
        if len(every) > 1:
            kinds = {f.name: dict.fromkeys(str(getattr(c, f.name)) for c in every) for f in fields(Condition)}
            differ = "; ".join(f"{name}: {' | '.join(of)}" for name, of in kinds.items() if len(of) > 1)
            raise ValueError(
                f"expected rows of one model, attack, subset and budget, got several ({differ}). Choose one, "
                "rows.where(attack='PGD-10', subset='AV'), or go through rows.cells()."
            )
        (found,) = every.values()
        return found

    def measures(self, model: str) -> Measures:
        """What the task of a model measures: accuracy, unless it says otherwise.

        Raises `ValueError` for measures that this package does not have and the program has not imported.

        >>> Rows.concat([]).measures("model")
        Accuracy()
        """
        told = self.about.get("measures", {}).get(model)
        try:
            return Accuracy() if told is None else cast(Measures, from_plain(told, Measures))
        except ValueError as error:
            raise ValueError(
                f"expected rows of {model} that say what they measure, {error}. Import the module of its task first."
            ) from None

    @cached_property
    def _measured(self) -> tuple[Predictions, ...]:
        """For each of `cells`, its predictions."""
        return tuple(next(iter(tabulate(cell.data).values())) for cell in self.cells())

    @cached_property
    def numbers(self) -> tuple[Numbers, ...]:
        """For each of `cells`, what the task of its model measures, by name.

        >>> what = {"model": "m", "seed": 0, "attack": "PGD", "mode": "corrected", "subset": "A"} | Budget().columns()
        >>> seen = {"clip": ["a", "b"], "status": "ok", "correct_clean": [True, True], "correct": [True, False]}
        >>> rows = Rows.of(what | seen)
        >>> print(rows.numbers[0]["robust accuracy"])
        50.0 % of 2 [9.5, 90.5]
        """
        found = self._measured
        clean = {(p.condition.model, p.seeds): p for p in found if p.condition.subset == "clean"}
        return tuple(
            self.measures(p.condition.model).numbers(p, clean.get((p.condition.model, p.seeds))) for p in found
        )

    def cells(self) -> list["Rows"]:
        """Split by model, seed, attack and threat, in the order in which they first appear."""
        keys, data = ("model", "seed", "attack", "subset", *BUDGET_VALUES), self.data.combine_chunks()
        places: dict[tuple[object, ...], list[int]] = {}
        for i, values in enumerate(zip(*(data[k].to_pylist() for k in keys), strict=True)):
            places.setdefault(values, []).append(i)
        return [Rows(data.take(rows), self.about) for rows in places.values()]

    @property
    def certified(self) -> list[Certified]:
        """What certificates among the rows guarantee of each model, beside attacks on the smoothed ones.

        >>> Rows.concat([]).certified
        []
        """
        table, apart = by_mode(tabulate(self.data))
        return certified(apart["smoothed"], table)

    def table(self) -> str:
        """Robust accuracy and attack success per model, attack and budget, as text; then what raises doubt.

        Of other tasks than classification, what these measure.  Each number has its count and 95 % interval.  The accuracy
        under the attack "none" is the clean accuracy.  Alarms mean that a number does not measure what it seems to, warnings
        that it may not: see `flags`.
        """
        notes = dict.fromkeys(note for p in self._measured for note in self.measures(p.condition.model).notes(p))
        return "\n".join(
            [
                *self.lines(self.numbers),
                *certified_lines(self.certified),
                *notes,
                *(f"{f.level}: {f.text}" for f in self.flags() if f.level != "note"),
            ]
        )

    def lines(self, numbers: Sequence[Numbers]) -> list[str]:
        """A table, as lines, of some numbers of each of `cells`: per model, attack on it, and budget."""
        names = list(dict.fromkeys(name for each in numbers for name in each))
        seeds = ["seed"] if len(self.data["seed"].unique()) > 1 else []
        told = [("model", *seeds, "attack", "budget", *names)]
        for cell, each in zip(self.cells(), numbers, strict=True):
            row = cell.data.slice(0, 1).to_pylist()[0]
            if row["mode"] not in ("control", "smoothed"):  # what no attack made, or no attack on the model itself
                said = (str(row[name]) for name in ("model", *seeds, "attack"))
                told.append((*said, Budget.of(row).attacked, *(str(each.get(name, MISSING)) for name in names)))
        return columns(told)

    def report(self, page: Path | str) -> Path:
        """Write all that these rows can show as one self-contained HTML page: flags, tables, curves; returns its path."""
        from avrobust import report  # built on rows, so imported when it is called

        return report.write(self, page)

    def flags(self) -> tuple[Flag, ...]:
        """What raises doubt in these rows, gravest first; docs/flags.md has a section on each.

        >>> Rows.concat([]).flags()
        ()
        """
        return self._flags

    @cached_property
    def _flags(self) -> tuple[Flag, ...]:
        if not len(self):
            return ()
        table, apart = by_mode(tabulate(self.data))
        classes: Mapping[str, int] = self.about.get("classes", {})
        labels = self.column("label").astype(float)
        seen = max(classes.values(), default=0) or int(1 + np.nanmax(labels, initial=-1))
        measures = {model: self.measures(model) for model in self.about.get("measures", {})}
        probes = self.about.get("probes", {})
        return flags(
            Evidence(
                table,
                seen,
                apart["control"],
                probes,
                classes_of=classes,
                measures=measures,
                smoothed=apart["smoothed"],
                cells=self.about.get("cells", {}),
            )
        )


def _known(name: str) -> str:
    if name not in SCHEMA.names:
        raise ValueError(f"rows have the columns {', '.join(SCHEMA.names)}, got '{name}'. Ask for one of them.")
    return name


def _many(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
