"""`avrobust report`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from avrobust import report
from avrobust.cli.options import parse
from avrobust.papers.tian2021.printed import PAPER

PAPERS = {PAPER.name: PAPER}  # those whose numbers may stand beside a run's
ABOUT = """Rebuild a run's page from its files. Loads no model; a run that is still going gives what it has.

example:
  avrobust report runs/quick
"""


@dataclass(frozen=True)
class Options:
    run: tyro.conf.Positional[Path]
    """The run's folder."""


def main(argv: Sequence[str]) -> None:
    """Parse, write the page, print its path."""
    options = parse(Options, argv, "report", ABOUT)
    print(report.write(options.run, PAPERS))
