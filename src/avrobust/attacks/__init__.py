"""Search inside a threat.  An attack is any callable (model, x, y, threat, seeds) -> adversarial signals.

A new attack is a class in a file of its own and a line in `ATTACKS`: the command line finds it there, and its `info` tells
flags and reports what it is.
"""

from typing import Any

from avrobust.attacks.apgd import APGD
from avrobust.attacks.autoattack import AVAutoAttack
from avrobust.attacks.base import attack_info
from avrobust.attacks.controls import ANYTHING, Elsewhere, Mute, Noise, Swap
from avrobust.attacks.gradient import FGSM, MIM, PGD
from avrobust.attacks.misaligned import Misaligned
from avrobust.attacks.quantized import Quantized
from avrobust.attacks.square import Square
from avrobust.attacks.transfer import Transfer
from avrobust.attacks.variations import Consecutive, Diverse, Scaled, Translated, Variation
from avrobust.names import unknown
from avrobust.types import Attack

# Attacks by the name that one types, all of them with settings that suit any model.
ATTACKS: dict[str, Any] = {
    "FGSM": FGSM, "PGD": PGD, "MIM": MIM, "APGD": APGD, "Square": Square, "AVAutoAttack": AVAutoAttack,
    "Misaligned": Misaligned,
}  # fmt: skip


def by_name(text: str) -> Attack:
    """The attack that `text` names: one of `ATTACKS`, its numbers after a dash (PGD-40x5: 40 steps, 5 restarts).

    Raises `ValueError` for another name, or more numbers than the attack has.

    >>> by_name("PGD-40x5"), by_name("Square-200"), by_name("FGSM")
    (PGD(steps=40, restarts=5), Square(queries=200), FGSM())
    """
    name, dash, size = text.partition("-")
    numbers = size.split("x") if dash else []
    if name not in ATTACKS:
        raise ValueError(unknown("an attack", name, ATTACKS, "For your own, give module:name."))
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"expected numbers after the attack's name, as in PGD-40x5, got {text!r}. Write {name}, or {name} with numbers."
        )
    settings: tuple[str, ...] = ATTACKS[name].numbers
    if len(numbers) > len(settings):
        has = " and ".join(settings) or "no number"
        raise ValueError(f"{name} takes {has} after its name, got {text!r}. Leave the others out.")
    attack: Attack = ATTACKS[name](**dict(zip(settings, map(int, numbers), strict=False)))
    return attack


__all__ = [
    "ANYTHING",
    "APGD",
    "ATTACKS",
    "FGSM",
    "MIM",
    "PGD",
    "AVAutoAttack",
    "Consecutive",
    "Diverse",
    "Elsewhere",
    "Misaligned",
    "Mute",
    "Noise",
    "Quantized",
    "Scaled",
    "Square",
    "Swap",
    "Transfer",
    "Translated",
    "Variation",
    "attack_info",
    "by_name",
]
