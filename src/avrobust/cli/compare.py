"""`avrobust compare`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from avrobust import report
from avrobust.cli.answer import Answer
from avrobust.cli.options import Json, Maybe, parse
from avrobust.cli.places import new_file
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.versus import compare
from avrobust.extras import needs
from avrobust.names import unknown

ABOUT = """Compare two or more models on the same clips: accuracies, paired differences with intervals, exact McNemar tests.

Takes runs (folders that `avrobust evaluate --out` or a study wrote) or .parquet files of rows. Loads no model. Each model is
compared with the first. Clips that not all of them have are left out and counted.

examples:
  avrobust compare runs/late runs/early --html late-or-early.html
  avrobust compare runs/late runs/early runs/film
  avrobust compare runs/quick --models AV MinSim ExFMem
"""


@dataclass(frozen=True)
class Options(Json):
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """The runs or files of rows; a single one is that of all models."""
    models: Annotated[Maybe[tuple[str, ...]], tyro.conf.arg(metavar="MODEL [MODEL ...]")] = None
    """Which model of each run, where a run has several; of a single run, those to compare."""
    html: Maybe[Path] = None
    """Also write an HTML page with figures to this file."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, compare; the answer is the table."""
    options = parse(Options, argv, "compare", ABOUT)
    if options.html is not None:
        new_file(options.html, "--html")
        with needs("report"):
            from avrobust.report import versus_page
    paths = options.runs
    models = options.models or (None,) * len(paths)
    if len(paths) == 1:
        paths *= len(models)
    if len(paths) != len(models):
        raise ValueError(
            f"expected one model of each of the {len(paths)} runs, got {len(models)}. Name them in the order of the runs: --models."
        )
    rows = [chosen(path, model) for path, model in zip(paths, models, strict=True)]
    versus = compare(*rows, names=named(paths, rows))
    text = versus.table()
    if options.html is not None:
        page = versus_page.write(versus, options.html, f"avrobust compare {shlex.join(argv)}")
        text += f"\n\nThe page: {page}"
    return Answer(text, versus, options.json)


def chosen(path: Path, model: str | None) -> Rows:
    """The rows of one model of a run.  Raises `ValueError` where it has several and none is named, or lacks the named one."""
    rows = report.rows_of(path)
    models = list(dict.fromkeys(rows.data["model"].to_pylist()))
    if model is None and len(models) == 1:
        return rows
    if model not in models:
        if model is None:
            raise ValueError(
                f"{path}: expected one model, got {', '.join(models) or 'none'}. Name one of each run: --models."
            )
        raise ValueError(f"{path}: {unknown('a model of this run', model, models)}")
    return rows.where(model=model)


def named(paths: Sequence[Path], rows: Sequence[Rows]) -> tuple[str, ...]:
    """What to call them: by their models, or by their files where two models have one name."""
    models = [own.data["model"][0].as_py() for own in rows]
    return tuple(m if models.count(m) == 1 else str(path) for m, path in zip(models, paths, strict=True))
