"""Do perceptual budgets fool an audio-visual model, and are attacks within them heard and seen less than within L-infinity?

    avrobust study perceptual
FGSM and PGD on audio, on frames and on both, within budgets of equal L-infinity size and within perceptual ones: below the
clip's masking threshold (Qin et al. 2019), by frequency and by critical band; where frames have texture (Croce & Hein 2019);
by colour difference (as Zhao et al. 2020 measure it).  Budgets of each kind grow, so kinds are compared where they fool as
many clips, and where they are heard or seen as much.

PGD-10 against L-infinity at the same success, medians of 100 clips, one network and seed each.  Audio: below the threshold the
noise-to-mask ratio is -7.5 dB instead of 2.9 on the orchestra (45.5 % of 88 fooled; -10.4 [-12.0, -9.0]), -6.0 instead of 20.5 on
spoken digits (43.9 % of 99; -26.5 [-29.3, -24.3]), -6.3 instead of 37.9 on instruments (34.8 % of 66; -44.2 [-47.5, -40.7]); by bands
-12.2 [-13.8, -10.6], -31.0 [-33.6, -29.3], -47.3 [-50.3, -43.5].  The segmental SNR is lower too: -1.4 [-2.5, -0.0], -5.6 [-6.7, -3.8],
-2.5 [-5.9, 0.5].  Frames of the orchestra, photos of instruments: within texture delta E -0.40 [-0.74, -0.01] and -0.36 [-0.80, 0.03],
SSIM +0.005 [-0.003, 0.009] and +0.019 [0.004, 0.028]; within delta E neither differs (-0.15 [-0.48, 0.29] and -0.10 [-0.45, 0.28];
SSIM -0.003 [-0.009, 0.001] and -0.005 [-0.013, 0.005]).  docs/guide/perceptual.md has more.
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
