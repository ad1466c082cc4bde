"""Which modality contributes to a joint attack: what each half of it does alone, and the gradient's share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Predictions
from avrobust.evaluation.stats import MISSING, Estimate, among, estimate, percent
from avrobust.facts import Budget
from avrobust.report.formatting import at
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.table import share, table


@dataclass(frozen=True)
class Row:
    """Of the clips that were correct and then `fooled`: shares that one half alone fools, and that take both.

    `slope` is audio's share of what both budgets can add to the margin, by the gradient at all clean clips.
    """

    model: str
    attack: str
    fooled: Estimate
    audio: Estimate
    visual: Estimate
    both: Estimate
    slope: Estimate


def tables(run: Run) -> dict[Budget, list[Row]]:
    """The joint attacks by their budget; those that exceeded it are among them, as this asks where they struck."""
    model = run.model("AV") or ""
    found = {}
    for budget in dict.fromkeys(level["AV"] for level in run.levels if "AV" in level):
        rows = (_row(model, attack, run.attacked(model, attack, "AV", budget)) for attack in run.infos)
        found[budget] = [row for row in rows if row]
    return {budget: rows for budget, rows in found.items() if rows}


def _row(model: str, attack: str, predictions: Predictions | None) -> Row | None:
    if predictions is None or np.isnan(predictions["right_audio_half"]).any():
        return None
    fooled = predictions["correct_clean"] & ~predictions["correct"]
    audio, visual = predictions["right_audio_half"] == 0, predictions["right_visual_half"] == 0
    return Row(
        model,
        attack,
        estimate(fooled),
        among(audio, fooled),
        among(visual, fooled),
        among(~audio & ~visual, fooled),
        _mean(predictions["slope_audio"].astype(float)),
    )


def _mean(shares: np.ndarray) -> Estimate:
    known = shares[:, ~np.isnan(shares).any(0)]
    return estimate(known) if known.size else MISSING


def data(run: Run) -> Mapping[str, Any] | None:
    found = tables(run)
    if not found:
        return None
    heads = [
        "Attack",
        "Fooled, %",
        "By audio alone, %",
        "By visual alone, %",
        "Only by both, %",
        "Audio's share of the gradient, %",
    ]
    shown = [
        table(
            f"Contribution of each modality at {at('AV', budget)}",
            heads,
            [[r.attack, *map(share, (r.fooled, r.audio, r.visual, r.both, r.slope))] for r in rows],
            above=f"Both attacked on {rows[0].model}, perturbation budgets {at('AV', budget)}.",
        )
        for budget, rows in found.items()
    ]
    last = max([*found.values()][-1], key=lambda row: row.fooled.value)
    result = f"of the clips that {last.attack} fools, audio alone fools {percent(last.audio.value)} %, visual alone {percent(last.visual.value)} %"
    return {"tables": shown, "result": result if last.audio.n else ""}


SECTION = Section("attribution", "Contribution of each modality", data)
