"""Whether clips stay adversarial after a file or a codec, and what a file can hold of a budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, among, estimate
from avrobust.facts import Budget
from avrobust.report.formatting import MODALITY, at, is_linf, listing, normalised
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.tables import accuracy
from avrobust.units import IMAGENET_STD

AS_MADE, LOSSLESS = "as made", "8 and 16 bits"  # as `evaluation.evaluator` and `realize.Lossless` call them


class Way(NamedTuple):
    """What a row's attack is called, taken apart: "PGD-10, knowing > H.264" is ("PGD-10", True, "H.264")."""

    attack: str
    knowing: bool
    channel: str

    @classmethod
    def read(cls, name: str) -> "Way":
        made, _, channel = name.partition(" > ")
        attack, _, how = made.partition(", ")
        return cls(attack, bool(how), channel)


@dataclass(frozen=True)
class Arrival:
    """What one channel leaves of one attack.

    `stay`: of the clips that the attack fools before the channel, and that the channel alone leaves correct, the share
    that is still misclassified after it.
    """

    accuracy: Estimate
    stay: Estimate

    @property
    def words(self) -> str:
        """A count."""
        return f"{round(self.stay.value * self.stay.n)} of {self.stay.n}" if self.stay.n else ""


@dataclass(frozen=True)
class Row:
    """One attack inside one threat, by channel; `knowing`: an adaptive attacker, who knows the channel."""

    subset: str
    budget: Budget
    knowing: bool
    arrivals: Mapping[str, Arrival]


@dataclass(frozen=True)
class Table:
    """One attack on one model: `clean` is what every channel does to clean clips."""

    model: str
    attack: str
    channels: tuple[str, ...]
    clean: Mapping[str, Estimate]
    rows: tuple[Row, ...]

    @property
    def words(self) -> str:
        """What is left of the last of the threats, as a sentence; empty where no clip had been fooled."""
        last = [r for r in self.rows if (r.subset, r.budget) == (self.rows[-1].subset, self.rows[-1].budget)]
        parts = []
        for row in last:
            counts = [f"{a.words} after {c}" for c, a in row.arrivals.items() if c != AS_MADE and a.words]
            if counts:
                parts.append(("with an adaptive attacker, " if row.knowing else "") + listing(counts))
        what = " and ".join(MODALITY[letter] for letter in last[0].subset)
        where = at(last[0].subset, last[0].budget)
        subject = f"Of the clips that {self.attack} fools with {what} attacked at {where}, these stay misclassified"
        return f"{subject}: {'; '.join(parts)}." if parts else ""


def tables(run: Run) -> list[Table]:
    """One per model and attack that went through a channel; empty where none did."""
    made = dict.fromkeys((c.model, Way.read(c.attack).attack) for c in run.sent)
    return [_table(run, model, attack) for model, attack in made if attack != "none"]


def _table(run: Run, model: str, attack: str) -> Table:
    ways = {c: Way.read(c.attack) for c in run.sent if c.model == model}
    control = {way.channel: run.sent[c] for c, way in ways.items() if way.attack == "none"}
    mine = {c: way for c, way in ways.items() if way.attack == attack}
    channels = sorted(
        {way.channel for way in mine.values()}, key=lambda name: (name != AS_MADE, name != LOSSLESS, name)
    )
    rows = []
    threats = dict.fromkeys((c.subset, c.budget) for c in sorted(mine, key=lambda c: (SUBSETS.index(c.subset), c)))
    for subset, budget in threats:
        here = {way: run.sent[c] for c, way in mine.items() if (c.subset, c.budget) == (subset, budget)}
        made = here.get(Way(attack, False, AS_MADE)) or run.attacked(model, attack, subset, budget)
        for knowing in (False, True):
            arrivals = {
                channel: _arrival(here[way], made, control.get(channel))
                for channel in channels
                if (way := Way(attack, knowing, channel)) in here
            }
            if arrivals:
                rows.append(Row(subset, budget, knowing, arrivals))
    clean = {name: accuracy(control[name]) for name in channels if name in control}
    if before := next((run.sent[c] for c, way in mine.items() if way.channel == AS_MADE), None):
        clean[AS_MADE] = estimate(before["correct_clean"])
    return Table(model, attack, tuple(channels), clean, tuple(rows))


def _arrival(sent: Predictions, made: Predictions | None, control: Predictions | None) -> Arrival:
    if made is None:
        return Arrival(accuracy(sent), MISSING)
    s, m, c = shared(sent, made, control or made)
    fooled = m["correct_clean"] & ~m["correct"]
    if control:
        fooled &= c["correct"]
    return Arrival(accuracy(sent), among(~s["correct"], fooled))


@dataclass(frozen=True)
class FileBudget:
    """A linf budget in the steps of a file, per colour or alone."""

    modality: str  # "audio" or "visual"
    budget: str
    steps: tuple[float, ...]
    seen: str = ""

    @property
    def size(self) -> str:
        """So many steps; by colour from the fewest to the most."""
        unit = "grey levels of 255" if self.modality == "visual" else "steps of 16 bits"
        ends = (f"{s:.2f}" if s < 10 else f"{s:.1f}" for s in (min(self.steps), max(self.steps)))
        return f"{' to '.join(dict.fromkeys(ends))} {unit}"

    @property
    def fits(self) -> str:
        """Which perturbations a file can hold."""
        unit = "grey level" if self.modality == "visual" else "step"
        if max(self.steps) < 0.5:
            return f"Less than half a {unit}: rounding restores the clean clip. No perturbation within this budget can be stored."
        if max(self.steps) < 1:
            return (
                f"Less than one {unit}: rounding changes a value by a whole one, which exceeds the budget, or not at all. "
                "No perturbation within this budget can be stored."
            )
        whole = sorted({math.floor(s + 1e-6) for s in self.steps})
        return f"{' or '.join(map(str, whole))} whole {unit}{'s' if whole[-1] > 1 else ''}."


def budgets(run: Run) -> list[FileBudget]:
    """The budgets of the tables and of what went through channels, in steps of a file; empty without channels."""
    if not run.sent:
        return []
    met = {b for level in (*run.levels, *run.defense_levels) for b in level.values()}
    met |= {c.budget for c in run.sent if Way.read(c.attack).attack != "none"}
    audio = {
        b.audio: FileBudget("audio", str(b.audio), (32768 * b.audio.eps,)) for b in sorted(met) if is_linf(b, "audio")
    }
    visual = {
        b.visual: FileBudget("visual", str(b.visual), _steps(b), _seen(run, b))
        for b in sorted(met)
        if is_linf(b, "visual")
    }
    return [*audio.values(), *sorted(visual.values(), key=lambda held: held.steps)]


def _steps(budget: Budget) -> tuple[float, ...]:
    """A visual budget in grey levels, per colour."""
    return tuple(255 * budget.visual.eps * std for std in (IMAGENET_STD if normalised(budget) else (1.0,)))


def _seen(run: Run, budget: Budget) -> str:
    """What a lossless file left of video that was attacked inside this budget."""
    rounded = [
        p["linf_visual"]
        for c, p in run.sent.items()
        if (way := Way.read(c.attack)).channel == LOSSLESS and not way.knowing and c.budget.visual == budget.visual
    ]
    if not rounded:
        return ""
    far = np.concatenate([a.ravel() for a in rounded])
    same = f"{(far == 0).sum()} of {far.size} videos came back clean, bit for bit."
    return same if (far == 0).all() else f"{same} Pixels changed by up to {255 * far.max():.0f}."


def data(run: Run) -> Mapping[str, Any] | None:
    found = tables(run)
    return {"tables": found, "budgets": budgets(run)} if found else None


SECTION = Section("channels", "After storage and transmission", data)
