"""Which modality carried a joint attack: what is left of it when either half is taken back, and the gradient's share."""

from dataclasses import dataclass

import numpy as np

from avrobust.evaluation.conditions import Budget, Predictions
from avrobust.evaluation.stats import MISSING, Estimate, among, estimate
from avrobust.report.load import Run


@dataclass(frozen=True)
class Row:
    """Of the clips that were right and then `fooled`: shares that one half alone fools, and that take both.

    `slope` is the sound's share of what both budgets promised, by the gradient at all clean clips.
    """

    model: str
    attack: str
    fooled: Estimate
    sound: Estimate
    picture: Estimate
    both: Estimate
    slope: Estimate


@dataclass(frozen=True)
class Table:
    """All joint attacks within one budget."""

    budget: Budget
    rows: tuple[Row, ...]


def tables(run: Run) -> list[Table]:
    """A table per joint budget of Table 1; attacks that left their budget are in it, as it asks where they struck."""
    found, model = [], run.model("AV") or ""
    for budget in dict.fromkeys(level["AV"] for level in run.levels() if "AV" in level):
        rows = [row for attack in run.modes if (row := _row(model, attack, run.attacked(model, attack, "AV", budget)))]
        if rows:
            found.append(Table(budget, tuple(rows)))
    return found


def _row(model: str, attack: str, answers: Predictions | None) -> Row | None:
    if answers is None or np.isnan(answers["right_audio_half"]).any():
        return None
    fooled = answers["correct_clean"] & ~answers["correct"]
    sound, picture = answers["right_audio_half"] == 0, answers["right_visual_half"] == 0
    return Row(
        model,
        attack,
        estimate(fooled),
        among(sound, fooled),
        among(picture, fooled),
        among(~sound & ~picture, fooled),
        _mean(answers["slope_audio"].astype(float)),
    )


def _mean(shares: np.ndarray) -> Estimate:
    known = shares[:, ~np.isnan(shares).any(0)]
    return estimate(known) if known.size else MISSING
