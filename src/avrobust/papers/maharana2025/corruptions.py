"""Are audio-visual models more robust to natural corruptions and missing modalities, when nobody attacks?

    avrobust study corruptions
Fifteen kinds of corruption at five severities on audio, on video and on both (AVRobustBench, arXiv 2506.00358), clips
that miss a modality, and gaps.  An audio-visual, an audio-only and a visual-only network; beside the same number of extra
epochs, adversarial training, and training on clips that miss a modality: does either help where nobody attacks?  And the
audio-visual network with three kinds of test-time adaptation, which see no labels.
Ours (120 clips, 1 seed; means over 75 corruptions of audio, video, both), on the orchestra: audio-visual 85.1 [79.8, 90.3], 73.6
[68.6, 78.4], 70.6 [65.7, 75.1] of clean 87.5; audio-only 47.3 [40.3, 54.0] of 52.5; visual-only 53.0 [47.6, 58.5] of 69.2: integration
strengthens where nobody attacks, by 17.6 [9.6, 25.0] points or more.  On instruments: 68.2 [60.8, 75.3], 60.8 [53.9, 67.5], 58.9
[52.7, 65.1] of 67.5; 61.0 [54.2, 67.7] of 69.2; 37.4 [32.2, 42.9] of 50.8: by 21.5 [10.2, 32.2] or more over the video alone, over the
audio alone 7.2 [-4.1, 18.3] where audio is corrupted.  On words of one talking face, where the visual-only network stays at
chance: 70.9 [68.1, 73.5], 98.1 [95.4, 100], 70.9 [68.2, 73.4] of 98.3; 69.9 [67.6, 72.2] of 99.2.
Tent gains 13.6 points [8.1, 18.6] (orchestra) and 19.1 [14.5, 23.2] (words) where the paper finds minimal gains, and -4.8 [-13.7, 4.3] on
instruments; READ and selective entropy at most 0.5.  Adversarial training gains 7.6 [2.8, 12.1] over as many epochs on words, and
nothing shown on the others; training on clips that miss a modality gains nothing shown anywhere.  docs/guide/corruptions.md.
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
