"""The same encoders with different fusions, under the same attacks."""

from collections.abc import Mapping
from typing import Any

from avrobust.report.formatting import listing
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.defenses import ModelTable, model_tables, under_attack


def fusion_tables(run: Run) -> list[ModelTable]:
    """The fusions, under each attack that all of them met; empty where there is one fusion only."""
    fusions = {m: run.about(m).fusion or "" for m in run.fusions}
    printed = run.printed.fusions if run.printed else {}
    return model_tables(run, fusions, {m: printed[fusion] for m, fusion in fusions.items() if fusion in printed})


def data(run: Run) -> Mapping[str, Any] | None:
    found = fusion_tables(run)
    if not found:
        return None
    result = f"{len(found[0].rows)} fusions under {listing([t.attack for t in found])}"
    return {"tables": [under_attack(t, "Avg with clean") for t in found], "result": result}


SECTION = Section("fusions", "Fusions", data)
