"""Search inside a threat.  An attack is any callable (model, x, y, threat, seeds) -> adversarial signals."""

from avrobust.attacks.adapt import Transfer
from avrobust.attacks.apgd import APGD
from avrobust.attacks.combine import AVAutoAttack
from avrobust.attacks.control import ANYTHING, Elsewhere, Mute, Noise, Swap
from avrobust.attacks.gradient import FGSM, MIM, PGD
from avrobust.attacks.saved import Saved
from avrobust.attacks.square import Square

__all__ = [
    "ANYTHING",
    "APGD",
    "FGSM",
    "MIM",
    "PGD",
    "AVAutoAttack",
    "Elsewhere",
    "Mute",
    "Noise",
    "Saved",
    "Square",
    "Swap",
    "Transfer",
]
