"""Does integration strengthen robustness?  The main rows of Tian & Xu 2021 on the procedural orchestra, in minutes.

    avrobust study quick          # about 10 min on two AVX2 cores without a GPU, 2 x 2.6 GB
An audio-visual network (concat), an audio-only and a visual-only one, of half the paper's width and on smaller inputs,
trained from scratch on 1,100 clips; FGSM, PGD and MIM with audio, video or both attacked.  Budgets are the paper's and
larger ones: these networks lose little accuracy at the paper's visual budgets, so visual budgets grow until accuracy is
near chance.  Table 3's main defenses and the localisation network are short trainings from the trained network, each
compared with the undefended network trained for the same number of extra epochs; `standard` trains all of them in full.
What it finds, beside the paper's numbers, is in docs/paper.md.  Another number of threads rounds differently and trains another
network.
"""

from dataclasses import replace

from avrobust.attacks import FGSM, PGD, Quantized
from avrobust.defenses import MIN_SIM, ExFMem
from avrobust.evaluation.channels import Lossless, Mp4, Sent
from avrobust.objectives import WithSimilarity, heat_shift
from avrobust.papers.tian2021.attacks import Published
from avrobust.papers.tian2021.budgets import TABLE1, TABLE1_X4, TABLE3_X4, curves, threat
from avrobust.papers.tian2021.printed import PAPER
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import CLIP, MOMENTUM, NETWORK, ONE_STEP, TEN_STEPS, VIEW

# Visual budgets are four times the audio ones; the last two exceed the range of the paper's figure.
AUDIO = (0.003, 0.006, 0.012, 0.048, 0.096)
CURVES = curves(AUDIO, tuple(4 * a for a in AUDIO))
MORE = 2  # epochs of a training that starts from a trained network
PUSHED = PGD(steps=5)  # without early stopping: a clip that just crosses the decision boundary is restored by any file
DEFENSES = ("AV, extra epochs", "MinSim", "ExFMem", "MinSim+ExFMem")

study = Study(
    name="quick",
    title="Does integration strengthen robustness? The orchestra, in a few minutes",
    models=(
        ModelConfig("AV", NETWORK),
        ModelConfig("A", replace(NETWORK, modality="A")),
        ModelConfig("V", replace(NETWORK, modality="V")),
        ModelConfig("AV, extra epochs", NETWORK, start="AV", epochs=MORE, role="baseline"),
        ModelConfig("MinSim", NETWORK, start="AV", epochs=MORE, loss=MIN_SIM),
        ModelConfig("ExFMem", NETWORK, start="AV", epochs=MORE, feature_defense=ExFMem()),
        ModelConfig(
            "MinSim+ExFMem",
            NETWORK,
            start="MinSim",
            epochs=MORE,
            loss=MIN_SIM,
            feature_defense=ExFMem(),
            role="full_defense",
        ),
        ModelConfig("Attention", replace(NETWORK, fusion="attention"), start="AV", epochs=MORE),
    ),
    sweeps=(
        Sweep(("AV",), (ONE_STEP, TEN_STEPS, MOMENTUM, Published("FGSM"), Published("MIM")), TABLE1),
        Sweep(("AV",), (ONE_STEP, TEN_STEPS), TABLE1_X4),
        Sweep(("AV",), (ONE_STEP, TEN_STEPS), sum(CURVES.values(), ())),
        Sweep(("A",), (ONE_STEP, TEN_STEPS), CURVES["A"]),
        Sweep(("V",), (ONE_STEP, TEN_STEPS), CURVES["V"]),
        Sweep(("AV", "A", "V", *DEFENSES), (ONE_STEP,), TABLE3_X4),
        Sweep(("AV", *DEFENSES), (FGSM(objective=WithSimilarity()), TEN_STEPS), TABLE3_X4),
        Sweep(("Attention",), (PGD(),), TABLE1_X4),
        Sweep(("Attention",), (PGD(objective=heat_shift),), TABLE1_X4[2:]),
        Sweep(("AV",), (PUSHED,), TABLE1_X4[2:], sent=(Lossless(), Mp4())),
        Sweep(("AV",), (Sent(Lossless(), Quantized(replace(PUSHED, stop=True))),), TABLE1_X4[2:]),
    ),
    tables=(TABLE1, TABLE1_X4),
    defenses=(TABLE3_X4,),
    embedded=("AV", "MinSim"),
    showcase=threat(0.012, 0.048),
    paper=PAPER,
    clip=CLIP,
    view=VIEW,
    attacked=120,
)
