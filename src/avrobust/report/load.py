"""A run's folder, a Parquet file of rows, or rows in memory → `Run`.  Computes nothing again."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa

from avrobust.config import brief, parse
from avrobust.evaluation.conditions import by_mode, tabulate
from avrobust.evaluation.schema import Rows
from avrobust.report import record
from avrobust.report.paper import Paper
from avrobust.report.record import RunRecord, present
from avrobust.report.run import Run

SAVED = "Give a file that Rows.save wrote."
NO_PAPERS: Mapping[str, Paper] = MappingProxyType({})


class RunError(ValueError):
    """A folder that is not a run, or a run whose files cannot be read."""


def read(source: Path | str | Rows, papers: Mapping[str, Paper] = NO_PAPERS) -> Run:
    """What a page is made of: from a run's folder, from a Parquet file that `Rows.save` wrote, or from rows in memory.

    Of a folder, cells without a finished rows.parquet are left out.  `papers` are those that may stand beside a run,
    by name; its record says which one does.  Raises `RunError` when there is no run or a file is damaged.
    """
    if isinstance(source, Rows):
        return _of_rows(source)
    path = Path(source)
    if path.suffix == ".parquet":
        rows = _load(path, advice=SAVED)
        try:
            return _of_rows(rows)
        except ValueError as e:
            raise RunError(f"{path}: {e}") from None
    about = _record(path)
    try:
        return replace(_run(_cells(path, about), about), path=path, paper=papers.get(about.paper or ""))
    except RunError:
        raise
    except ValueError as e:
        raise RunError(f"{path / 'cells'}: {e}") from None


def rows_of(source: Path | str) -> Rows:
    """All rows of a run's folder, or of a Parquet file that `Rows.save` wrote, with what is known of their models.

    Raises `RunError` when there is no run or a file is damaged.
    """
    path = Path(source)
    if path.suffix == ".parquet":
        return _load(path, advice=SAVED)
    about = _record(path)
    known = {name: model for name, model in about.models.items() if model.probe}
    classes = dict.fromkeys(known, len(about.data.classes))
    rows = _cells(path, about)
    told = {"classes": classes, "probes": {name: present(m.probe) for name, m in known.items()}}
    return replace(rows, about={**rows.about, **told})


def _record(path: Path) -> RunRecord:
    try:
        return record.read(path / "run.json")[0]
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path}: expected a run directory, found no run.json. Pass the folder that a study or `avrobust evaluate` "
            "wrote, or a .parquet file of rows."
        ) from None
    except ValueError as e:
        raise RunError(f"{e}. Put back the file that the study wrote, or run the study in another folder.") from None


def _cells(path: Path, about: RunRecord) -> Rows:
    files = sorted(path.glob("cells/[!.]*/rows.parquet"))  # a leading dot: still being written
    rows = Rows.concat([_load(file, about.data.classes) for file in files])
    cells = {} if about.cells is None else {"cells": {"asked": about.cells, "finished": len(files)}}
    return replace(rows, about={**rows.about, **cells})


def _of_rows(rows: Rows) -> Run:
    """Rows of a user's own: what the harness found about their models is their record."""
    probes, models = rows.about.get("probes", {}), {}
    for name in dict.fromkeys(rows.data["model"].to_pylist()):
        localises = bool((rows.where(model=name).column("peak") >= 0).any())  # it gave maps of where it looks
        models[name] = {"localises": localises} | ({"probe": probes[name]} if name in probes else {})
    return _run(rows, parse(RunRecord, {"models": models}, extra="ignore", finite=False))


def _run(rows: Rows, about: RunRecord) -> Run:
    table, apart = by_mode(tabulate(rows.data))
    outputs = max(rows.about.get("classes", {}).values(), default=0)
    measures = {model: rows.measures(model) for model in rows.about.get("measures", {})}
    return Run(
        about, table, apart["control"], apart["sent"], apart["corruption"], apart["missing"], apart["smoothed"],
        outputs=outputs, measures=measures, cells=rows.about.get("cells", {}),
    )  # fmt: skip


def _load(
    file: Path, classes: Sequence[str] = (), advice: str = "Delete this cell's folder and run the study again."
) -> Rows:
    try:
        rows = Rows.load(file)
    except (pa.ArrowException, OSError) as e:
        raise RunError(f"{file}: expected rows as Parquet, {brief(e, 400)}. {advice}") from None
    except ValueError as e:  # names the file
        raise RunError(f"{brief(e, 400)} {advice}") from None
    try:
        rows.check()
        labels = rows.data["label"].drop_null().to_numpy()
        if classes and len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
            raise ValueError(
                f"expected labels of {len(classes)} classes, got labels from {labels.min()} to {labels.max()}"
            )
    except ValueError as e:
        raise RunError(f"{file}: {brief(e, 400)}. {advice}") from None
    return rows
