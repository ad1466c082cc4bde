"""A run directory → `Run`: what was asked, and every answer by condition.  Files only; nothing is computed again."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from avrobust.config import brief
from avrobust.evaluation.conditions import Budget, Condition, Predictions, curves, shared, tabulate
from avrobust.evaluation.flags import OVER_BUDGET, Evidence, Flag, flags
from avrobust.evaluation.schema import Rows
from avrobust.facts import AttackInfo
from avrobust.report import model_info
from avrobust.report.paper import Paper, Printed

SUBSETS = ("A", "V", "AV")
Level = Mapping[str, Budget]  # the budgets of one table: what stands under A, V and AV


class RunError(ValueError):
    """A folder that is not a run, or a run whose files cannot be read."""


@dataclass(frozen=True, eq=False)
class Run:
    """A study as its files tell it: `about` is run.json, `table` every answer by condition.

    `controls` are the answers to clips that no attacker made: another clip's sound, silence.  `sent` are those to
    clips that were stored or sent, attacked or not: nothing keeps them inside a budget.  `beside` is the paper that the
    study repeats.
    """

    path: Path
    about: Mapping[str, Any]
    table: Mapping[Condition, Predictions]
    controls: Mapping[Condition, Predictions] = field(default_factory=dict)
    sent: Mapping[Condition, Predictions] = field(default_factory=dict)
    beside: Paper | None = None

    @property
    def title(self) -> str:
        return str(self.about.get("title") or self.about.get("name") or self.path.name)

    @property
    def data(self) -> Mapping[str, Any]:
        return self.about.get("data") or {}

    @property
    def worlds(self) -> list[Mapping[str, Any]]:
        """The machines that computed it, as `study.record.world` tells of them: one for each that gives other numbers."""
        return list((self.about.get("worlds") or {"": self.about.get("world") or {}}).values())

    @property
    def benchmark(self) -> str | None:
        """The paper's dataset that this run is on: a fact that the study states, refused where the classes are others.

        None: another dataset or task, beside which the paper's numbers say nothing.
        """
        name = self.about.get("benchmark")
        printed = self.beside.printed.get(name) if self.beside and name else None
        return name if printed and printed.classes == self.classes else None

    @property
    def printed(self) -> Printed | None:
        """The paper's numbers on the dataset of this run."""
        return self.beside.printed[self.benchmark] if self.beside and self.benchmark else None

    @property
    def missing(self) -> list[Mapping[str, Any]]:
        """What failed and was left out: its `model`, `seed`, what was being done (`doing`), the `error` and its `log`."""
        return [told for told in (self.about.get("failures") or {}).values() if told]

    @property
    def classes(self) -> int:
        """How many classes there are; from the labels that occur when run.json does not say."""
        named = len(self.data.get("classes") or ())
        return named or 1 + max((int(a["label"].max()) for a in self.table.values() if a["label"].size), default=1)

    @property
    def chance(self) -> float:
        return 1 / self.classes

    def flags(self) -> tuple[Flag, ...]:
        models = self.about.get("models") or {}
        probes = {name: told["probe"] for name, told in models.items() if "probe" in told}
        kinds = {name: str(told["kind"]) for name, told in models.items() if "kind" in told}
        return flags(
            Evidence(self.table, self.classes, self.controls, probes, kinds, self.about.get("baselines") or {})
        )

    def told(self, model: str) -> Mapping[str, Any]:
        """What run.json says of a model."""
        return (self.about.get("models") or {}).get(model) or {}

    def kind(self, model: str) -> str:
        """What a model perceives: "AV", "A" or "V"; from run.json, else from its name, else AV."""
        return str(self.told(model).get("kind") or (model if model in SUBSETS else "AV"))

    def fusions(self) -> list[str]:
        """The models that differ from the first audio-visual one by their fusion only."""
        return [m for m in self._integrating() if not self._defended(m)]

    def defenses(self) -> list[str]:
        """The first audio-visual model, and those that are trained otherwise than it."""
        return [m for m in self._integrating() if m == self.model("AV") or self._defended(m)]

    def pointing(self) -> list[str]:
        """The audio-visual models that look at places of the picture."""
        return [m for m in self.models("AV") if self._points(m)]

    def soundless(self) -> str | None:
        """A model that looks at places and was trained without sound."""
        return next((m for m in self.models("V") if self._points(m)), None)

    def role(self, role: Literal["baseline", "full_defense"]) -> str | None:
        """The model that has this role in the study."""
        return next((m for m, told in (self.about.get("models") or {}).items() if told.get("role") == role), None)

    def _integrating(self) -> list[str]:
        return [m for m in self.models("AV") if not self._points(m)]

    def _points(self, model: str) -> bool:
        return bool(self.told(model).get("localises"))

    def _defended(self, model: str) -> bool:
        told = self.told(model)
        return bool(
            told.get("feature_defense") or told.get("start") or told.get("loss", "cross_entropy") != "cross_entropy"
        )

    def models(self, kind: str) -> list[str]:
        """Models of a kind, the first trained first."""
        order = list(self.about.get("models") or {})
        present = {c.model for c in self.table if self.kind(c.model) == kind}
        return sorted(present, key=lambda m: (order.index(m) if m in order else len(order), m))

    def model(self, kind: str) -> str | None:
        """The model that stands for its kind: the first of them, though it may have no answers yet."""
        told = [m for m in self.about.get("models") or {} if self.kind(m) == kind]
        return next(iter(told or self.models(kind)), None)

    @cached_property
    def modes(self) -> Mapping[str, str]:
        """By attack, "corrected" or "published"; in the order of a table: FGSM, PGD, MIM, then what was published."""
        modes = {c.attack: a.mode for c, a in self.table.items() if c.subset != "clean"}
        order = {"FGSM": 0, "PGD": 1, "MIM": 2}
        names = sorted(modes, key=lambda a: (modes[a] == "published", order.get(self.method(a), 3), a))
        return {name: modes[name] for name in names}

    @cached_property
    def infos(self) -> Mapping[str, AttackInfo]:
        """What is known of each attack, by its name."""
        return {c.attack: a.info for c, a in self.table.items() if c.subset != "clean"}

    def method(self, attack: str) -> str:
        """The search that an attack is, on the model at hand: "PGD", say; "" for somebody else's, whatever its name."""
        info = self.infos[attack]
        return "" if info.source or info.variant else info.family

    def usual(self, attack: str) -> bool:
        """Whether an attack raises the loss that is usual for it; somebody else's has no other."""
        info = self.infos[attack]
        return not info.family or info.objective in ("", "margin" if info.family == "Square" else "cross_entropy")

    @cached_property
    def outside(self) -> frozenset[str]:
        """Attacks that left their budget on any clip."""
        used = ("used_audio", "used_visual")
        return frozenset(c.attack for c, a in self.table.items() if any((a[u] > OVER_BUDGET).any() for u in used))

    def clean(self, model: str | None) -> Predictions | None:
        """The model's answers to clean clips."""
        return next((a for c, a in self.table.items() if c.model == model and c.subset == "clean"), None)

    def attacked(self, model: str | None, attack: str, subset: str, budget: Budget) -> Predictions | None:
        """The model's answers when `subset` is attacked.  A unimodal model is looked up by its modality's budget."""
        if model is None:
            return None
        for c, a in self.table.items():
            if (c.model, c.attack, c.subset) == (model, attack, subset):
                same = c.budget.audio == budget.audio or subset == "V"
                if same and (c.budget.visual == budget.visual or subset == "A"):
                    return a
        return None

    def curves(self, model: str, subset: str) -> dict[str, tuple[Condition, ...]]:
        """By attack, the conditions of the longest curve over budgets: at least three of them."""
        found: dict[str, tuple[Condition, ...]] = {}
        for curve in curves(c for c in self.table if (c.model, c.subset) == (model, subset)):
            rising = self._rising(curve) if subset == "AV" else curve
            if len(rising) >= max(3, 1 + len(found.get(curve[0].attack, ()))):
                found[curve[0].attack] = rising
        return {attack: found[attack] for attack in self.modes if attack in found}

    def _rising(self, curve: Sequence[Condition]) -> tuple[Condition, ...]:
        """The joint budgets along which both halves grow: among equal sounds, a picture also tried alone comes first."""
        alone = {c.budget.visual for c in self.table if c.subset == "V" and c.model == self.model("V")}
        chain: list[Condition] = []
        for c in sorted(curve, key=lambda c: (c.budget.eps_audio, c.budget.visual not in alone, c.budget)):
            last = chain[-1].budget if chain else None
            if last is None or (c.budget.eps_audio > last.eps_audio and c.budget.eps_visual > last.eps_visual):
                chain.append(c)
        return tuple(chain)

    def levels(self) -> list[Level]:
        """The budgets of the tables, as run.json names them: `"tables": [{"A": [eps_audio, eps_visual], ...}, ...]`.

        Where it does not: those at which every attack ran (published modes aside), smallest first, at most two
        sets; a subset with one such budget has it in both, and of more than two the middle one speaks for all.
        """
        if told := self.about.get("tables"):
            return self._found(told)
        model = self.model("AV")
        ran = {s: Counter(self._budgets(model, s)) for s in SUBSETS}
        most = {s: sorted(b for b, k in ran[s].items() if k == max(ran[s].values())) for s in SUBSETS}
        count = max(len(b) for b in most.values())
        if count > 2:
            most, count = {s: b[len(b) // 2 :][:1] for s, b in most.items()}, 1
        return [{s: b[min(i, len(b) - 1)] for s, b in most.items() if b} for i in range(count)]

    def defense_levels(self) -> list[Level]:
        """The budgets of the tables of fusions and defenses: `"defenses"` of run.json, else those of `levels`."""
        return self._found(self.about["defenses"]) if self.about.get("defenses") else self.levels()

    def _found(self, told: Sequence[Mapping[str, Sequence[float]]]) -> list[Level]:
        """Of the budgets that run.json names, those that the first audio-visual model met."""
        by_eps = {s: {(b.eps_audio, b.eps_visual): b for b in self._budgets(self.model("AV"), s)} for s in SUBSETS}
        wanted = [{s: by_eps[s].get((table[s][0], table[s][1])) for s in SUBSETS if s in table} for table in told]
        return [found for w in wanted if (found := {s: b for s, b in w.items() if b})]

    def _budgets(self, model: str | None, subset: str) -> list[Budget]:
        """The budgets that this model met on this subset, once per attack."""
        return [
            c.budget for c, a in self.table.items() if (c.model, c.subset) == (model, subset) and a.mode != "published"
        ]

    def worst(self, wanted: Sequence[tuple[str | None, str, Budget]]) -> list[Predictions | None]:
        """For each (model, subset, budget), answers that count as right only when they survive every attack.

        "Every attack" are those of `judges`.  None where nothing was tried.
        """
        judges = self.judges(wanted)
        ran = [[a for attack in judges if (a := self.attacked(m, attack, s, b))] for m, s, b in wanted]
        return [_survivors(answers) if answers else None for answers in ran]

    def judges(self, wanted: Sequence[tuple[str | None, str, Budget]]) -> list[str]:
        """The attacks that stayed inside their budget and ran under each (model, subset, budget) that was tried at all.

        With these, all conditions are judged alike.
        """
        inside = [a for a in self.modes if a not in self.outside]
        ran = [{a for a in inside if self.attacked(m, a, s, b)} for m, s, b in wanted]
        tried = [attacks for attacks in ran if attacks]
        return [a for a in inside if tried and all(a in attacks for attacks in tried)]

    def fooled(self, level: Level) -> dict[str, Predictions | None]:
        """The first audio-visual model's answers in the worst case, by attacked subset, at one table's budgets."""
        return dict(zip(level, self.worst(self.conditions(level)), strict=True))

    def conditions(self, level: Level) -> list[tuple[str | None, str, Budget]]:
        """The first audio-visual model with each subset attacked, at one table's budgets."""
        return [(self.model("AV"), subset, budget) for subset, budget in level.items()]


def _survivors(answers: Sequence[Predictions]) -> Predictions:
    """Right where all of them are right."""
    same = shared(*answers)
    columns = dict(same[0].columns) | {"correct": np.logical_and.reduce([a["correct"] for a in same])}
    return replace(same[0], columns=columns)


def read(path: Path, papers: Mapping[str, Paper] = MappingProxyType({})) -> Run:
    """A run directory as `Run`.  Cells without a finished rows.parquet are left out.

    `papers` are those that may stand beside it, by name; run.json says which one does.

    Raises `RunError` when there is no run.json or a file is damaged.
    """
    try:
        about = model_info.read(path / "run.json")
    except (FileNotFoundError, NotADirectoryError):
        raise RunError(
            f"{path}: expected a run directory, found no run.json. Pass the folder that a study wrote."
        ) from None
    except ValueError as e:
        raise RunError(f"{e}. Put back the file that the study wrote, or run the study in another folder.") from None
    parts = []
    for file in sorted(path.glob("cells/[!.]*/rows.parquet")):  # a leading dot: still being written
        try:
            rows = Rows.load(file)
            rows.check()
            _check_labels(rows, about)
        except (pa.ArrowException, OSError, ValueError) as e:
            raise RunError(
                f"{file}: expected rows as Parquet, {brief(e, 400)}. Delete this cell's folder and run the study again."
            ) from None
        parts.append(rows)
    try:
        every = tabulate(Rows.concat(parts).data)
    except ValueError as e:
        raise RunError(f"{path / 'cells'}: {e}") from None
    controls, sent = ({c: a for c, a in every.items() if a.mode == mode} for mode in ("control", "sent"))
    table = {c: a for c, a in every.items() if c not in controls and c not in sent}
    return Run(path, about, table, controls, sent, papers.get(about.get("paper") or ""))


def _check_labels(rows: Rows, about: Mapping[str, Any]) -> None:
    classes = (about.get("data") or {}).get("classes")
    labels = rows.column("label")
    if classes and len(rows) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise ValueError(f"labels of {len(classes)} classes, got labels from {labels.min()} to {labels.max()}")
