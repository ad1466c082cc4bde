"""Do attacks that exploit time and the other modality transfer better?  Zhang et al. 2025 on the procedural orchestra.

    avrobust study temporal
Paper, Kinetics-Sounds: TIA 15.7 points over the best baseline, TMA 95.2 % attack success on average; raising the temporal
variation instead, 82.3 to 86.7 % white-box and 54.9 to 50.5 % transferred, five steps.
Ours (orchestra, --attacked 300, one seed, six epochs, both attacked within THREATS, five steps).  Attack success in per cent on AcA, of 249 |
crafted there, on AsR, RcA and RsR together, of 744 pairs | on RsR, of 250 | crafted there, on AcA, of 249:
FGSM 71.9 | 13.6 | 76.8 | 4.8, PGD 83.5 | 18.1 | 90.0 | 4.8, MIM 81.5 | 17.5 | 88.4 | 4.8, DI 68.7 | 16.5 | 77.6 | 5.2, TI 53.8 | 16.3 | 56.8 | 8.4,
SI 73.9 | 15.9 | 66.4 | 4.8, NI 83.5 | 18.1 | 90.0 | 4.8, consecutive 66.7 | 13.6 | 72.0 | 4.4, TIA 55.8 | 11.3 | 56.4 | 4.0, TIA that raises the
variation 57.0 | 12.2 | 59.2 | 4.4, MMA 68.7 | 14.9 | 76.4 | 4.8, CE + cos 75.9 | 16.4 | 68.4 | 4.4, TMA 53.0 | 11.0 | 56.4 | 4.4.
Clips fool the network that shares audio encoder and fusion (RcA, 25 to 44 %) and hardly the others (3 to 13 %).  By claim, in points
of accuracy that the first leaves less than the second, 300 clips, adjusted within families:
- TIA against MIM, transferred: the opposite from AcA, -5.2 [-8.3, -2.1]; from RsR -0.7 [-2.6, 1.3].
- MMA against MIM, transferred: not shown, -2.1 [-4.7, 0.5] and 0.0 [-1.4, 1.4].
- TMA against its halves, transferred: the opposite against MMA from AcA, -3.3 [-6.2, -0.5]; else not shown.
- Variation raised against lowered, white-box: not shown, 1.7 [-3.3, 6.6] on AcA, 2.3 [-1.7, 6.4] on RsR; lowered against raised,
  transferred: not shown, -0.9 [-3.0, 1.3] and -0.7 [-2.6, 1.3].
- MMA against CE + cos: white-box the opposite on AcA, -6.0 [-11.5, -0.5], and as claimed on RsR, 6.6 [0.6, 12.6]; transferred not shown.
- Masks on video against audio: the opposite on all four, audio hurts more by 16.2 [8.6, 23.9] (RsR) to 57.9 [48.8, 67.1] (AcA) with a quarter
  masked.  Masks at the same time against different times: not shown on any, -3.6 [-11.7, 4.5] to 1.0 [-4.5, 6.4].
- Curriculum against adversarial training alone, mean of A, V and AV in the worst case: the opposite, 55.6 % [50.8, 60.2] against 60.2
  [55.4, 64.8], -4.6 [-7.0, -2.3]; extra epochs 36.0 [32.0, 40.2], so AT gains 24.1 [20.4, 27.7] over them, and the curriculum 19.4 [15.7, 23.1].
Other readings: a tenth of the weights leaves MIM nearly as it is (MMA 81.9, TIA 62.2 on AcA), ten times the weights weaken it (31.7, 29.7);
L_M as quoted or of predictions 81.1, L_T as variance 60.6, TIA on unchanged clips 65.1; none transfers better (2.0 to 5.2 of 250 on RsR).
On real clips, --attacked 100.  Spoken digits with faces (0.45 s, four frames; no network looks at the frames: 4/255 on them fools
AcA on none) | instruments with photos (--view.frames 1), from AcA to 3 victims and from RsR to AcA:
- success of MIM 29.7 of 300 and 9.0 of 100 | 46.4 of 239 and 24.1 of 79; of TIA 16.0 and 7.0 | 38.5 and 25.3; of MMA 30.3 and 7.0 | 45.2 and
  22.8; of TMA 15.3 and 4.0 | 39.3 and 24.1;
- TIA against MIM the opposite from AcA, -13.4 [-19.9, -6.9] | -6.5 [-12.7, -0.3]; from RsR not shown.  MMA not shown.  TMA against MMA the
  opposite from AcA, -14.7 [-21.3, -8.1] | not shown, -5.2 [-12.2, 1.8];
- variation raised, white-box: shown on RsR, 12.7 [1.3, 24.2], and not on AcA, 10.8 [-0.1, 21.7] | not shown, -2.9 [-10.7, 4.8] and -2.0 [-12.1, 8.2];
- MMA against CE + cos, white-box: the opposite on RsR, -33.3 [-47.9, -18.8], not shown on AcA, 4.9 [-3.8, 13.6] | not shown;
- masks on video against audio: the opposite on all four with half masked (-32.4 to -52.0) | not shown; at the same time: not shown | not shown;
- curriculum against AT: the opposite, 56.7 against 66.3, -9.5 [-15.3, -3.7] | not shown, 44.7 against 45.3, -0.7 [-5.6, 4.3]; AT over extra
  epochs 28.4 [21.6, 35.3] | 12.1 [6.1, 18.1].
Audio 40 ms late at worst leaves AcA 54.3 % of 300 [48.7, 59.9], 80 ms 21.7 [17.4, 26.7]; frames up to 600 ms late 82.7 [78.0, 86.5].
"""

from dataclasses import replace

from avrobust.attacks import ANYTHING, FGSM, PGD, Diverse, Misaligned, Scaled, Transfer, Translated
from avrobust.corruptions import Gap
from avrobust.defenses import Adversarial
from avrobust.media import ClipSpec
from avrobust.papers.zhang2025.attacks import MMA, TIA, TMA
from avrobust.papers.zhang2025.claims import CHANGED_ONLY, OPPOSITE, PAPER, PLAIN, TOGETHER
from avrobust.papers.zhang2025.curriculum import Curriculum, PartialFrames, Schedule
from avrobust.papers.zhang2025.networks import SmallSpec
from avrobust.papers.zhang2025.objectives import TemporalAndModality
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.threat import Threat
from avrobust.timing import Delay, Outage
from avrobust.training.recipe import OURS, cross_entropy
from avrobust.training.views import View

CLIP = ClipSpec(seconds=1.75, rate=11025, fps=4, size=54)
VIEW = View(samples=12_288, frames=4, size=48)
THREATS = Threat.linf(audio=0.004, visual="4/255").subsets()
JOINT = THREATS[2:]
NONE = Threat.linf()
DELAYS = tuple(Threat(Delay(ms), NONE.visual) for ms in (20.0, 40.0, 80.0, 160.0, 320.0))
FRAME_DELAYS = tuple(Threat(NONE.audio, Delay(ms, edge="repeat")) for ms in (300.0, 600.0))
OUTAGES = tuple(Threat(Outage(ms), NONE.visual) for ms in (100.0, 300.0))
MORE = 2  # epochs of a training that starts from a trained network
STEPS = 5  # those of the authors' answer about the sign of the temporal term

NETWORKS = {
    spec.short: spec
    for spec in (
        SmallSpec(visual="alexnet", audio="alexnet", fusion="concat"),
        SmallSpec(visual="alexnet", audio="resnet", fusion="sum"),
        SmallSpec(visual="resnet", audio="alexnet", fusion="concat"),
        SmallSpec(visual="resnet", audio="resnet", fusion="sum"),
    )
}
FIRST, LAST = "AcA", "RsR"  # the surrogate and the victim of the authors' answer
DEFENDED = ("extra epochs", "AT", "curriculum AT")

IFGSM = PGD(steps=STEPS, random_start=False, step=1 / STEPS, keep="last")
MIFGSM = replace(PLAIN, steps=STEPS)
BASELINES = (
    FGSM(),
    IFGSM,
    MIFGSM,
    *(replace(MIFGSM, variations=(v,)) for v in (Diverse(), Translated(), Scaled(3))),
    replace(MIFGSM, look_ahead=True),
)
FOUND = (*BASELINES, *(replace(a, steps=STEPS) for a in (CHANGED_ONLY, TIA(), OPPOSITE, MMA(), TOGETHER, TMA())))
# The sweep of both weights, and other readings of the text.
READINGS = (
    *(TIA(STEPS, objective=TemporalAndModality(temporal=w)) for w in (0.1, 10.0)),
    TIA(STEPS, objective=TemporalAndModality(temporal=1.0, form="variance")),
    TIA(STEPS, variations=()),
    *(MMA(STEPS, objective=TemporalAndModality(modality=w)) for w in (0.1, 10.0)),
    MMA(STEPS, objective=TemporalAndModality(modality=1.0, level="predictions")),
    MMA(STEPS, objective=TemporalAndModality(modality=1.0, level="as quoted")),
)
IN_TRAINING = TMA(steps=2, variations=())
RECIPE = replace(OURS, epochs=6)

study = Study(
    name="temporal",
    question="Do attacks that exploit time and the other modality transfer better?",
    section="transfer",
    title="Temporal and cross-modal attacks (Zhang et al. 2025), on the orchestra",
    models=(
        *(ModelConfig(name, spec, RECIPE) for name, spec in NETWORKS.items()),
        ModelConfig("extra epochs", NETWORKS[FIRST], RECIPE, start=FIRST, epochs=MORE, role="baseline"),
        ModelConfig(
            "AT", NETWORKS[FIRST], RECIPE, start=FIRST, epochs=MORE, loss=Adversarial(cross_entropy, THREATS, IN_TRAINING)
        ),
        ModelConfig(
            "curriculum AT", NETWORKS[FIRST], RECIPE, start=FIRST, epochs=MORE,
            loss=Curriculum(Adversarial(cross_entropy, THREATS, IN_TRAINING), steps=Schedule(1, 3)),
        ),
    ),
    sweeps=(
        Sweep((FIRST, LAST), FOUND, JOINT),
        Sweep(tuple(m for m in NETWORKS if m != FIRST), tuple(Transfer(FIRST, a) for a in FOUND), JOINT),
        Sweep((FIRST,), tuple(Transfer(LAST, a) for a in FOUND), JOINT),
        Sweep((FIRST,), READINGS, JOINT),
        Sweep((LAST,), tuple(Transfer(FIRST, a) for a in READINGS), JOINT),
        Sweep((FIRST, *DEFENDED), (IFGSM, TMA(STEPS), PartialFrames(MIFGSM)), THREATS),
        Sweep((FIRST, LAST), (Misaligned(20.0),), (*DELAYS, *FRAME_DELAYS, *OUTAGES)),
        Sweep(tuple(NETWORKS), tuple(Gap(share, together) for share in (0.25, 0.5) for together in (True, False)), ANYTHING.subsets()),
    ),
    tables=(THREATS,),
    defenses=(THREATS,),
    showcase=THREATS[2],
    paper=PAPER,
    clip=CLIP,
    view=VIEW,
    attacked=60,
)  # fmt: skip
