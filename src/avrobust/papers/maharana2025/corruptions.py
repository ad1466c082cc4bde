"""Are audio-visual models more robust to natural corruptions and missing modalities, when nobody attacks?

    avrobust study corruptions
Fifteen kinds of corruption at five severities on audio, on video and on both (AVRobustBench, arXiv 2506.00358), clips
that miss a modality, and gaps.  An audio-visual, an audio-only and a visual-only network; beside the same number of extra
epochs, adversarial training, and training on clips that miss a modality: does either help where nobody attacks?  And the
audio-visual network with three kinds of test-time adaptation, which see no labels.
What it finds is in docs/guide/corruptions.md.
"""

from dataclasses import replace

from avrobust.attacks import ANYTHING
from avrobust.corruptions import Gap, Missing, corruptions
from avrobust.defenses import Adversarial, Read, Selective, Tent
from avrobust.papers.maharana2025.claims import PAPER
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
from avrobust.training.recipe import cross_entropy

MISSED = ANYTHING.only("A"), ANYTHING.only("V")
RATES = (0.25, 0.5, 0.75, 1.0)
TRAINED = ("AV", "AV, extra epochs", "Adversarial", "Missing", "A", "V")
ADAPTING = {f"AV + {a.name}": a for a in (Tent(), Read(), Selective())}

study = Study(
    name="corruptions",
    question="Does integration strengthen robustness where nobody attacks?",
    section="natural",
    title="Natural corruptions and missing modalities, on the orchestra",
    models=(
        ModelConfig("AV", NETWORK),
        ModelConfig("A", replace(NETWORK, modality="A")),
        ModelConfig("V", replace(NETWORK, modality="V")),
        EXTRA_EPOCHS,
        ADVERSARIAL,
        # a third of the clips without audio, a third without video: the "attack" is that a modality is missing
        ModelConfig(
            "Missing", NETWORK, start="AV", epochs=MORE, loss=Adversarial(cross_entropy, MISSED, Missing(2 / 3))
        ),
        *(ModelConfig(name, NETWORK, start="AV", epochs=0, adaptation=a) for name, a in ADAPTING.items()),
    ),
    sweeps=(
        Sweep((*TRAINED, *ADAPTING), (*corruptions(), *map(Missing, RATES), *map(Gap, RATES)), ANYTHING.subsets()),
        Sweep(TRAINED, (ONE_STEP, TEN_STEPS), THREATS),
    ),
    tables=(THREATS,),
    defenses=(THREATS,),
    showcase=THREATS[2],
    paper=PAPER,
    clip=CLIP,
    view=VIEW,
    attacked=120,
)
