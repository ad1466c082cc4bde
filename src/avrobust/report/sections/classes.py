"""Accuracy by class, clean and attacked, and which classes are taken for which."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Predictions
from avrobust.evaluation.stats import MISSING, among, percent
from avrobust.report import table
from avrobust.report.formatting import ATTACKED, WHEN, budgets
from avrobust.report.measured import Measured
from avrobust.report.run import Level, Run
from avrobust.report.section import Section
from avrobust.report.table import Cell, Column, Line, Number, Table, number, share

MOST = 30  # classes whose confusion matrix can still be read; of more, the most frequent confusions
FREQUENT = 12


@dataclass(frozen=True)
class Row:
    """One class: clean accuracy and, by attacked subset, robust accuracy and attack success."""

    name: str
    clean: Measured
    attacked: Mapping[str, Measured]


@dataclass(frozen=True, eq=False)
class Confusions:
    """Predictions under one condition, counted by true class: (k, k), rows are true classes, columns predicted ones.

    `attack` is "" for clean clips; `outside` counts the clips whose prediction is none of the classes.
    """

    subset: str
    attack: str
    counts: np.ndarray
    outside: int

    @property
    def title(self) -> str:
        """What its table is called."""
        return f"{ATTACKED[self.subset]}: {self.attack}" if self.attack else ATTACKED[self.subset]

    def most(self, names: list[str]) -> list[tuple[str, str, int, int]]:
        """The most frequent confusions: true class, predicted class, clips, of all clips of the true class."""
        wrong = self.counts - np.diag(np.diag(self.counts))
        order = np.argsort(-wrong, axis=None, kind="stable")[:FREQUENT]
        places = [divmod(int(i), len(names)) for i in order]
        return [(names[t], names[p], int(wrong[t, p]), int(self.counts[t].sum())) for t, p in places if wrong[t, p]]


def rows(run: Run, level: Level) -> list[Row]:
    """The subject's classes, by what the worst case over attacks leaves."""
    clean, worst = run.clean(run.subject), run.worst_case_at(level)
    if clean is None:
        return []
    numbers = sorted({int(k) for k in clean["label"].flat})
    return [
        Row(_name(run, k), _of_class(clean, k), {s: _of_class(p, k) for s, p in worst.items() if p is not None})
        for k in numbers
    ]


def _of_class(p: Predictions, k: int) -> Measured:
    own = p["label"] == k
    attacked = p.condition.subset != "clean"
    return Measured(
        among(p["correct"], own), success=among(~p["correct"], own & p["correct_clean"]) if attacked else MISSING
    )


def confusions(run: Run, level: Level) -> list[Confusions]:
    """Clean, and by attacked subset under the attack that leaves the fewest clips correct."""
    clean = run.clean(run.subject)
    found = [] if clean is None else [_confusions(run, clean, "")]
    for subset, budget in level.items():
        tried = [(a, p) for a in run.infos if (p := run.attacked(run.subject, a, subset, budget))]
        tried = [(a, p) for a, p in tried if a not in run.over_budget and p["correct"].size]
        if tried:
            attack, strongest = min(tried, key=lambda pair: float(pair[1]["correct"].mean()))
            found.append(_confusions(run, strongest, attack))
    return found


def _confusions(run: Run, p: Predictions, attack: str) -> Confusions:
    k = run.classes
    label, predicted = p["label"].astype(int).ravel(), p["pred"].astype(int).ravel()
    inside = (predicted >= 0) & (predicted < k)
    counts = np.bincount(label[inside] * k + predicted[inside], minlength=k * k).reshape(k, k)
    return Confusions(p.condition.subset, attack, counts, int((~inside).sum()))


def names(run: Run) -> list[str]:
    """The classes, by name where the record has their names."""
    return [_name(run, k) for k in range(run.classes)]


def _name(run: Run, k: int) -> str:
    known = run.record.data.classes
    return known[k] if k < len(known) else str(k)


def single_label(run: Run) -> bool:
    """Whether the clean clips of the subject have one class and one prediction each."""
    clean = run.clean(run.subject)
    if not run.classifies or clean is None or not clean["label"].size:
        return False
    both = clean["label"].astype(float), clean["pred"].astype(float)
    known = not any(np.isnan(values).any() for values in both)
    return bool(known and both[0].min() >= 0 and both[0].max() < run.classes)


def by_class(found: list[Row], level: Level) -> Table:
    """Clean accuracy, robust accuracy and attack success of each class."""
    subsets = [s for s in level if all(s in row.attacked for row in found)]
    heads = [Column(name, ATTACKED[s]) for s in subsets for name in ("robust accuracy", "attack success")]
    body: list[Line] = [
        [
            row.name.replace("_", " "),
            table.accuracy(row.clean),
            *(cell for s in subsets for cell in (share(row.attacked[s].ours), share(row.attacked[s].success))),
        ]
        for row in found
    ]
    return table.table("Accuracy by class", ["Class", "Clean accuracy", *heads], body, above=budgets(level))


def matrix(found: Confusions, names: list[str]) -> Table:
    """True classes by row, predicted classes by column; shaded by the share of the row."""
    called = [name.replace("_", " ") for name in names]
    body: list[Line] = [
        [
            called[i],
            *(
                Cell(str(n or ""), (), Number(float(n)), "right" if i == j else "", float(n / max(row.sum(), 1)))
                for j, n in enumerate(row)
            ),
        ]
        for i, row in enumerate(found.counts)
    ]
    outside = f"{found.outside} predictions are none of these classes, or not finite." if found.outside else ""
    return table.table(found.title, ["", *called], body, below=outside, kind="matrix")


def frequent(found: Confusions, names: list[str]) -> Table:
    """The most frequent confusions, a row each."""
    body: list[Line] = [
        [label.replace("_", " "), predicted.replace("_", " "), number(n, str(n), f"of {total}")]
        for label, predicted, n, total in found.most(names)
    ]
    return table.table(found.title, ["True class", "Predicted class", "Clips"], body)


def _result(found: list[Row]) -> str:
    """The class that loses most, in one line."""
    worst = [(row.attacked[s].ours, s, row.name) for row in found for s in row.attacked if row.attacked[s].ours.n]
    if not worst:
        return ""
    e, subset, name = min(worst, key=lambda w: w[0].value)
    return f"lowest: {name.replace('_', ' ')}, {percent(e.value)} % of {e.n} {WHEN[subset]}"


def data(run: Run) -> Mapping[str, Any] | None:
    if not single_label(run):
        return None
    level = run.levels[-1] if run.levels else {}
    found, whole = rows(run, level), run.classes <= MOST
    shown = [(matrix if whole else frequent)(c, names(run)) for c in confusions(run, level)]
    return {"table": by_class(found, level), "confusions": shown, "matrix": whole, "result": _result(found)}


SECTION = Section("classes", "Accuracy by class", data)
