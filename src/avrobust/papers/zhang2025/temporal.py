"""Do attacks that exploit time and the other modality transfer better?  Zhang et al. 2025 on the procedural orchestra.

    avrobust study temporal
Four networks of the paper's kind; attacks white-box and transferred, delays and outages, masks at the same and at different
times, adversarial training with the curriculum and without.  What it finds, beside what the paper claims, is in
docs/guide/temporal.md.

On networks that we looked at once, a tenth of the weights of the terms left MIM nearly as it is, ten times the weights weakened
it, and neither the other readings of L_M and L_T nor unchanged clips transferred better.
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
