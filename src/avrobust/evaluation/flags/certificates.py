"""Flags about certificates: a guarantee that an attack breaks, or that its own votes do not support."""

from collections.abc import Iterable

from avrobust.evaluation.certified import certified, listed, overclaimed
from avrobust.evaluation.flags.evidence import Evidence, Flag


def certificate_broken(seen: Evidence) -> Iterable[Flag]:
    """No attack succeeds where a perturbation of its size is certified to change nothing."""
    for found in certified(seen.smoothed, seen.table):
        breaking = [attack for attack in found.attacks if attack.broken]
        if breaking:
            clips = sorted({clip for attack in breaking for clip in attack.broken})
            nearest = breaking[0].condition
            text = (
                f"{found.name} does not hold for {found.model}: {len(breaking)} of {len(found.attacks)} attacks change its answer "
                f"inside the distance that is certified, on {len(clips)} clips: {listed(clips)}. The nearest is "
                f"{nearest.attack} within {nearest.budget.attacked}."
            )
            yield Flag("a certificate is broken", "alarm", text, found.title)


def certificate_overclaims(seen: Evidence) -> Iterable[Flag]:
    """What is certified follows from a lower bound, not from the share of votes."""
    for found in certified(seen.smoothed, seen.table):
        if clips := overclaimed(found):
            text = (
                f"{found.name} takes the probability of a class on {found.model} for larger than its votes allow at "
                f"alpha {found.alpha:g}, on {len(clips)} clips: {listed(clips)}. Use the lower bound of Clopper and Pearson."
            )
            yield Flag("a certificate claims more than its votes", "alarm", text, found.title)
