"""How to run it again, and what to cite."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avrobust.config import digest
from avrobust.report.formatting import machine, software
from avrobust.report.record import present
from avrobust.report.run import Run
from avrobust.report.section import Section


def place(path: Path) -> str:
    """A path as one would type it here."""
    absolute, here = path.resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


def facts(run: Run) -> list[tuple[str, str]]:
    """The code and the machines that made the numbers, as (name, text)."""
    record = run.record
    found = [("Code", software(present(record.code)))]
    found += [("Sources", f"{module} sha256 {sha[:16]}") for module, sha in record.sources.items()]
    found += [("Settings", f"sha256 {digest(record.asked)[:16]}")] if record.asked else []
    found += [("Data", f"sha256 {record.data.sha256[:16]}")] if record.data.sha256 else []
    found += [("Machine", text) for world in run.worlds if (text := machine(world))]
    return [(name, text) for name, text in found if text]


def data(run: Run) -> Mapping[str, Any]:
    return {"place": place(run.path) if run.path else "", "facts": facts(run), "result": run.record.command or ""}


SECTION = Section("reproduce", "Reproduce and cite", data)
