"""Do perceptual budgets fool an audio-visual model, and are attacks within them heard and seen less than within L-infinity?

    avrobust study perceptual
FGSM and PGD on audio, on frames and on both, within budgets of equal L-infinity size and within perceptual ones: below the
clip's masking threshold (Qin et al. 2019), by frequency and by critical band; where frames have texture (Croce & Hein 2019);
by colour difference (as Zhao et al. 2020 measure it).  Budgets of each kind grow, so kinds are compared where they fool as
many clips, and where they are heard or seen as much.  What it finds is in docs/guide/perceptual.md.
"""

from itertools import chain

from avrobust.attacks import FGSM, PGD
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import CLIP, NETWORK, VIEW
from avrobust.threat import Threat

AUDIO = (
    (0.0015, 0.003, 0.006, 0.012),
    tuple(f"masking threshold {dB:+d} dB" for dB in (-24, -18, -12, -6)),
    tuple(f"masking threshold by bands {dB:+d} dB" for dB in (-12, -6, 0)),
)
VISUAL = (
    ("1/255", "2/255", "4/255", "8/255"),
    tuple(f"{kappa} texture" for kappa in (0.02, 0.05, 0.1, 0.2)),
    tuple(f"{difference} delta E" for difference in (1, 2, 4, 8)),
)
# Along the ladders, from where each kind begins to fool.
BOTH = tuple(
    Threat.linf(a, v)
    for kinds in zip(AUDIO, VISUAL, strict=True)
    for a, v in zip(kinds[0][1:3], kinds[1][1:3], strict=True)
)
EVEN, PERCEPTUAL = Threat.linf(AUDIO[0][3], VISUAL[0][2]), Threat.linf(AUDIO[1][2], VISUAL[2][2])

study = Study(
    name="perceptual",
    question="Do perceptual budgets hide attacks better than L-infinity?",
    section="perception",
    title="Perceptual budgets, on the orchestra",
    models=(ModelConfig("AV", NETWORK),),
    sweeps=(
        Sweep(
            ("AV",),
            (FGSM(), PGD()),
            (
                *(Threat.linf(audio=a) for a in chain(*AUDIO)),
                *(Threat.linf(visual=v) for v in chain(*VISUAL)),
                *BOTH,
                *EVEN.subsets(),
                *PERCEPTUAL.subsets(),
            ),
        ),
    ),
    tables=(EVEN.subsets(), PERCEPTUAL.subsets()),
    showcase=PERCEPTUAL,
    clip=CLIP,
    view=VIEW,
    attacked=100,
)
