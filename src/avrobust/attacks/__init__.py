"""Search inside a threat.  An attack is any callable (model, x, y, threat, seeds) -> adversarial signals.

A new attack is a class in a file of its own and a line in `ATTACKS`: the command line finds it there, and its `info` tells
flags and reports what it is.
"""

from itertools import takewhile
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


# What may stand before FGSM, PGD and MIM, as the field writes them, and the settings of each.
VARIANTS: dict[str, Any] = {v.code: v() for v in (Diverse, Translated, Scaled)} | {"NI": None}


def by_name(text: str) -> Attack:
    """The attack that `text` names: one of `ATTACKS`, its numbers after a dash (PGD-40x5: 40 steps, 5 restarts).

    Before FGSM, PGD or MIM may stand `VARIANTS` for transfer, of which any combine: SI-NI-MIM-20.  They keep the last iterate, as
    their papers do.  Raises `ValueError` for another name, more numbers than the attack has, or variants that it has not.

    >>> by_name("PGD-40x5"), by_name("Square-200"), by_name("FGSM")
    (PGD(steps=40, restarts=5), Square(queries=200), FGSM())
    >>> by_name("DI-MIM")
    MIM(keep='last', variations=(Diverse(copies=1, probability=0.5, smallest=0.9, of_audio='resampled'),))
    """
    words = text.split("-")
    variants = [*takewhile(VARIANTS.__contains__, words)]
    name, dash, size = "-".join(words[len(variants) :]).partition("-")
    numbers = size.split("x") if dash else []
    if name not in ATTACKS:
        raise ValueError(unknown("an attack", name or text, ATTACKS, "For your own, give module:name."))
    if not all(number.isdecimal() for number in numbers):
        raise ValueError(
            f"expected numbers after the attack's name, as in PGD-40x5, got {text!r}. Write {name}, or {name} with numbers."
        )
    numbered: tuple[str, ...] = ATTACKS[name].numbers
    if len(numbers) > len(numbered):
        has = " and ".join(numbered) or "no number"
        raise ValueError(f"{name} takes {has} after its name, got {text!r}. Leave the others out.")
    settings: dict[str, Any] = dict(zip(numbered, map(int, numbers), strict=False))
    if variants:
        if not issubclass(ATTACKS[name], PGD):
            raise ValueError(
                f"expected FGSM, PGD or MIM after {'-'.join(variants)}, got {text!r}. {name} has no such variant."
            )
        changes = tuple(VARIANTS[v] for v in variants if v != "NI")
        settings |= {"variations": changes, "look_ahead": "NI" in variants, "keep": "last"}
    attack: Attack = ATTACKS[name](**settings)
    return attack


__all__ = [
    "ANYTHING",
    "APGD",
    "ATTACKS",
    "FGSM",
    "MIM",
    "PGD",
    "VARIANTS",
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
