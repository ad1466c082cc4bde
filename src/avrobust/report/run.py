"""A run as a value: what was asked, which models there are, and the predictions under every condition.  Reads no file."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from avrobust.evaluation.conditions import Condition, Predictions, curves, survivors
from avrobust.evaluation.flags import OVER_BUDGET, Evidence, Flag, flags
from avrobust.evaluation.measures import Accuracy, Measures, Numbers
from avrobust.facts import AttackInfo, Budget
from avrobust.report.paper import Paper, Printed
from avrobust.report.record import Failure, ModelRecord, Role, RunRecord, present

SUBSETS = ("A", "V", "AV")
Level = Mapping[str, Budget]  # the budgets of one table: what stands under A, V and AV
Wanted = tuple[str | None, str, Budget]  # a model, the modalities attacked, the budget


@dataclass(frozen=True, eq=False)
class Run:
    """The predictions of some models, clean and attacked, and what a study recorded about them.

    `table` holds clean and attacked predictions, `controls` those on clips with a modality replaced (another clip's
    audio, silence), `sent` those on clips that went through a file or codec, for which no budget holds, `corrupted` those on
    naturally corrupted clips, `incomplete` those on clips of which a part is missing, and `smoothed` those of smoothed models.  `path` is the run's folder, None for rows without one.  `paper` is the paper that the study repeats, `outputs` how many logits the
    models give, 0 where that is not known; `measures` what models measure that do not classify, `cells` how many were asked for and
    are finished.
    """

    record: RunRecord
    table: Mapping[Condition, Predictions]
    controls: Mapping[Condition, Predictions] = field(default_factory=dict)
    sent: Mapping[Condition, Predictions] = field(default_factory=dict)
    corrupted: Mapping[Condition, Predictions] = field(default_factory=dict)
    incomplete: Mapping[Condition, Predictions] = field(default_factory=dict)
    smoothed: Mapping[Condition, Predictions] = field(default_factory=dict)
    path: Path | None = None
    paper: Paper | None = None
    outputs: int = 0
    measures: Mapping[str, Measures] = field(default_factory=dict)
    cells: Mapping[str, int] = field(default_factory=dict)

    # What was asked

    @property
    def title(self) -> str:
        return self.record.title or self.record.name or (self.path.name if self.path else "Robustness report")

    @property
    def worlds(self) -> list[dict[str, Any]]:
        """The machines that computed this run: one for each that gives other numbers."""
        return [present(world) for world in (self.record.worlds or {"": self.record.world}).values()]

    @property
    def missing(self) -> list[Failure]:
        """What failed and was left out."""
        return [failure for failure in self.record.failures.values() if failure]

    @property
    def printed(self) -> Printed | None:
        """The paper's numbers on the dataset that the study states; None for other data, tasks or classes."""
        printed = self.paper.printed.get(self.record.benchmark or "") if self.paper else None
        return printed if printed and printed.classes == self.classes else None

    @property
    def printed_clean(self) -> dict[str, float]:
        """The paper's clean accuracy of the audio-visual, the audio-only and the visual-only model, in per cent."""
        if self.printed is None:
            return {}
        together = next(iter(self.printed.attacks.values())).clean
        return dict(zip(("AV", "A", "V"), (together, *self.printed.unimodal), strict=True))

    @property
    def classes(self) -> int:
        """How many classes there are; from the labels that occur where nothing says it."""
        known = len(self.record.data.classes) or self.outputs
        seen = [p["label"].max() for c, p in self.table.items() if p["label"].size and self.classes_of(c.model)]
        return known or int(1 + max(seen, default=1))

    @property
    def seeds(self) -> list[int]:
        return sorted({seed for p in self.table.values() for seed in p.seeds})

    @cached_property
    def flags(self) -> tuple[Flag, ...]:
        """What raises doubt in these numbers, gravest first."""
        models = self.record.models
        probes = {name: present(m.probe) for name, m in models.items() if m.probe}
        kinds = {name: m.kind for name, m in models.items() if m.kind}
        blind = {name: present(b) for name, b in self.record.baselines.items()}
        return flags(
            Evidence(
                self.table,
                self.classes,
                self.controls,
                probes,
                kinds,
                blind,
                measures=self.measures,
                smoothed=self.smoothed,
                cells=self.cells,
            )
        )

    # Models

    def measured(self, model: str) -> Measures:
        """What the task of a model measures."""
        return self.measures.get(model, Accuracy())

    @cached_property
    def numbers(self) -> Mapping[Condition, Numbers]:
        """What the task of its model measures under each condition."""
        return {c: self.measured(c.model).numbers(p, self.clean(c.model)) for c, p in self.table.items()}

    def classes_of(self, model: str) -> bool:
        """Whether a model gives one class per clip."""
        return isinstance(self.measured(model), Accuracy)

    @property
    def classifies(self) -> bool:
        """Whether any model gives one class per clip: a page about other tasks has no accuracy to show."""
        return not self.table or any(self.classes_of(c.model) for c in self.table)

    def about(self, model: str | None) -> ModelRecord:
        """What the record says about a model."""
        return self.record.models.get(model or "", ModelRecord())

    def kind(self, model: str) -> str:
        """The modalities that a model uses: "AV", "A" or "V"; from its record, else from what its probe found."""
        about = self.about(model)
        ignores = about.probe.ignores if about.probe else {}
        used = "".join(letter for letter, name in (("A", "audio"), ("V", "visual")) if not ignores.get(name))
        return about.kind or used or "AV"

    def models(self, kind: str) -> list[str]:
        """Models of a kind that have predictions, in the order of the record."""
        order = list(self.record.models)
        present = {c.model for c in self.table if self.kind(c.model) == kind}
        return sorted(present, key=lambda m: (order.index(m) if m in order else len(order), m))

    def model(self, kind: str) -> str | None:
        """The model that stands for its kind: the first of them, even where it has no predictions yet.

        Of models of several tasks, the first that classifies.
        """
        found = [m for m in self.record.models if self.kind(m) == kind] or self.models(kind)
        return next(filter(self.classes_of, found), next(iter(found), None))

    @property
    def subject(self) -> str | None:
        """The model that the tables of attacks are about: the first audio-visual one, else a unimodal one."""
        return next(filter(None, map(self.model, ("AV", "A", "V"))), None)

    @property
    def alone(self) -> bool:
        """Whether there is one model only, which nothing is compared with."""
        return len({*self.record.models, *(c.model for c in self.table)}) == 1

    def role(self, role: Role) -> str | None:
        """The model that has this role in the study."""
        return next((m for m, about in self.record.models.items() if about.role == role), None)

    @property
    def localisers(self) -> list[str]:
        """The audio-visual models that show where in the picture they look."""
        return [m for m in self.models("AV") if self.about(m).localises]

    @property
    def visual_localiser(self) -> str | None:
        """A model that shows where it looks and was trained without audio."""
        return next((m for m in self.models("V") if self.about(m).localises), None)

    @property
    def fusions(self) -> list[str]:
        """The undefended audio-visual models whose fusion is recorded."""
        return [m for m in self._classifiers if self.about(m).undefended and self.about(m).fusion]

    @property
    def defenses(self) -> list[str]:
        """The first audio-visual model, and all that differ from it by more than their fusion."""
        base = self.model("AV")
        same = set(self.fusions) if base in self.fusions else set()
        return [m for m in self._classifiers if m == base or m not in same]

    @property
    def _classifiers(self) -> list[str]:
        return [m for m in self.models("AV") if not self.about(m).localises]

    # Attacks

    @cached_property
    def infos(self) -> Mapping[str, AttackInfo]:
        """What is known of each attack, by its name; in the order of tables: FGSM, PGD, MIM, others, published ones."""
        infos = {c.attack: p.info for c, p in self.table.items() if c.subset != "clean"}
        order = {"FGSM": 0, "PGD": 1, "MIM": 2}
        places = {
            a: (self.modes[a] == "published", order.get(i.family, 3) if i.plain else 3, a) for a, i in infos.items()
        }
        return {name: infos[name] for name in sorted(infos, key=places.__getitem__)}

    @cached_property
    def modes(self) -> Mapping[str, str]:
        """By attack, "corrected" or "published"."""
        return {c.attack: p.mode for c, p in self.table.items() if c.subset != "clean"}

    @cached_property
    def over_budget(self) -> frozenset[str]:
        """Attacks that exceeded their budget on any clip."""
        used = ("used_audio", "used_visual")
        return frozenset(c.attack for c, p in self.table.items() if any((p[u] > OVER_BUDGET).any() for u in used))

    # Predictions

    def clean(self, model: str | None) -> Predictions | None:
        """The model's predictions on clean clips."""
        return next((p for c, p in self.table.items() if c.model == model and c.subset == "clean"), None)

    def attacked(self, model: str | None, attack: str, subset: str, budget: Budget) -> Predictions | None:
        """The model's predictions with `subset` attacked.  Of a unimodal model only its modality's budget counts."""
        for c, p in self.table.items():
            if (c.model, c.attack, c.subset) == (model, attack, subset):
                same = c.budget.audio == budget.audio or subset == "V"
                if same and (c.budget.visual == budget.visual or subset == "A"):
                    return p
        return None

    def worst_case(self, wanted: Sequence[Wanted]) -> list[Predictions | None]:
        """For each condition, predictions that count as correct only where they survive all of `common_attacks`.

        None where nothing was tried.
        """
        attacks = self.common_attacks(wanted)
        ran = [[p for attack in attacks if (p := self.attacked(m, attack, s, b))] for m, s, b in wanted]
        return [survivors(predictions) if predictions else None for predictions in ran]

    def common_attacks(self, wanted: Sequence[Wanted]) -> list[str]:
        """The attacks that kept their budget and ran under each condition that was tried at all: one jury for all."""
        inside = [a for a in self.infos if a not in self.over_budget]
        ran = [{a for a in inside if self.attacked(m, a, s, b)} for m, s, b in wanted]
        tried = [attacks for attacks in ran if attacks]
        return [a for a in inside if tried and all(a in attacks for attacks in tried)]

    def conditions(self, level: Level) -> list[Wanted]:
        """The subject with each subset attacked, at one table's budgets."""
        return [(self.subject, subset, budget) for subset, budget in level.items()]

    def worst_case_at(self, level: Level) -> dict[str, Predictions | None]:
        """The subject's worst case, by attacked subset, at one table's budgets."""
        return dict(zip(level, self.worst_case(self.conditions(level)), strict=True))

    # Budgets

    @cached_property
    def levels(self) -> list[Level]:
        """The budgets of the tables, as the record names them: `"tables": [{"A": [eps_audio, eps_visual], ...}, ...]`.

        Where it names none: those at which every attack ran (published modes aside), smallest first, at most two
        sets; a subset with one such budget has it in both, and of more than two the middle one stands for all.
        """
        if self.record.tables:
            return self._found(self.record.tables)
        ran = {s: Counter(self._budgets(s)) for s in SUBSETS}
        most = {s: sorted(b for b, k in ran[s].items() if k == max(ran[s].values())) for s in SUBSETS}
        count = max(len(b) for b in most.values())
        if count > 2:
            most, count = {s: b[len(b) // 2 :][:1] for s, b in most.items()}, 1
        return [{s: b[min(i, len(b) - 1)] for s, b in most.items() if b} for i in range(count)]

    @cached_property
    def defense_levels(self) -> list[Level]:
        """The budgets of the tables of fusions and defenses, as the record names them; else those of `levels`."""
        return self._found(self.record.defenses) if self.record.defenses else self.levels

    def _found(self, named: Sequence[Mapping[Any, tuple[float, float]]]) -> list[Level]:
        """Of the budgets that the record names, those at which the subject was attacked; where it was not, any model."""
        by_eps = {s: {(b.audio.eps, b.visual.eps): b for b in self._budgets(s)} for s in SUBSETS}
        wanted = [{s: by_eps[s].get((table[s][0], table[s][1])) for s in SUBSETS if s in table} for table in named]
        return [found for w in wanted if (found := {s: b for s, b in w.items() if b})]

    def _budgets(self, subset: str) -> list[Budget]:
        """The budgets at which the subject was attacked on this subset, once per attack; any model, where it was not at all."""
        attacked = {c: p for c, p in self.table.items() if c.subset != "clean" and p.mode != "published"}
        mine = [c for c in attacked if c.model == self.subject] or attacked
        return [c.budget for c in mine if c.subset == subset]

    def curves(self, subset: str) -> dict[str, tuple[Condition, ...]]:
        """By attack, the subject's longest curve over budgets: at least three conditions."""
        found: dict[str, tuple[Condition, ...]] = {}
        for curve in curves(c for c in self.table if (c.model, c.subset) == (self.subject, subset)):
            rising = self._rising(curve) if subset == "AV" else curve
            if len(rising) >= max(3, 1 + len(found.get(curve[0].attack, ()))):
                found[curve[0].attack] = rising
        return {attack: found[attack] for attack in self.infos if attack in found}

    def _rising(self, curve: Sequence[Condition]) -> tuple[Condition, ...]:
        """The joint budgets along which both parts grow; of equal audio budgets, a visual one also tried alone first."""
        alone = {c.budget.visual for c in self.table if c.subset == "V" and c.model == self.model("V")}
        chain: list[Condition] = []
        for c in sorted(curve, key=lambda c: (c.budget.audio.eps, c.budget.visual not in alone, c.budget)):
            last = chain[-1].budget if chain else None
            if last is None or (c.budget.audio.eps > last.audio.eps and c.budget.visual.eps > last.visual.eps):
                chain.append(c)
        return tuple(chain)
