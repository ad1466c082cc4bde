"""The numbers of rows as plain data, for JSON: what `Rows.table` prints."""

from dataclasses import asdict
from typing import Any

from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Proportion
from avrobust.facts import Budget


def results(rows: Rows) -> dict[str, Any]:
    """By condition the robust accuracy and the attack success, as shares with counts and 95 % intervals; then the flags.

    A share of no clips is None.

    >>> rows = Rows.of({"model": "m", "attack": "none", "mode": "corrected", "subset": "clean", "clip": ["a", "b"], "label": [0, 1], "status": "ok", "correct_clean": True, "correct": [True, False]})
    >>> results(rows)["conditions"][0]["robust_accuracy"]["value"]
    0.5
    """
    conditions = []
    for cell in rows.cells():
        row = cell.data.slice(0, 1).to_pylist()[0]
        about = {name: row[name] for name in ("model", "seed", "attack", "mode", "subset")}
        numbers = {"robust_accuracy": _plain(cell.accuracy()), "attack_success": _plain(cell.attack_success())}
        conditions.append(about | {"budget": asdict(Budget.of(row))} | numbers)
    return {"conditions": conditions, "flags": [asdict(flag) for flag in rows.flags()]}


def _plain(share: Proportion) -> dict[str, float | int | None]:
    known = share.n > 0
    return {
        "value": share.value if known else None,
        "low": share.low if known else None,
        "high": share.high if known else None,
        "n": share.n,
    }
