"""What is left of attacks once their clips were stored or sent: tables, and what a budget is in steps of a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from avrobust.evaluation.conditions import Budget, Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, among, estimate
from avrobust.report.comparisons import NAME, at
from avrobust.report.formatting import listing
from avrobust.report.load import SUBSETS, Run

AS_MADE, LOSSLESS = "as made", "8 and 16 bits"  # as `evaluation.evaluator` and `realize.Lossless` call them
STD = (0.229, 0.224, 0.225)  # `threat.IMAGENET_STD`, which torch would come with


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

    `stay`: of the clips that the attack had fooled as made, and that are right when they take this way without an
    attack, those that are still wrong.
    """

    right: Estimate
    stay: Estimate

    @property
    def words(self) -> str:
        """A count."""
        return f"{round(self.stay.value * self.stay.n)} of {self.stay.n}" if self.stay.n else ""


@dataclass(frozen=True)
class Row:
    """One attack inside one threat, by channel; `knowing`: the attacker searched for clips that survive the way."""

    subset: str
    budget: Budget
    knowing: bool
    arrivals: Mapping[str, Arrival]


@dataclass(frozen=True)
class Table:
    """One attack on one model: `clean` is what every channel does to clips that nobody attacked."""

    model: str
    attack: str
    channels: tuple[str, ...]
    clean: Mapping[str, Estimate]
    rows: tuple[Row, ...]

    @property
    def words(self) -> str:
        """What became of the last of the threats, as a sentence; empty where nothing had been fooled."""
        last = [r for r in self.rows if (r.subset, r.budget) == (self.rows[-1].subset, self.rows[-1].budget)]
        parts = []
        for row in last:
            counts = [f"{a.words} after {c}" for c, a in row.arrivals.items() if c != AS_MADE and a.words]
            known = "by an attacker who knows the way, " if row.knowing else ""
            parts += [known + listing(counts)] if counts else []
        what = " and ".join(NAME[letter] for letter in last[0].subset)
        told = f"Of the clips that {self.attack} fools through {what} at {at(last[0].subset, last[0].budget)}"
        return f"{told}, those stay fooled: {'; '.join(parts)}." if parts else ""


def tables(run: Run) -> list[Table]:
    """One per model and attack that was sent anywhere; empty where none was."""
    found = []
    for model, attack in dict.fromkeys((c.model, Way.read(c.attack).attack) for c in run.sent):
        if attack != "none":
            found.append(_table(run, model, attack))
    return found


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
    unharmed = next((run.sent[c] for c, way in mine.items() if way.channel == AS_MADE), None)
    clean = {name: estimate(control[name]["correct"]) for name in channels if name in control}
    if unharmed:
        clean[AS_MADE] = estimate(unharmed["correct_clean"])
    return Table(model, attack, tuple(channels), clean, tuple(rows))


def _arrival(sent: Predictions, made: Predictions | None, control: Predictions | None) -> Arrival:
    if made is None:
        return Arrival(estimate(sent["correct"]), MISSING)
    s, m, c = shared(sent, made, control or made)
    fooled = m["correct_clean"] & ~m["correct"]
    if control:
        fooled &= c["correct"]
    return Arrival(estimate(sent["correct"]), among(~s["correct"], fooled))


@dataclass(frozen=True)
class Holds:
    """A linf budget in the steps of a file, per colour or alone: `room` says what of it a file can hold."""

    modality: str  # "A" or "V"
    budget: str
    steps: tuple[float, ...]
    checked: str = ""

    @property
    def size(self) -> str:
        """So many steps; by colour from the fewest to the most."""
        unit = "grey levels of 255" if self.modality == "V" else "steps of 16 bits"
        ends = (f"{s:.2f}" if s < 10 else f"{s:.1f}" for s in (min(self.steps), max(self.steps)))
        return f"{' to '.join(dict.fromkeys(ends))} {unit}"

    @property
    def room(self) -> str:
        """What fits, in words."""
        unit = "grey level" if self.modality == "V" else "step"
        if max(self.steps) < 0.5:
            return f"Less than half a {unit}: rounding gives the clean clip back. Nothing inside this budget can be stored."
        if max(self.steps) < 1:
            return (
                f"Less than a {unit}: rounding moves a value by a whole one, which is more than was allowed, or not "
                "at all. Nothing inside this budget can be stored."
            )
        whole = sorted({math.floor(s + 1e-6) for s in self.steps})
        return f"{' or '.join(map(str, whole))} whole {unit}{'s' if whole[-1] > 1 else ''}."


def budgets(run: Run) -> list[Holds]:
    """The budgets of the tables and of what was sent, in steps of a file; empty where nothing was sent."""
    if not run.sent:
        return []
    met = [b for level in (*run.levels(), *run.defense_levels()) for b in level.values()]
    met += [c.budget for c in run.sent if Way.read(c.attack).attack != "none"]
    balls = {("A", b.eps_audio, b.audio) for b in met} | {("V", b.eps_visual, b.visual) for b in met}
    return [
        Holds(modality, words.removeprefix("linf "), _steps(modality, eps, words), _checked(run, modality, words))
        for modality, eps, words in sorted(balls)
        if words.startswith("linf")
    ]


def _steps(modality: str, eps: float, words: str) -> tuple[float, ...]:
    if modality == "A":
        return (32768 * eps,)
    return tuple(255 * eps * std for std in STD) if words.endswith("normalised") else (255 * eps,)


def _checked(run: Run, modality: str, words: str) -> str:
    """What a lossless file left of pictures that were attacked inside this budget."""
    rounded = [
        a["linf_visual"]
        for c, a in run.sent.items()
        if (way := Way.read(c.attack)).channel == LOSSLESS and not way.knowing and c.budget.visual == words
    ]
    if modality == "A" or not rounded:
        return ""
    far = np.concatenate([a.ravel() for a in rounded])
    same = f"{(far == 0).sum()} of {far.size} pictures came back clean, bit for bit."
    return same if (far == 0).all() else f"{same} Pixels moved by up to {255 * far.max():.0f}."
