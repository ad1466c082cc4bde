"""Attacks, inputs and the network that several studies share."""

from avrobust.attacks import FGSM, MIM, PGD
from avrobust.defenses import FAST, Adversarial
from avrobust.media import ClipSpec
from avrobust.models.zoo import NetSpec
from avrobust.study.plan import ModelConfig
from avrobust.threat import Threat
from avrobust.training.recipe import cross_entropy
from avrobust.training.views import View

# Tables count which clips survive, so a clip that is wrong is left alone.
ONE_STEP, TEN_STEPS, MOMENTUM = FGSM(), PGD(stop=True), MIM(stop=True)

# Inputs of the orchestra on which small networks are trained and attacked within minutes on a CPU.
CLIP = ClipSpec(seconds=1.75, rate=11025, fps=4, size=72)
VIEW = View(samples=12_288, frames=1, size=64)
NETWORK = NetSpec(width=32)  # half the width of the published one
# Where half of the undefended network's answers are lost.
THREATS = Threat.linf(audio=0.012, visual="0.048 normalised").subsets()

# What a defense is compared with, where it trains on for as many epochs from the same start.
MORE = 4
EXTRA_EPOCHS = ModelConfig("AV, extra epochs", NETWORK, start="AV", epochs=MORE, role="baseline")
ADVERSARIAL = ModelConfig(
    "Adversarial", NETWORK, start="AV", epochs=MORE, loss=Adversarial(cross_entropy, THREATS, FAST, ramp=1 / 3)
)
