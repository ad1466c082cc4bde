"""Whether clips stay adversarial after a file or a codec, and what a file can hold of a budget."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from avrobust.evaluation.conditions import Predictions, shared
from avrobust.evaluation.stats import MISSING, Estimate, among, estimate, percent
from avrobust.facts import IMAGENET_STD, Budget, ModalityBudget
from avrobust.report.formatting import ATTACKED, MODALITY, at, listing
from avrobust.report.measured import accuracy
from avrobust.report.run import SUBSETS, Run
from avrobust.report.section import Section
from avrobust.report.table import DASH, Cell, Line, Table, share, table

BEFORE = ""  # the channel of clips before any
NO_ATTACK = "none"  # what clean clips are crafted by
LOSSLESS = "8 and 16 bits"  # the name of `evaluation.channels.Lossless`


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
    """One attack inside one threat, by channel; `adaptive`: the attacker knows the channel."""

    subset: str
    budget: Budget
    adaptive: bool
    arrivals: Mapping[str, Arrival]


@dataclass(frozen=True)
class ChannelTable:
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
            counts = [f"{a.words} after {c}" for c, a in row.arrivals.items() if c != BEFORE and a.words]
            if counts:
                parts.append(("with an adaptive attacker, " if row.adaptive else "") + listing(counts))
        what = " and ".join(MODALITY[letter] for letter in last[0].subset)
        where = at(last[0].subset, last[0].budget)
        subject = f"Of the clips that {self.attack} fools with {what} attacked at {where}, these stay misclassified"
        return f"{subject}: {'; '.join(parts)}." if parts else ""


def tables(run: Run) -> list[ChannelTable]:
    """One per model and attack that went through a channel; empty where none did."""
    made = dict.fromkeys((c.model, p.info.crafted_by) for c, p in run.sent.items())
    return [_table(run, model, attack) for model, attack in made if attack != NO_ATTACK]


def _table(run: Run, model: str, attack: str) -> ChannelTable:
    sent = [p for c, p in run.sent.items() if c.model == model]
    control = {p.info.channel: p for p in sent if p.info.crafted_by == NO_ATTACK}
    mine = [p for p in sent if p.info.crafted_by == attack]
    channels = sorted({p.info.channel for p in mine}, key=lambda name: (name != BEFORE, name != LOSSLESS, name))
    order = sorted(mine, key=lambda p: (SUBSETS.index(p.condition.subset), p.condition))
    rows = []
    for subset, budget in dict.fromkeys((p.condition.subset, p.condition.budget) for p in order):
        here = [p for p in mine if (p.condition.subset, p.condition.budget) == (subset, budget)]
        plain = (p for p in here if p.info.channel == BEFORE and not p.info.adaptive)
        made = next(plain, None) or run.attacked(model, attack, subset, budget)
        for adaptive in (False, True):
            found = {p.info.channel: p for p in here if p.info.adaptive == adaptive}
            arrivals = {name: _arrival(found[name], made, control.get(name)) for name in channels if name in found}
            if arrivals:
                rows.append(Row(subset, budget, adaptive, arrivals))
    clean = {name: accuracy(control[name]) for name in channels if name in control}
    if before := next((p for p in mine if p.info.channel == BEFORE), None):
        clean[BEFORE] = estimate(before["correct_clean"])
    return ChannelTable(model, attack, tuple(channels), clean, tuple(rows))


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
    met |= {c.budget for c, p in run.sent.items() if p.info.crafted_by != NO_ATTACK}
    audio = [FileBudget("audio", str(b), (32768 * b.eps,)) for b in sorted({b.audio for b in met}) if b.even]
    visual = [b for b in sorted({b.visual for b in met}) if b.even]
    return audio + [FileBudget("visual", str(b), _grey_levels(b), _seen(run, b)) for b in visual]


def _grey_levels(budget: ModalityBudget) -> tuple[float, ...]:
    """A visual budget in grey levels, per colour."""
    return tuple(255 * budget.eps * std for std in (IMAGENET_STD if budget.unit == "normalised" else (1.0,)))


def _seen(run: Run, budget: ModalityBudget) -> str:
    """What a lossless file left of video that was attacked inside this budget."""
    rounded = [
        p["linf_visual"]
        for c, p in run.sent.items()
        if p.info.channel == LOSSLESS and not p.info.adaptive and c.budget.visual == budget
    ]
    if not rounded:
        return ""
    far = np.concatenate([a.ravel() for a in rounded])
    same = f"{(far == 0).sum()} of {far.size} videos came back clean, bit for bit."
    return same if (far == 0).all() else f"{same} Pixels changed by up to {255 * far.max():.0f}."


def data(run: Run) -> Mapping[str, Any] | None:
    found = tables(run)
    if not found:
        return None
    heads = ["Modality", "Perturbation budget", "In a file", "What fits", "Measured"]
    body: list[Line] = [(b.modality, b.budget, b.size, b.fits, b.seen or "—") for b in budgets(run)]
    kept = table("What a file can hold of a budget", heads, body)
    return {
        "kept": kept,
        "tables": [(t.words, through(t)) for t in found],
        "result": f"{found[0].attack} on {found[0].model}",
    }


def through(found: ChannelTable) -> Table:
    """Accuracy before and after each channel, and how many clips stay misclassified."""
    heads = ["Attacked", "Perturbation budget", *(c or "before any channel" for c in found.channels)]
    body: list[Line] = [["Clean", "—", *(share(found.clean[c]) if c in found.clean else DASH for c in found.channels)]]
    for r in found.rows:
        name = ATTACKED[r.subset] + (", adaptive" if r.adaptive else "")
        body.append(
            [name, at(r.subset, r.budget), *(_arrived(r.arrivals.get(c), c, r.adaptive) for c in found.channels)]
        )
    return table(f"{found.attack} on {found.model} after each channel", heads, body)


def _arrived(arrival: Arrival | None, channel: str, adaptive: bool) -> Cell:
    if arrival is None:
        return DASH
    cell = share(arrival.accuracy)
    if not arrival.stay.n or (channel == BEFORE and not adaptive):
        return cell
    stay = f"{arrival.words} stay misclassified", f"[{percent(arrival.stay.low)}, {percent(arrival.stay.high)}]"
    return replace(cell, small=(*cell.small, *stay))


SECTION = Section("channels", "After storage and transmission", data)
