"""What is known of an attack: facts of those of this package, and what an attack states; else nothing."""

from dataclasses import replace
from typing import Any

from avrobust.attacks.adapt import Transfer
from avrobust.attacks.apgd import APGD
from avrobust.attacks.combine import AVAutoAttack
from avrobust.attacks.gradient import FGSM, MIM, PGD
from avrobust.attacks.saved import Saved
from avrobust.attacks.square import Square
from avrobust.facts import AttackInfo
from avrobust.objectives import WithSimilarity, cross_entropy, dlr, margin, objective_name

# Attacks of this package by their class; a subclass may search otherwise, so it is somebody's own.
FAMILIES = {FGSM: "FGSM", PGD: "PGD", MIM: "MIM", APGD: "APGD", Square: "Square", AVAutoAttack: "AVAutoAttack"}


def attack_info(attack: Any) -> AttackInfo:
    """The facts of an attack: of this package's searches, and of an attack whose class states them as `info`.

    >>> attack_info(PGD(steps=40, restarts=5))
    AttackInfo(family='PGD', steps=40, restarts=5, objective='cross_entropy', on_answer=True, source='', variant='')
    >>> attack_info(lambda model, x, y, threat, seeds: x).family
    ''
    """
    if type(attack) is Transfer:
        return _with(attack_info(attack.attack), source=attack.source)
    if type(attack) is Saved:
        return _with(attack_info(attack.attack), variant="saved")
    # Stated by this very class: what it inherits need not hold of it.
    if "info" in vars(type(attack)) and isinstance(info := attack.info, AttackInfo):
        return info
    family = FAMILIES.get(type(attack))
    return AttackInfo() if family is None else search_info(family, attack)


def search_info(family: str, attack: Any) -> AttackInfo:
    """The facts of a search of this family, by the fields that such searches have."""
    objective = getattr(attack, "objective", None)
    steps = 1 if family == "FGSM" else attack.steps
    return AttackInfo(
        family,
        steps,
        getattr(attack, "restarts", 1),
        objective_name(objective) if objective is not None else "",
        objective is None or objective in (cross_entropy, margin, dlr) or type(objective) is WithSimilarity,
        variant="alternating" if getattr(attack, "alternate", False) else "",
    )


def _with(info: AttackInfo, **facts: str) -> AttackInfo:
    return replace(info, **facts) if info.family else info  # type: ignore[arg-type]
