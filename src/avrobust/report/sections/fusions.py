"""The same encoders with different fusions, under the same attacks."""

from collections.abc import Mapping
from typing import Any

from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.defenses import ModelTable, model_tables


def fusion_tables(run: Run) -> list[ModelTable]:
    """The fusions, under each attack that all of them met; empty where there is one fusion only."""
    fusions = {m: run.about(m).fusion or "" for m in run.fusions}
    printed = run.printed.fusions if run.printed else {}
    return model_tables(run, fusions, {m: printed[fusion] for m, fusion in fusions.items() if fusion in printed})


def data(run: Run) -> Mapping[str, Any] | None:
    found = fusion_tables(run)
    return {"tables": found} if found else None


SECTION = Section("fusions", "Fusions", data)
