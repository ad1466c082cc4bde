"""How much of its budget each attack used, measured on the adversarial clips themselves."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.flags import OVER_BUDGET
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.accuracy import AttackTable, attack_tables

# What is measured: the modalities attacked, the one that is looked at, and its distance to the clean signal.
COLUMNS = {
    ("A", "audio"): ("Audio attacked", "snr_db"),
    ("V", "visual"): ("Video attacked", "psnr_db"),
    ("AV", "audio"): ("Both attacked: audio", "snr_db"),
    ("AV", "visual"): ("Both attacked: video", "psnr_db"),
}


@dataclass(frozen=True)
class Use:
    """Shares of one modality's budget that an attack used, over clips (1 is all of it), and decibels.

    `db` is the median over clips of SNR for audio, of PSNR for video; `outside` the share of clips over budget.
    """

    mean: float
    most: float
    outside: float
    db: float


def uses(run: Run, table: AttackTable) -> dict[str, dict[tuple[str, str], Use]]:
    """By attack, then by (subset, modality), on the subject of the run, at the budgets of one table."""
    found: dict[str, dict[tuple[str, str], Use]] = {row.attack: {} for row in table.rows}
    for attack, mine in found.items():
        for (subset, modality), (_, db) in COLUMNS.items():
            budget = table.level.get(subset)
            p = run.attacked(run.subject, attack, subset, budget) if budget else None
            if p is not None and p["correct"].size:
                used = p[f"used_{modality}"]
                use = Use(used.mean(), used.max(), (used > OVER_BUDGET).mean(), float(np.median(p[db])))
                mine[subset, modality] = use
    return found


def data(run: Run) -> Mapping[str, Any] | None:
    found = [(table, uses(run, table)) for table in attack_tables(run)]
    return {"tables": found, "columns": {key: name for key, (name, _) in COLUMNS.items()}} if found else None


SECTION = Section("budget_use", "Budget used by each attack", data)
