"""What a paper has printed, as a value that stands beside a run's own numbers.  Which papers there are is not known here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from avrobust.facts import Budget, ModalityBudget


@dataclass(frozen=True)
class Row:
    """One row of a table, in per cent: accuracy with both modalities clean, then with A, V, AV attacked."""

    clean: float
    a: float
    v: float
    av: float
    avg: float
    ri: float = float("nan")


Trained = tuple[str, str, str]  # a model by its modalities, its loss and its feature defense ("" without one)


@dataclass(frozen=True)
class Printed:
    """A paper's numbers on one dataset: of `classes` classes, tested on so many clips.

    `unimodal` are the clean accuracies of (audio, visual).  The rows stand under what they are about: `attacks` by
    the family of the attack, `fusions` by the fusion, `defenses` by how the model was trained.
    """

    classes: int
    test_clips: int
    unimodal: tuple[float, float]
    attacks: Mapping[str, Row] = field(default_factory=dict)
    fusions: Mapping[str, Row] = field(default_factory=dict)
    defenses: Mapping[Trained, Row] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, eq=False)
class Paper:
    """A paper: its (audio, visual) budgets by subset, numbers by dataset, evidence by claim, and claims of its own.

    A claim is a function of a run and the budgets of a table, see `report.claims`: `claims` at those of the tables of
    attacks, `defense_claims` at those of the tables of defenses.  `notes` say, by section of the page, what the paper
    has there.  A paper without budgets attacks nothing, or prints none.
    """

    name: str
    citation: str
    eps_attack: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    eps_defense: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    printed: Mapping[str, Printed] = field(default_factory=dict)
    said: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Callable[[Any, Any], Any], ...] = ()
    defense_claims: tuple[Callable[[Any, Any], Any], ...] = ()


def same_budgets(level: Mapping[str, Budget], eps: Mapping[str, tuple[float, float]]) -> bool:
    """Whether these budgets by subset are a paper's, units included: linf, pixels normalised."""
    theirs = {s: Budget(_linf(audio, "linear"), _linf(visual, "normalised")) for s, (audio, visual) in eps.items()}
    return all(budget == theirs.get(s) for s, budget in level.items())


def _linf(eps: float, unit: str) -> ModalityBudget:
    return ModalityBudget(eps, "linf", unit) if eps else ModalityBudget()
