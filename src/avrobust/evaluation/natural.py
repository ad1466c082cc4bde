"""How robust models are to natural corruptions and missing modalities: summaries with intervals over clips and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Condition, Predictions, by_mode, shared, tabulate
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate, bootstrap, estimate
from avrobust.seeds import stable_hash

Table = Mapping[Condition, Predictions]


@dataclass(frozen=True)
class NaturalRobustness:
    """One model with its audio ("A"), video ("V") or both ("AV") corrupted; all numbers are shares, not percentages.

    `accuracy` is the mean over all corruptions, `by_kind` and `by_severity` over those of one kind, or severity.
    `relative` is `accuracy` over `clean`.  Beside a baseline model: `mce`, the mean over kinds of this model's error over the
    baseline's, both summed over severities (Hendrycks & Dietterich 2019; below 1 is better), and `effective`, how much less
    accuracy it loses than the baseline loses, in points of accuracy; None without a baseline.
    """

    model: str
    subset: str
    clean: Estimate
    accuracy: Estimate
    relative: Estimate
    by_kind: Mapping[str, Estimate]
    by_severity: Mapping[int, Estimate]
    mce: Estimate | None = None
    effective: Estimate | None = None


@dataclass(frozen=True)
class MissingRobustness:
    """One model on clips that miss a part of their audio ("A"), video ("V") or both ("AV").

    `what` is "missing", a whole modality of a share of the clips, or "gap", a stretch of every clip; `apart`: each modality
    has its own gap.  `by_share` is the accuracy by that share, from 0 to 1.
    """

    model: str
    subset: str
    what: str
    apart: bool
    clean: Estimate
    by_share: Mapping[float, Estimate]


def natural_robustness(rows: Rows, baseline: str | None = None) -> list[NaturalRobustness]:
    """A summary per model and modality of `rows`, which `evaluate(model, batches, corruptions(), ANYTHING)` gives.

    `baseline` names the model that others are compared with, on the same clips.  Intervals are of a paired bootstrap over
    clips, and over seeds.  Raises `ValueError` where a model lacks a corruption that another has: their means would not be
    of the same.

    >>> import torch
    >>> from avrobust import AV, Batch, evaluate
    >>> from avrobust.attacks import ANYTHING
    >>> from avrobust.corruptions import corruptions
    >>> x = AV(audio=torch.full((4, 400), 0.01), visual=torch.full((4, 1, 3, 8, 8), 0.5))
    >>> model = lambda x: torch.stack([x.audio.square().mean(1), torch.full((len(x.audio),), 0.001)], 1)
    >>> rows = evaluate(model, Batch(x, torch.tensor([1, 1, 1, 1])), corruptions(["gaussian"], [1, 5]), ANYTHING.only("A"))
    >>> natural_robustness(rows)[0].accuracy.value
    1.0
    """
    table, apart = by_mode(tabulate(rows.data))
    found = apart["corruption"]
    for subset in dict.fromkeys(c.subset for c in found):
        mine = {
            m: set(corrupted(found, m, subset)) for m in dict.fromkeys(c.model for c in found if c.subset == subset)
        }
        every = set.union(*mine.values())
        for model, own in mine.items():
            if lacks := sorted(f"{kind} {severity}" for kind, severity in every - own):
                raise ValueError(
                    f"expected rows of {model} under every corruption on {subset}, got none for {', '.join(lacks)}. "
                    "Evaluate it under all of them, or leave these out."
                )
    models = {c.model for c in table}
    if baseline is not None and baseline not in models:
        raise ValueError(f"baseline should be one of the models {', '.join(sorted(models))}, got {baseline!r}.")
    return summaries(table, found, baseline)


def corrupted(found: Table, model: str, subset: str) -> dict[tuple[str, int], Predictions]:
    """The predictions of one model with these modalities corrupted, by kind and severity."""
    own = [p for c, p in found.items() if (c.model, c.subset) == (model, subset)]
    return {(p.info.family, int(p.info.strength)): p for p in own}


def summaries(table: Table, found: Table, baseline: str | None = None) -> list[NaturalRobustness]:
    """What `natural_robustness` gives, of predictions on clean clips in `table` and on corrupted ones in `found`.

    A model is compared with the baseline where both have met the same corruptions.
    """
    clean = {c.model: p for c, p in table.items() if c.subset == "clean"}
    made = []
    for model, subset in dict.fromkeys((c.model, c.subset) for c in found):
        own, base = (corrupted(found, m, subset) if m else {} for m in (model, baseline))
        if model not in clean or not own:
            continue
        beside = [clean[baseline], *(base[key] for key in own)] if baseline in clean and set(base) == set(own) else []
        cut = shared(clean[model], *own.values(), *beside)
        correct = np.stack([p["correct"] for p in cut], -1)
        made.append(_summary(model, subset, correct, list(own), compared=bool(beside)))
    return made


def _summary(
    model: str, subset: str, correct: Any, kinds: Sequence[tuple[str, int]], compared: bool
) -> NaturalRobustness:
    many = len(kinds)
    of_kind = {kind: [i for i, (k, _) in enumerate(kinds) if k == kind] for kind, _ in kinds}
    of_severity = {s: [i for i, (_, other) in enumerate(kinds) if other == s] for s in sorted({s for _, s in kinds})}
    seed = stable_hash("natural", model, subset)

    def mean(on: Sequence[int]) -> Estimate:
        return estimate(correct[..., 1:][..., on].mean(-1))

    def lost(clean: Any, acc: Sequence[Any]) -> Any:
        return clean - sum(acc) / many

    def mce(clean: Any, *acc: Any) -> Any:
        own, base = acc[:many], acc[many + 1 :]
        ratios = [_ratio(sum(1 - own[i] for i in on), sum(1 - base[i] for i in on)) for on in of_kind.values()]
        return sum(ratios) / len(ratios)

    def effective(clean: Any, *acc: Any) -> Any:
        return lost(acc[many], acc[many + 1 :]) - lost(clean, acc[:many])

    def relative(clean: Any, *acc: Any) -> Any:
        return _ratio(clean - lost(clean, acc[:many]), clean)

    return NaturalRobustness(
        model,
        subset,
        clean=estimate(correct[..., 0]),
        accuracy=mean(range(many)),
        relative=bootstrap(correct, relative, seed=seed),
        by_kind={kind: mean(on) for kind, on in of_kind.items()},
        by_severity={severity: mean(on) for severity, on in of_severity.items()},
        mce=bootstrap(correct, mce, seed=seed) if compared else None,
        effective=bootstrap(correct, effective, seed=seed) if compared else None,
    )


def missing_robustness(rows: Rows) -> list[MissingRobustness]:
    """Accuracy by the share that is missing, per model and modality; `rows` are of `Missing` and `Gap` inside `ANYTHING`.

    >>> import torch
    >>> from avrobust import AV, Batch, evaluate
    >>> from avrobust.attacks import ANYTHING
    >>> from avrobust.corruptions import Missing
    >>> x = AV(audio=torch.full((4, 400), 0.01), visual=torch.full((4, 1, 3, 8, 8), 0.5))
    >>> model = lambda x: torch.stack([x.audio.mean(1), torch.full((len(x.audio),), 0.001)], 1)
    >>> rows = evaluate(model, Batch(x, torch.tensor([0, 0, 0, 0])), [Missing(0.0), Missing(1.0)], ANYTHING.only("A"))
    >>> {share: found.value for share, found in missing_robustness(rows)[0].by_share.items()}
    {0.0: 1.0, 1.0: 0.0}
    """
    table, apart = by_mode(tabulate(rows.data))
    return missing(table, apart["missing"])


def missing(table: Table, found: Table) -> list[MissingRobustness]:
    """What `missing_robustness` gives, of predictions on clean clips in `table` and on those of `found`."""
    clean = {c.model: p for c, p in table.items() if c.subset == "clean"}
    made = []
    for key in dict.fromkeys((c.model, c.subset, p.info.family, p.info.variant) for c, p in found.items()):
        own = [p for c, p in found.items() if (c.model, c.subset, p.info.family, p.info.variant) == key]
        if key[0] in clean:
            whole, *cut = shared(clean[key[0]], *sorted(own, key=lambda p: p.info.strength))
            by_share = {p.info.strength: estimate(p["correct"].astype(float)) for p in cut}
            model, subset, what, variant = key
            made.append(
                MissingRobustness(
                    model, subset, what, bool(variant), estimate(whole["correct"].astype(float)), by_share
                )
            )
    return made


def _ratio(a: Any, b: Any) -> Any:
    """a / b; nan where b is 0, which says nothing."""
    b = np.where(np.asarray(b) == 0, np.nan, b)
    return a / b
