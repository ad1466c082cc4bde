"""Flags about certificates: a guarantee that an attack breaks, or that its own votes do not support."""

from collections.abc import Iterable

from avrobust.evaluation.certified import certified, listed, overclaimed
from avrobust.evaluation.flags.evidence import Evidence, Flag, budget


def certificate_broken(seen: Evidence) -> Iterable[Flag]:
    """No attack succeeds where a perturbation of its size is certified to change nothing."""
    for found in certified(seen.smoothed, seen.table):
        for attack in found.attacks:
            if attack.broken:
                text = (
                    f"{attack.condition.attack} within {budget(attack.condition)} changes the answer of {found.model} on "
                    f"{len(attack.broken)} clips inside their certified distance: {listed(attack.broken)}. The certificate does not hold."
                )
                yield Flag("a certificate is broken", "alarm", text, found.model)


def certificate_overclaims(seen: Evidence) -> Iterable[Flag]:
    """What is certified follows from a lower bound, not from the share of votes."""
    for found in certified(seen.smoothed, seen.table):
        if clips := overclaimed(found):
            text = (
                f"{found.name} takes the probability of a class on {found.model} for larger than its votes allow at "
                f"alpha {found.alpha:g}, on {len(clips)} clips: {listed(clips)}. Use the lower bound of Clopper and Pearson."
            )
            yield Flag("a certificate claims more than its votes", "alarm", text, found.model)
