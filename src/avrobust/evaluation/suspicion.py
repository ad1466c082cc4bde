"""How well a model tells which modality is attacked, and when to abstain: ROC, confusion, risk by coverage."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float

from avrobust.evaluation.conditions import Condition, Predictions, by_mode, shared, tabulate
from avrobust.evaluation.ranking import (
    Ranked,
    Times,
    area_under_curve,
    area_under_risk_coverage,
    ranked,
    risk_coverage,
    roc,
)
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate, among, resampled

COLUMNS = {"audio": "suspicion_audio", "visual": "suspicion_visual"}  # by modality
CALLED = ("none", "A", "V", "AV")  # which modalities a model takes for attacked
Curve = tuple[np.ndarray, np.ndarray]  # along the axis, and up; (m) each


@dataclass(frozen=True)
class Suspicion:
    """What one model suspects of clips under one condition, clean clips included.

    `auc`: by modality, how often it is suspected more on an attacked clip than on a clean one; missing on clean clips.
    `called`: the share of clips by what the model takes for attacked.  `trusted`: the share of clips of which it suspects
    nothing, `accuracy` the accuracy on these, and `unnoticed` the share of all clips that it gets wrong and trusts.
    `risk`: the area under the risk-coverage curve (AURC, lower is better) of a model that abstains first where its
    "confidence" is low, or its "suspicion" high.  `roc` and `coverage` hold the curves, of the first seed.
    """

    condition: Condition
    auc: Mapping[str, Estimate]
    called: Mapping[str, Estimate]
    accuracy: Estimate
    unnoticed: Estimate
    risk: Mapping[str, Estimate]
    roc: Mapping[str, Curve]
    coverage: Mapping[str, Curve]

    @property
    def trusted(self) -> Estimate:
        """The share of clips of which nothing is suspected."""
        return self.called["none"]


# By what a model abstains: how far it trusts its answers, (seeds, clips).
ABSTAINING: Mapping[str, Callable[[Predictions], np.ndarray]] = {
    "confidence": lambda here: here["confidence"].astype(float),
    "suspicion": lambda here: -np.maximum(*(here[name] for name in COLUMNS.values())),
}


def suspicion(rows: Rows) -> list[Suspicion]:
    """One per model and condition of rows whose models suspect something; see `defenses.Gate` and `defenses.Watch`.

    Each condition is compared with the clean clips of the same model, clip by clip.

    >>> from avrobust.facts import Budget
    >>> about = {"model": "m", "seed": 0, "attack": "none", "subset": "clean", "status": "ok", **Budget().columns()}
    >>> clips = {"clip": ["a", "b", "c", "d"], "correct_clean": True, "correct": [True, True, False, False]}
    >>> rows = Rows.of(about | clips | {"suspicion_audio": [-2.0, -1.0, -1.0, 1.0], "suspicion_visual": -1.0})
    >>> print(suspicion(rows)[0].trusted)
    75.0 % of 4 [30.1, 95.4]
    """
    return suspected(by_mode(tabulate(rows.data))[0])


def suspected(table: Mapping[Condition, Predictions]) -> list[Suspicion]:
    """What `suspicion` gives, of predictions by condition."""
    clean = {c.model: p for c, p in table.items() if c.subset == "clean"}
    known = {c: p for c, p in table.items() if p[COLUMNS["audio"]].size and np.isfinite(p[COLUMNS["audio"]]).all()}
    return [_suspicion(c, p, clean.get(c.model)) for c, p in known.items()]


def _suspicion(condition: Condition, here: Predictions, clean: Predictions | None) -> Suspicion:
    a, v = (here[name] > 0 for name in COLUMNS.values())
    every = np.ones_like(a)
    called = {"none": ~a & ~v, "A": a & ~v, "V": v & ~a, "AV": a & v}
    nothing, missing = called["none"], among(~every, ~every)
    auc, curves = dict.fromkeys(COLUMNS, missing), {}
    if clean is not None and condition.subset != "clean":
        after, before = shared(here, clean)
        pairs = {modality: _against(before[name], after[name]) for modality, name in COLUMNS.items()}
        auc = {modality: _area(every) for modality, every in pairs.items()}
        curves = {modality: roc(every[0]) for modality, every in pairs.items()}
    abstaining = {by: _abstaining(here, by) for by in ABSTAINING}
    return Suspicion(
        condition,
        auc,
        {name: among(which, every) for name, which in called.items()},
        accuracy=among(here["correct"], nothing),
        unnoticed=among(~here["correct"] & nothing, every),
        risk={
            by: resampled([partial(area_under_risk_coverage, clips) for clips in found], a.shape[1])
            for by, found in abstaining.items()
        },
        roc=curves,
        coverage={by: _first(found[0]) for by, found in abstaining.items() if found},
    )


def _abstaining(here: Predictions, by: str) -> list[Ranked]:
    """The clips of each seed from those that are answered first; wrong answers are positive.  None where nothing says so."""
    trust = ABSTAINING[by](here)
    return (
        [ranked(t, ~right) for t, right in zip(trust, here["correct"], strict=True)] if np.isfinite(trust).all() else []
    )


def _first(clips: Ranked) -> Curve:
    coverage, risk = risk_coverage(clips, np.ones((len(clips.order), 1)))
    return coverage[:, 0], risk[:, 0]


def _against(clean: Float[np.ndarray, "s n"], attacked: Float[np.ndarray, "s n"]) -> list[Ranked]:
    """Attacked clips, which are positive, and the same clips when clean; of each seed."""
    n = clean.shape[1]
    positive: Bool[np.ndarray, " m"] = np.arange(2 * n) >= n
    return [ranked(np.concatenate([c, a]), positive) for c, a in zip(clean, attacked, strict=True)]


def _area(every: Sequence[Ranked]) -> Estimate:
    """A clip is drawn with both of its forms."""
    return resampled([partial(_of_pairs, clips) for clips in every], len(every[0].order) // 2)


def _of_pairs(clips: Ranked, times: Times) -> Float[np.ndarray, " draws"]:
    return area_under_curve(clips, np.concatenate([times, times]))
