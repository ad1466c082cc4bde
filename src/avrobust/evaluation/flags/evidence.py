"""What flags are computed from, and what their rules share."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from avrobust.evaluation.comparison import Paired, holm, paired
from avrobust.evaluation.conditions import Condition, Predictions, shared
from avrobust.evaluation.measures import Accuracy, Measures
from avrobust.evaluation.stats import estimate, percent

ACCURACY = Accuracy()
Table = Mapping[Condition, Predictions]
Level = Literal["note", "warning", "alarm"]
LEVELS: tuple[Level, ...] = ("alarm", "warning", "note")  # gravest first
SIGNIFICANT = 0.05
ENOUGH = 0.05  # of the clips, without a gradient or unchanged
MODALITIES = {"A": "audio", "V": "visual"}


@dataclass(frozen=True)
class Flag:
    """One thing a reader should know before believing the numbers; `name` is its heading in docs/flags.md.

    `model` is the one that it is about, "" where it is about the study.
    """

    name: str
    level: Level
    text: str
    model: str = ""


@dataclass(frozen=True)
class Evidence:
    """Predictions on clean and attacked clips, and how many `classes` there are, which sets what guessing gives.

    `controls` are predictions on clips that no attack made; `baselines` the scores of answers that ignore the clip, see
    `localisation.baselines`.  By model: `probes`, the answers to `probe.probe`; `kinds`, its input, "AV", "A" or "V";
    `classes_of`, its number of classes where that is known; `measures`, what its task measures where that is not accuracy.
    `smoothed` are predictions of smoothed models; `cells` says of a run how many were "asked" for and how many are "finished".
    """

    table: Table
    classes: int
    controls: Table = field(default_factory=dict)
    probes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    classes_of: Mapping[str, int] = field(default_factory=dict)
    measures: Mapping[str, Measures] = field(default_factory=dict)
    smoothed: Table = field(default_factory=dict)
    cells: Mapping[str, int] = field(default_factory=dict)

    @property
    def every(self) -> Table:
        """Predictions of models and of smoothed models."""
        return {**self.table, **self.smoothed}

    def model_of(self, condition: Condition) -> str:
        """The model that predictions are of: a smoothed model is another one than the model."""
        return f"{condition.model}, {condition.attack}" if condition in self.smoothed else condition.model

    def measured(self, model: str) -> Measures:
        """What the task of a model measures."""
        return self.measures.get(model, ACCURACY)

    def chance(self, model: str) -> float:
        """The accuracy of guessing; nan where there are no classes to guess among."""
        classes = self.classes_of.get(model, self.classes)
        return 1 / classes if self.measured(model).chance and classes else math.nan

    def surviving(self, model: str) -> str:
        """What the share of correct clips under attack is called."""
        return self.measured(model).surviving

    def accuracy(self, condition: Condition) -> str:
        """In per cent."""
        return f"{percent(estimate(self.table[condition]['correct']).value)} %"

    def same_task(self, when: Callable[[Predictions, Predictions], bool]) -> list[tuple[Condition, Condition]]:
        """Pairs of attacks on one model inside one budget, both as `when` says."""
        return [
            (one, other)
            for one, a in self.table.items()
            for other, b in self.table.items()
            if (one.model, one.subset, one.budget) == (other.model, other.subset, other.budget) and when(a, b)
        ]

    def stronger(
        self, pairs: Iterable[tuple[Condition, Condition]], least: float = 0.0
    ) -> list[tuple[Condition, Condition, Paired]]:
        """The pairs whose first attack leaves significantly fewer clips correct, by more than `least`; all pairs considered."""
        pairs = list(pairs)
        results = []
        for first, second in pairs:
            a, b = shared(self.table[first], self.table[second])
            results.append(paired(b["correct"], a["correct"]))
        adjusted = holm([r.p if r.n else 1.0 for r in results])
        return [
            (*pair, r)
            for pair, r, p in zip(pairs, results, adjusted, strict=True)
            if p < SIGNIFICANT and r.difference > least
        ]

    def input_of(self, model: str) -> str:
        """The modalities of a model's input: as stated, else those attacked, AV if both were at once or none was."""
        if model in self.kinds:
            return self.kinds[model]
        subsets = {c.subset for c in self.table if c.model == model} - {"clean"}
        return "AV" if "AV" in subsets or len(subsets) > 1 else next(iter(subsets), "AV")

    def ignores(self, model: str, modality: str) -> bool:
        """Whether a probe found that a model does not use a modality."""
        return bool(self.probes.get(model, {}).get("ignores", {}).get(modality))


def budget(c: Condition) -> str:
    """The budgets of the attacked modalities."""
    parts = {"A": c.budget.audio, "V": c.budget.visual}
    return " and ".join(str(parts[letter]) for letter in c.subset)


def where(c: Condition) -> str:
    """What was attacked, and inside which budget."""
    attacked = " and ".join(MODALITIES[letter] for letter in c.subset)
    return f"{c.model}, {attacked} attacked within {budget(c)}"
