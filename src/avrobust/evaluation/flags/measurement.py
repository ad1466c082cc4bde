"""Flags about the measurement: how many clips, seeds, steps and attacks a number rests on, and whether it is a number."""

import math
from collections.abc import Iterable

import numpy as np

from avrobust.evaluation.flags.evidence import Evidence, Flag, Level
from avrobust.evaluation.stats import estimate, percent, wilson

FEW_CLIPS, TOO_FEW_CLIPS = 100, 30  # an interval of about +-10 and +-17 points at 50 %


def unfinished(seen: Evidence) -> Iterable[Flag]:
    """A worst case over some of the attacks looks better than that over all of them."""
    asked = seen.cells.get("asked", 0)
    missing = asked - seen.cells.get("finished", asked)
    if missing > 0:
        text = f"The run is unfinished: {missing} of {asked} conditions are missing. The same command computes them."
        yield Flag("unfinished", "alarm", text)


def few_clips(seen: Evidence) -> Iterable[Flag]:
    """Intervals that are too wide to say much."""
    n = min((len(p.clips) for p in seen.table.values()), default=0)
    if n < FEW_CLIPS:
        half = (estimate(np.arange(n)[None] % 2 == 0).high - 0.5) if n else math.nan
        what = "an accuracy" if all(seen.measured(c.model).chance for c in seen.table) else "a share"
        width = f", so {what} near 50 % is known to ±{100 * half:.0f} points at best" if n else ""
        level: Level = "alarm" if n < TOO_FEW_CLIPS else "warning"
        yield Flag("few clips", level, f"The smallest cell has {n} clips{width}.")


def clips_unreadable(seen: Evidence) -> Iterable[Flag]:
    """Clips without a prediction; they lower the count, never the accuracy."""
    if not seen.table:
        return
    worst = max(seen.table.values(), key=lambda p: p.listed - len(p.clips))
    missing = worst.listed - len(worst.clips)
    if missing:
        share = missing / worst.listed
        level: Level = "alarm" if share > 0.1 else "warning" if share > 0.01 else "note"
        text = f"{missing} of {worst.listed} clips have no prediction ({percent(share)} %): counted {len(worst.clips)}."
        yield Flag("clips unreadable", level, text)


def clean_near_chance(seen: Evidence) -> Iterable[Flag]:
    """A model that has not learnt its task has nothing to lose to an attack."""
    for c, p in seen.table.items():
        if c.subset == "clean" and (e := estimate(p["correct"])).low <= seen.chance(c.model):
            text = f"{c.model} has a clean accuracy of {e}; guessing gives {percent(seen.chance(c.model))} %."
            yield Flag("clean accuracy near chance", "alarm", text, c.model)


def one_seed(seen: Evidence) -> Iterable[Flag]:
    """Intervals over clips do not know how much another training run would differ."""
    if seen.table and max(len(p.seeds) for p in seen.table.values()) == 1:
        text = "Each model was trained once. The intervals cover the choice of clips; another training run may differ by more."
        yield Flag("one seed", "note", text)


def only_single_step(seen: Evidence) -> Iterable[Flag]:
    """Single-step attacks flatter: FGSM alone shows no robustness."""
    attacks = {c.attack: p.info.single_step for c, p in seen.table.items() if c.subset != "clean"}
    if attacks and all(attacks.values()):
        text = f"Only single-step attacks ran ({', '.join(sorted(attacks))}). Iterative attacks are stronger."
        yield Flag("only single-step attacks", "warning", text)


def not_finite(seen: Evidence) -> Iterable[Flag]:
    """Logits that are not finite are no prediction; they count as misclassified, and show that the arithmetic broke."""
    for c, p in seen.every.items():
        if (broken := ~p["finite"]).any():
            first = p.clips[int(broken.any(0).argmax())]
            counted = "votes for no class" if c in seen.smoothed else "misclassified"
            text = (
                f"{c.model} under {c.attack} gives logits that are not finite on {int(broken.any(0).sum())} of "
                f"{len(p.clips)} clips, first on '{first}': counted as {counted}."
            )
            yield Flag("logits not finite", "alarm", text, seen.model_of(c))


def localises_no_better_than_the_centre(seen: Evidence) -> Iterable[Flag]:
    """A model that localises the sound source should find it more often than an answer that ignores the clip."""
    centre = seen.baselines.get("centre")
    for c, p in seen.table.items():
        if centre is None or c.subset != "clean" or "pointing" not in p.columns:
            continue
        values = p["pointing"].astype(float)
        e = estimate(values[:, ~np.isnan(values).any(0)])
        if e.high < wilson(centre["pointing"] * centre["clips"], centre["clips"])[0]:
            text = (
                f"{c.model} points at the sound source on {e} of the clean clips; the centre of the frame does on "
                f"{percent(centre['pointing'])} %. An attack's effect on such a map says little about localisation."
            )
            yield Flag("points worse than the centre", "warning", text, c.model)
