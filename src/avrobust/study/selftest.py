"""Does the evaluation rate broken defenses as broken, and an adversarially trained model as robust?

    avrobust selftest          # some minutes on two AVX2 cores without a GPU
One small network behind feature defenses that are broken on purpose: features rounded (no gradient), scaled until
softmax saturates (no gradient left), made noisy, mixed with those of the batch.  PCL, which is known to fall to
attacks that adapt.  And adversarial training, which is known to hold.  A detector of attacked modalities whose answers are
rounded, beside the same detector; certificates whose votes see one noise, or whose share of votes is taken for a probability,
beside one that holds: the broken ones, and they alone, are not reliable.
Ours, 48 attacked clips, means over attacks on audio, video and both, FGSM -> worst case: no defense 45.1 -> 28.5; Rounded
72.9 -> 27.8, Saturated 72.9 -> 28.5, Noisy 45.1 -> 27.1, Sociable 52.1 -> 33.3, all of them flagged; PCL 45.8 -> 34.7,
undecided; Adversarial 66.0 -> 58.3, rated more robust.
"""

from avrobust.attacks import PGD, AVAutoAttack, Square
from avrobust.certificates import Gaussian, Smoothed
from avrobust.certificates.broken import BrokenCertificate
from avrobust.defenses import FAST, PCL, Adversarial, Broken, Distance, Prototypes
from avrobust.defenses.broken import BrokenDetection
from avrobust.objectives import Undetected, margin
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import CLIP, NETWORK, ONE_STEP, TEN_STEPS, THREATS, VIEW
from avrobust.threat import Threat
from avrobust.training.recipe import cross_entropy

HALF = Threat.linf(audio=0.006, visual="0.024 normalised")  # of both: trained against beside the whole of either
BROKEN = {
    "Rounded": Broken("rounded", 2.0),
    "Saturated": Broken("saturated", 1e5),
    "Noisy": Broken("noisy", 0.5),
    "Sociable": Broken("sociable", 0.5),
}
HOLDS = "Adversarial"
# A detector whose answers are rounded, so that no attack learns to hide from it, and the detector itself.
BROKEN_DETECTOR, DETECTOR = "Rounded detector", "Detector"
HIDING = PGD(stop=True, objective=Undetected(margin))
# Votes on the same noise; shares of votes taken for probabilities; and noise and bound as they should be.
FIXED, SHARE, CERTIFICATE = (
    BrokenCertificate(audio=0.01, visual=0.2, select=10, draws=60, how="fixed"),
    BrokenCertificate(audio=0.01, visual=0.2, select=10, draws=20, how="estimate"),
    Gaussian(audio=0.01, visual=0.2, select=10, draws=60),
)
BROKEN_CERTIFICATES = FIXED, SHARE
# At a distance of 1.13, inside what sixty votes that are all alike certify: 1.23.
NEAR = Threat.l2(audio=0.008, visual=0.16)

study = Study(
    name="selftest",
    question="Does the harness see through defenses that do not defend?",
    title="Does the harness see through defenses that do not defend?",
    models=(
        ModelConfig("AV", NETWORK, role="baseline"),
        *(
            ModelConfig(name, NETWORK, start="AV", epochs=0, feature_defense=feature_defense)
            for name, feature_defense in BROKEN.items()
        ),
        ModelConfig(BROKEN_DETECTOR, NETWORK, start="AV", epochs=0, feature_defense=BrokenDetection()),
        ModelConfig(DETECTOR, NETWORK, start="AV", epochs=0, feature_defense=Distance()),
        ModelConfig("PCL", NETWORK, start="AV", epochs=2, loss=PCL(), feature_defense=Prototypes()),
        ModelConfig(
            HOLDS,
            NETWORK,
            start="AV",
            epochs=4,
            loss=Adversarial(cross_entropy, (Threat.linf(), *THREATS[:2], HALF, *THREATS), FAST, 1 / 3),
        ),
    ),
    sweeps=(
        Sweep(
            ("AV", *BROKEN, "PCL", HOLDS),
            (ONE_STEP, TEN_STEPS, Square(queries=40), AVAutoAttack(steps=10, targets=2, queries=40)),
            THREATS,
        ),
        Sweep((BROKEN_DETECTOR, DETECTOR), (TEN_STEPS, HIDING), THREATS),
        Sweep(("AV",), (CERTIFICATE, *BROKEN_CERTIFICATES), ()),
        Sweep(("AV",), tuple(Smoothed(PGD(steps=5), c, copies=4, votes=30) for c in (CERTIFICATE, FIXED)), (NEAR,)),
    ),
    tables=(THREATS,),
    defenses=(THREATS,),
    showcase=THREATS[2],
    clip=CLIP,
    view=VIEW,
    attacked=48,
)
