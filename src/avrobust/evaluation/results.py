"""The numbers of rows as plain data, for JSON: what `Rows.table` prints."""

import json
import math
from dataclasses import asdict
from typing import Any

from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate
from avrobust.facts import Budget


def results(rows: Rows) -> dict[str, Any]:
    """By condition what the task measures, robust accuracy and attack success of classes, with counts and 95 % intervals.

    Then the flags.  What there is no number of, a share of no clips for example, is None.

    >>> what = {"model": "m", "seed": 0, "attack": "none", "mode": "corrected", "subset": "clean"} | Budget().columns()
    >>> seen = {"clip": ["a", "b"], "label": [0, 1], "status": "ok", "correct_clean": True, "correct": [True, False]}
    >>> rows = Rows.of(what | seen)
    >>> results(rows)["conditions"][0]["robust_accuracy"]["value"]
    0.5
    """
    conditions = []
    for cell, measured in zip(rows.cells(), rows.numbers, strict=True):
        row = cell.data.slice(0, 1).to_pylist()[0]
        about = {name: row[name] for name in ("model", "seed", "attack", "mode", "subset")}
        numbers = {name.replace(" ", "_"): _plain(number) for name, number in measured.items()}
        budget = Budget.of(row)
        conditions.append(about | {"budget": asdict(budget), "threat": str(budget)} | numbers)
    flags = [asdict(flag) for flag in rows.flags()]
    certified = [
        {
            "model": c.model, "certificate": json.loads(c.told), "accuracy": _plain(c.accuracy()), "abstained": _plain(c.abstained),
            "reach": c.reach.tolist(), "clips": c.here.clips,
            "attacks": [
                {"attack": a.condition.attack, "budget": asdict(a.condition.budget), "distance": a.distance}
                | {"certified": _plain(a.certified), "correct": _plain(a.correct), "broken": a.broken}
                for a in c.attacks
            ],
        }
        for c in rows.certified
    ]  # fmt: skip
    return {"conditions": conditions, "flags": flags} | ({"certified": certified} if certified else {})


def _plain(number: Estimate) -> dict[str, float | int | None]:
    parts = {"value": number.value, "low": number.low, "high": number.high}
    return {name: None if math.isnan(part) else part for name, part in parts.items()} | {"n": number.n}
