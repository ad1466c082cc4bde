"""What is certain about an audio-visual model: certified radii of audio, video and both, beside attacks on the same models.

    avrobust study certificates
Randomised smoothing with a Gaussian per modality (Cohen et al. 2019) and ablation of elements of each stream (MMCert, Wang
et al. 2024), of a network trained as usual and of networks trained on noisy and on ablated clips.  190,000 passes of a clip
forth and back in all.  What it finds is in docs/guide/certificates.md.
"""

from avrobust.attacks import ANYTHING, PGD
from avrobust.certificates import Ablation, Elements, Gaussian, Randomised, Smoothed
from avrobust.models.zoo import NetSpec
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import CLIP, TEN_STEPS, THREATS, VIEW
from avrobust.threat import Threat
from avrobust.training.recipe import cross_entropy

NETWORK = NetSpec(width=16)  # a quarter of the published width: every clip goes through it 1,100 times per certificate
BOTH = Gaussian(audio=0.03, visual=0.25)
# With the other stream as it is; fewer votes, as they only stand beside the one above.
ALONE = Gaussian(audio=0.03, draws=500), Gaussian(visual=0.25, draws=500)
ELEMENTS = Ablation(segments=32, kept_audio=4, grid=8, kept_visual=8)
# Perturbations of one standard deviation of the noise in either modality, and of twice as much in both.
NEAR, FAR = Threat.l2(audio=0.03, visual=0.25), Threat.l2(audio=0.06, visual=0.5)
WITHIN = (*NEAR.subsets(), FAR)
SEARCH = PGD(steps=10)
CHANGED = tuple(Smoothed(Elements(ELEMENTS, n, n, SEARCH), ELEMENTS, copies=8) for n in (1, 4))

study = Study(
    name="certificates",
    question="What is certain about an audio-visual model?",
    section="certified",
    title="Certified robustness to perturbations of audio, video and both, on the orchestra",
    models=(
        ModelConfig("AV", NETWORK),
        ModelConfig("Noise", NETWORK, loss=Randomised(cross_entropy, BOTH)),
        ModelConfig("Elements", NETWORK, loss=Randomised(cross_entropy, ELEMENTS)),
    ),
    sweeps=(
        Sweep(("Noise",), (BOTH, *ALONE), ()),
        Sweep(("Noise",), (Smoothed(SEARCH, BOTH, copies=8),), WITHIN),
        Sweep(("Elements",), (ELEMENTS, *CHANGED), (ANYTHING,)),
        Sweep(("AV",), (BOTH, ELEMENTS), ()),
        Sweep(("AV", "Noise"), (TEN_STEPS,), WITHIN),
    ),
    showcase=THREATS[2],
    clip=CLIP,
    view=VIEW,
    attacked=64,
)
