"""Certificates: what a vote over randomised copies of a clip guarantees against every perturbation up to a size.

A certificate turns a model into its smoothed model: the class that most randomised copies of a clip are given.  Two of them:
`Gaussian` adds noise (perturbations measured in L2), `Ablation` shows few elements of each stream (perturbations counted in
elements).  Either covers both modalities at once, each with its own size.
"""

from avrobust.certificates.ablation import Ablation
from avrobust.certificates.base import Certificate
from avrobust.certificates.bounds import lower, upper
from avrobust.certificates.elements import Elements
from avrobust.certificates.gaussian import Gaussian
from avrobust.certificates.smoothed import Smoothed
from avrobust.certificates.training import Randomised

__all__ = ["Ablation", "Certificate", "Elements", "Gaussian", "Randomised", "Smoothed", "lower", "upper"]
