"""Rows: one line per clip × model × attack × threat, and their file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avrobust.evaluation.metrics import Proportion

_F, _I, _S, _B = pa.float64(), pa.int64(), pa.string(), pa.bool_()
SCHEMA = pa.schema(
    {
        # what was tried
        "model": _S, "seed": _I, "attack": _S, "mode": _S, "subset": _S, "eps_audio": _F, "eps_visual": _F, "threat": _S,
        # on which clip, and what came of it; status is "ok" or the reason why there is no prediction
        "clip": _S, "label": _I, "status": _S,
        "pred_clean": _I, "pred": _I, "margin_clean": _F, "margin": _F, "correct_clean": _B, "correct": _B,
        # how far the attack went: raw units, share of the budget (nan without one), and what is left of the signal
        "linf_audio": _F, "linf_visual": _F, "l2_audio": _F, "l2_visual": _F,
        "used_audio": _F, "used_visual": _F, "snr_db": _F, "psnr_db": _F,
        # attacks on both: whether it is right with the sound's half alone, and with the picture's; the sound's share of
        # what both budgets could add to the margin of the clean clip, to first order
        "right_audio_half": _F, "right_visual_half": _F, "slope_audio": _F,
        # where a model that points at places looked; see `localisation.Localisation`
        "pointing": _F, "mass": _F, "iou": _F, "rival_mass": _F, "peak": _F, "heat_moved": _F,
    }
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Rows:
    """A table with one line per clip × model × attack × threat; `data` is an Arrow table of `SCHEMA`."""

    data: pa.Table

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
        """From a Parquet file written by `save`."""
        return cls(pq.read_table(path, schema=SCHEMA))

    def save(self, path: Path) -> None:
        """To a Parquet file, which pandas, polars and DuckDB open."""
        pq.write_table(self.data, path)

    @classmethod
    def concat(cls, parts: Sequence["Rows"]) -> "Rows":
        """All rows, in order."""
        return cls(pa.concat_tables([p.data for p in parts]) if parts else SCHEMA.empty_table())

    def __len__(self) -> int:
        return int(self.data.num_rows)

    def column(self, name: str) -> np.ndarray:
        """One column as numpy; missing numbers are nan."""
        values: np.ndarray = self.data[name].to_numpy(zero_copy_only=False)
        return values

    def where(self, **equal: object) -> "Rows":
        """The rows whose columns have these values."""
        data = self.data
        for name, wanted in equal.items():
            data = data.filter(pc.equal(data[name], pa.scalar(wanted, SCHEMA.field(name).type)))
        return Rows(data)

    def accuracy(self) -> Proportion:
        """The share of readable clips that are still classified right."""
        ok = self.where(status="ok")
        return Proportion(int(ok.column("correct").sum()), len(ok))

    def cells(self) -> list["Rows"]:
        """Split by model, seed, attack and threat, in the order in which they first appear."""
        keys = ("model", "seed", "attack", "subset", "eps_audio", "eps_visual", "threat")
        order = dict.fromkeys(zip(*(self.data[k].to_pylist() for k in keys), strict=True))
        return [self.where(**dict(zip(keys, values, strict=True))) for values in order]

    def table(self) -> str:
        """Accuracy per model, attack and threat, as text, each with its count and 95 % interval."""
        lines = [("model", "attack", "on", "budget", "accuracy")]
        for cell in self.cells():
            row = cell.data.slice(0, 1).to_pylist()[0]
            lines.append((row["model"], row["attack"], row["subset"], row["threat"], str(cell.accuracy())))
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        return "\n".join("  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def _many(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
