"""`avrobust report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from avrobust import report
from avrobust.cli.answer import Answer
from avrobust.cli.options import Json, Maybe, parse
from avrobust.cli.places import folder
from avrobust.cli.studies import PAPERS
from avrobust.report.export import write_tables

ABOUT = """Write the report of a run, or of rows that `avrobust evaluate --out` saved, as one HTML page.

Loads no model. The report of an unfinished run shows what is finished; a missing condition is a dash.

examples:
  avrobust report runs/quick
  avrobust report rows.parquet --html rows.html
  avrobust report runs/quick --tables tables/
"""


@dataclass(frozen=True)
class Options(Json):
    source: tyro.conf.Positional[Path]
    """The run's folder, or a .parquet file of rows."""
    html: Maybe[Path] = None
    """The page to write. Default: report.html in the run's folder, or beside the rows with .html as its ending."""
    tables: Maybe[Path] = None
    """Also write every table of the page to this folder, as .csv, .json and .tex (LaTeX with booktabs)."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, write the page; the answer is its path."""
    options = parse(Options, argv, "report", ABOUT)
    page = options.html
    if page is None:
        rows = options.source.suffix == ".parquet"
        page = options.source.with_suffix(".html") if rows else options.source / "report.html"
    if not options.source.exists():
        raise ValueError(f"{options.source}: expected a run or a file of rows, got none. Check the path.")
    folder(page.parent, "--html")
    if options.tables is not None:
        folder(options.tables, "--tables")
    written = report.write(options.source, page, PAPERS)
    text, told = str(written), {"page": written}
    if options.tables is not None:
        count = len(write_tables(written.read_text(), options.tables))
        text += f"\n{count // 3} tables as .csv, .json and .tex: {options.tables}"
        told["tables"] = options.tables
    return Answer(text, told, options.json)
