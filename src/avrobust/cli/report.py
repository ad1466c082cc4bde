"""`avrobust report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from avrobust import report
from avrobust.cli.answer import Answer
from avrobust.cli.options import Json, Maybe, parse
from avrobust.cli.places import folder
from avrobust.cli.studies import PAPERS
from avrobust.extras import needs

ABOUT = """Write the report of a run, or of rows that `avrobust evaluate --out` saved, as one HTML page.

Loads no model. The report of an unfinished run shows what is finished and how much is missing.

examples:
  avrobust report runs/quick
  avrobust report rows.parquet --html rows.html
  avrobust report runs/quick --tables tables/
  avrobust report runs/quick --figures figures/ --columns 2
"""


@dataclass(frozen=True)
class Options(Json):
    source: tyro.conf.Positional[Path]
    """The run's folder, or a .parquet file of rows."""
    html: Maybe[Path] = None
    """The page to write. Default: report.html in the run's folder, or beside the rows with .html as its ending."""
    tables: Maybe[Path] = None
    """Also write every table of the page to this folder, as .csv, .json and .tex (LaTeX with booktabs)."""
    figures: Maybe[Path] = None
    """Also write every figure of the page to this folder: vector .pdf, .svg, its caption as .tex, its numbers as .csv."""
    columns: Literal[1, 2] = 1
    """Width of the figures: one column of a paper (3.25 in) or both (6.875 in)."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, write the page; the answer is its path."""
    options = parse(Options, argv, "report", ABOUT)
    with needs("report"):
        from avrobust.report.export import write_figures, write_tables
    page, rows, there = options.html, options.source.suffix == ".parquet", options.source.exists()
    if not there or not (rows or options.source.is_dir()):
        raise ValueError(
            f"{options.source}: expected a run's folder or a .parquet file of rows, got {'another file' if there else 'none'}. Check the path."
        )
    if page is None:
        page = options.source.with_suffix(".html") if rows else options.source / "report.html"
    folder(page.parent, "--html")
    if options.tables is not None:
        folder(options.tables, "--tables")
    if options.figures is not None:
        folder(options.figures, "--figures")
    written = report.write(options.source, page, PAPERS)
    text, told = str(written), {"page": written}
    if options.tables is not None:
        count = len(write_tables(written.read_text(), options.tables))
        text += f"\n{count // 3} tables as .csv, .json and .tex: {options.tables}"
        told["tables"] = options.tables
    if options.figures is not None:
        drawn = report.figures_of(options.source, PAPERS)
        write_figures(drawn, options.figures, options.columns)
        text += f"\n{len(drawn)} figures as .pdf and .svg: {options.figures}"
        told["figures"] = options.figures
    return Answer(text, told, options.json)
