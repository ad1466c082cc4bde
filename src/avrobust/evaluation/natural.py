"""How robust models are to natural corruptions: summaries over kinds and severities, with intervals over clips and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.corruptions import Corruption
from avrobust.evaluation.conditions import Predictions, shared, tabulate
from avrobust.evaluation.schema import Rows
from avrobust.evaluation.stats import Estimate, bootstrap
from avrobust.seeds import stable_hash


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


def natural_robustness(
    rows: Rows, corruptions: Sequence[Corruption], baseline: str | None = None
) -> list[NaturalRobustness]:
    """A summary per model and modality of `rows`, which `evaluate(model, batches, corruptions, ANYTHING)` gives.

    `baseline` names the model that others are compared with, on the same clips.  Intervals are of a paired bootstrap over
    clips, and over seeds.  Raises `ValueError` where a model lacks a corruption: a mean over others would be no mean of these.

    >>> import torch
    >>> from avrobust import AV, Batch, evaluate
    >>> from avrobust.attacks import ANYTHING
    >>> from avrobust.corruptions import corruptions
    >>> x = AV(audio=torch.full((4, 400), 0.01), visual=torch.full((4, 1, 3, 8, 8), 0.5))
    >>> model = lambda x: torch.stack([x.audio.square().mean(1), torch.full((len(x.audio),), 0.001)], 1)
    >>> asked = corruptions(["gaussian"], [1, 5])
    >>> rows = evaluate(model, Batch(x, torch.tensor([1, 1, 1, 1])), asked, ANYTHING.only("A"))
    >>> natural_robustness(rows, asked)[0].accuracy.value
    1.0
    """
    table = tabulate(rows.data)
    clean = {c.model: p for c, p in table.items() if c.subset == "clean"}
    found = {(c.model, c.subset, c.attack): p for c, p in table.items() if p.mode == "corruption"}
    if baseline is not None and baseline not in clean:
        raise ValueError(f"baseline should be one of the models {', '.join(sorted(clean))}, got {baseline!r}.")
    summaries = []
    for model, subset in dict.fromkeys((model, subset) for model, subset, _ in found):
        own = _all(found, model, subset, corruptions)
        base = [] if baseline is None else [clean[baseline], *_all(found, baseline, subset, corruptions)]
        cut = shared(clean[model], *own, *base)
        correct = np.stack([p["correct"] for p in cut], -1)
        summaries.append(_summary(model, subset, correct, corruptions, compared=bool(base)))
    return summaries


def _all(
    found: Mapping[tuple[str, str, str], Predictions], model: str, subset: str, corruptions: Sequence[Corruption]
) -> list[Predictions]:
    missing = [c.name for c in corruptions if (model, subset, c.name) not in found]
    if missing or not corruptions:
        raise ValueError(
            f"expected rows of {model} under every corruption on {subset}, got none for {', '.join(missing) or 'any'}. "
            "Evaluate it under all of them, or leave these out."
        )
    return [found[model, subset, c.name] for c in corruptions]


def _summary(
    model: str, subset: str, correct: Any, corruptions: Sequence[Corruption], compared: bool
) -> NaturalRobustness:
    many = len(corruptions)
    kinds = dict.fromkeys(c.kind for c in corruptions)
    severities = sorted({c.severity for c in corruptions})
    of_kind = {kind: [i for i, c in enumerate(corruptions) if c.kind == kind] for kind in kinds}
    of_severity = {s: [i for i, c in enumerate(corruptions) if c.severity == s] for s in severities}
    seed = stable_hash("natural", model, subset)

    def mean(on: Sequence[int]) -> Estimate:
        return bootstrap(correct, lambda clean, *acc: sum(acc[i] for i in on) / len(on), seed=seed)

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
        clean=bootstrap(correct, lambda clean, *acc: clean, seed=seed),
        accuracy=mean(range(many)),
        relative=bootstrap(correct, relative, seed=seed),
        by_kind={kind: mean(on) for kind, on in of_kind.items()},
        by_severity={severity: mean(on) for severity, on in of_severity.items()},
        mce=bootstrap(correct, mce, seed=seed) if compared else None,
        effective=bootstrap(correct, effective, seed=seed) if compared else None,
    )


def _ratio(a: Any, b: Any) -> Any:
    """a / b; nan where b is 0, which says nothing."""
    b = np.where(np.asarray(b) == 0, np.nan, b)
    return a / b
