"""Does it help a model to know which modality is attacked?

    avrobust study aware
Tian & Xu 2021 end with "attacked modality-aware predictions" as future work.  Gates that fall back on the modality that they trust,
with five detectors, on networks that are trained adversarially; beside adversarial training alone, within the attacked budget
and within twice that, and the same number of extra epochs.  Attacks know detector and gate.  Clips without a modality show what
a gate that never errs could keep.
What it finds is in docs/guide/aware.md.
"""

from avrobust.attacks import ANYTHING, PGD, AVAutoAttack
from avrobust.corruptions import Missing
from avrobust.defenses import FAST, THREE_STEPS, Disagreement, Distance, ExFMem, Gate, Learned, Recombined, Sensitivity
from avrobust.objectives import Undetected, margin
from avrobust.study.aware_claims import ADVERSARIAL_TWICE, CLAIMS, RECOMBINED, RECOMBINED_TWICE, TWICE
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import (
    ADVERSARIAL,
    CLIP,
    EXTRA_EPOCHS,
    MORE,
    NETWORK,
    ONE_STEP,
    TEN_STEPS,
    THREATS,
    VIEW,
)

DETECTORS = {
    "distance": Distance(),
    "disagreement": Disagreement(),
    "sensitivity": Sensitivity(),
    "odd one out": Learned(),
    "learned": Learned(THREE_STEPS, THREATS, rounds=2),
}
GATED = {f"{RECOMBINED}, gate ({name})": Gate(detector) for name, detector in DETECTORS.items()}
UNDEFENDED = "AV, gate (sensitivity)"  # a gate alone
MEMORY = f"{RECOMBINED} + ExFMem"
TRAINED = (EXTRA_EPOCHS.name, ADVERSARIAL.name, ADVERSARIAL_TWICE.name, RECOMBINED, RECOMBINED_TWICE)

study = Study(
    name="aware",
    question="Does it help to know which modality is attacked?",
    section="claims",
    title="Attacked-modality-aware prediction, on the orchestra",
    models=(
        ModelConfig("AV", NETWORK),
        EXTRA_EPOCHS,
        ADVERSARIAL,
        ADVERSARIAL_TWICE,
        ModelConfig(RECOMBINED, NETWORK, start="AV", epochs=MORE, loss=Recombined(THREATS[2], FAST, ramp=1 / 3)),
        ModelConfig(RECOMBINED_TWICE, NETWORK, start="AV", epochs=MORE, loss=Recombined(TWICE[2], FAST, ramp=1 / 3)),
        *(ModelConfig(name, NETWORK, start=RECOMBINED, epochs=0, feature_defense=gate) for name, gate in GATED.items()),
        ModelConfig(MEMORY, NETWORK, start=RECOMBINED, epochs=0, feature_defense=ExFMem()),
        ModelConfig(UNDEFENDED, NETWORK, start="AV", epochs=0, feature_defense=Gate(DETECTORS["sensitivity"])),
    ),
    sweeps=(
        Sweep(
            (*TRAINED, *GATED, UNDEFENDED, MEMORY),
            (ONE_STEP, TEN_STEPS, AVAutoAttack(steps=8, targets=1, queries=20)),
            THREATS,
        ),
        Sweep((*GATED, UNDEFENDED), (PGD(stop=True, objective=Undetected(margin)),), THREATS),
        Sweep(TRAINED, (Missing(1.0),), ANYTHING.subsets()[:2]),
    ),
    tables=(THREATS,),
    defenses=(THREATS,),
    paper=CLAIMS,
    showcase=THREATS[2],
    clip=CLIP,
    view=VIEW,
    attacked=120,
)
