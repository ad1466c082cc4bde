"""Search inside a threat.  An attack is any callable (model, x, y, threat, seeds) -> adversarial signals."""

from avrobust.attacks.control import ANYTHING, Mute, Swap
from avrobust.attacks.gradient import FGSM, MIM, PGD
from avrobust.attacks.published import Published

__all__ = ["ANYTHING", "FGSM", "MIM", "PGD", "Mute", "Published", "Swap"]
