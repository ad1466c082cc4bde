"""How to run it again, and what to cite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avrobust.report.run import Run
from avrobust.report.section import Section


def place(path: Path) -> str:
    """A path as one would type it here."""
    absolute, here = path.resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def data(run: Run) -> Mapping[str, Any]:
    return {"place": place(run.path) if run.path else ""}


SECTION = Section("reproduce", "Reproduce and cite", data)
