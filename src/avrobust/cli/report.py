"""`avrobust report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from avrobust import report
from avrobust.cli.options import Maybe, parse
from avrobust.papers.tian2021.printed import PAPER
from avrobust.report.export import write_tables

PAPERS = {PAPER.name: PAPER}  # those whose numbers may stand beside a run's
ABOUT = """Write the report of a run, or of rows that `avrobust evaluate --out` saved, as one HTML page.

Loads no model. The report of an unfinished run shows what is finished; a missing condition is a dash.

examples:
  avrobust report runs/quick
  avrobust report rows.parquet --out rows.html
  avrobust report runs/quick --tables tables/
"""


@dataclass(frozen=True)
class Options:
    source: tyro.conf.Positional[Path]
    """The run's folder, or a .parquet file of rows."""
    out: Path | None = None
    """The page to write. Default: report.html in the run's folder, or beside the rows with .html as its ending."""
    tables: Maybe[Path] = None
    """Also write every table of the page to this folder, as .csv, .json and .tex (LaTeX with booktabs)."""


def main(argv: Sequence[str]) -> None:
    """Parse, write the page, print its path."""
    options = parse(Options, argv, "report", ABOUT)
    page = options.out
    if page is None and options.source.suffix == ".parquet":
        page = options.source.with_suffix(".html")
    written = report.write(options.source, page, PAPERS)
    print(written)
    if options.tables is not None:
        count = len(write_tables(written.read_text(), options.tables))
        print(f"{count // 3} tables as .csv, .json and .tex: {options.tables}")
