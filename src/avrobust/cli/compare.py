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

ABOUT = """Compare two models on the same clips: both accuracies, their paired difference with its interval, exact McNemar tests.

Takes runs (folders that `avrobust evaluate --out` or a study wrote) or .parquet files of rows. Loads no model. Clips that
only one of them has are left out and counted.

examples:
  avrobust compare runs/late runs/early --html late-or-early.html
  avrobust compare runs/quick --models AV MinSim
"""


@dataclass(frozen=True)
class Options(Json):
    first: tyro.conf.Positional[Path]
    """The first run or file of rows."""
    second: tyro.conf.Positional[Path | None] = None
    """The second; default: the same as the first."""
    models: Annotated[Maybe[tuple[str, str]], tyro.conf.arg(metavar="FIRST SECOND")] = None
    """Which model of each, where there are several."""
    html: Maybe[Path] = None
    """Also write an HTML page to this file."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, compare; the answer is the table."""
    options = parse(Options, argv, "compare", ABOUT)
    if options.html is not None:
        new_file(options.html, "--html")
        with needs("report"):
            from avrobust.report import versus_page
    paths = (options.first, options.second or options.first)
    models = options.models or (None, None)
    one, other = (chosen(path, model) for path, model in zip(paths, models, strict=True))
    versus = compare(one, other, named(paths, one, other))
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
                f"{path}: expected one model, got {', '.join(models) or 'none'}. Name one of each run: --models FIRST SECOND."
            )
        raise ValueError(f"{path}: {unknown('a model of this run', model, models)}")
    return rows.where(model=model)


def named(paths: tuple[Path, Path], one: Rows, other: Rows) -> tuple[str, str]:
    """What to call both: by their models, or by their files where the models have one name."""
    models = tuple(rows.data["model"][0].as_py() for rows in (one, other))
    return (models[0], models[1]) if models[0] != models[1] else (str(paths[0]), str(paths[1]))
