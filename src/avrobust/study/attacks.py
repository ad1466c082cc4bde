"""The attacks that studies share."""

from avrobust.attacks import FGSM, MIM, PGD

# Tables count which clips survive, so a clip that is wrong is left alone.
ONE_STEP, TEN_STEPS, MOMENTUM = FGSM(), PGD(stop=True), MIM(stop=True)
