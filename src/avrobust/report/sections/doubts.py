"""What raises doubt: flags, clips that could not be read, models or attacks that failed, machines that differ."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from avrobust.evaluation.flags import Flag
from avrobust.report import worlds
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import table


def alike(raised: Sequence[Flag]) -> list[tuple[Flag, list[Flag]]]:
    """Flags of one name, the first of them to stand for the others: nine models may ignore the same modality."""
    groups = [list(g) for _, g in groupby(raised, key=lambda flag: (flag.level, flag.name))]
    return [(first, more) for first, *more in groups]


def notes(run: Run) -> list[str]:
    """A sentence per split with unreadable clips, per model or attack that failed, and about machines and versions."""
    found = []
    for split, (readable, listed) in run.record.data.counts.items():
        if readable < listed:
            found.append(f"{listed - readable} of {listed} {split} clips could not be read: counted {readable}.")
    for f in run.missing:
        found.append(f"Missing: {f.model} (seed {f.seed}), {f.doing}, which failed: {f.error}")
    if aside := run.record.set_aside:
        versions = sorted({cell.code.get("avrobust", "of another version") for cell in aside.values()})
        found.append(
            f"{len(aside)} finished cells of other code, weights or clips ({', '.join(versions)}) are kept in "
            "cells_of_other_versions and not counted here."
        )
    return [*found, *filter(None, [worlds.apart(*run.worlds)])]


def data(run: Run) -> Mapping[str, Any] | None:
    failures = run.record.data.failures
    unread = table("Unreadable clips", ["Clip", "File", "Reason"], [(f.id, f.file, f.reason) for f in failures])
    found = {"flags": alike(run.flags), "notes": notes(run), "unread": unread if failures else None}
    return found if any(found.values()) else None


SECTION = Section("doubts", "What raises doubt", data, folds=False)
