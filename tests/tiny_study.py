"""A study that takes seconds: `python tests/tiny_study.py OUT DATA` runs it, for tests that kill it."""

import sys
from dataclasses import replace
from pathlib import Path

from avrobust import FGSM, PGD, AVAutoAttack, Published
from avrobust.attacks import Transfer
from avrobust.data.orchestra import Orchestra
from avrobust.defenses import MIN_SIM, PCL, Broken, ExFMem, Prototypes
from avrobust.media import ClipSpec
from avrobust.models import NetSpec
from avrobust.objectives import WithSimilarity, heat_shift
from avrobust.papers.tian2021 import budgets as tian2021
from avrobust.study import ModelConfig, Study, Sweep
from avrobust.study.runner import run
from avrobust.training import View

BOTH = (tian2021.threat(0.012, 0.0), tian2021.threat(0.0, 0.048), tian2021.threat(0.006, 0.024))
NETWORK = NetSpec(width=16)

study = Study(
    name="tiny",
    title="A study that takes seconds",
    models=(
        ModelConfig("AV", NETWORK, role="baseline"),
        ModelConfig("A", replace(NETWORK, modality="A")),
        ModelConfig("V", replace(NETWORK, modality="V")),
        ModelConfig("MinSim", NETWORK, loss=MIN_SIM),
        ModelConfig("PCL", NETWORK, start="AV", epochs=1, loss=PCL(), feature_defense=Prototypes()),
        ModelConfig(
            "MinSim+ExFMem",
            NETWORK,
            start="MinSim",
            epochs=1,
            loss=MIN_SIM,
            feature_defense=ExFMem(columns=22),
            role="full_defense",
        ),
        ModelConfig("Attention", replace(NETWORK, fusion="attention"), start="AV", epochs=1),
        ModelConfig("Rounded", NETWORK, start="AV", epochs=0, feature_defense=Broken("rounded", 2.0)),
    ),
    sweeps=(
        Sweep(("AV",), (FGSM(), PGD(steps=2), Published("MIM", steps=2)), BOTH),
        Sweep(("A",), (FGSM(),), BOTH[:1]),
        Sweep(("V",), (FGSM(),), BOTH[1:2]),
        Sweep(("AV", "MinSim", "PCL", "MinSim+ExFMem"), (FGSM(objective=WithSimilarity()), FGSM()), BOTH),
        Sweep(("AV", "Rounded"), (FGSM(), AVAutoAttack(steps=2, queries=2, targets=1)), BOTH),
        Sweep(("Rounded",), (Transfer("AV", FGSM()),), BOTH),
        Sweep(("Attention",), (FGSM(), PGD(steps=2, objective=heat_shift)), BOTH),
    ),
    tables=(BOTH,),
    defenses=(BOTH,),
    embedded=("AV", "MinSim"),
    showcase=tian2021.threat(0.012, 0.048),
    data=Orchestra(train=3, val=1, test=2, size=48, seconds=1.0, fps=4),
    clip=ClipSpec(seconds=0.5, fps=4, size=40),
    view=View(samples=4096, frames=1, size=32),
    epochs=2,
    attacked=16,
    batch=16,
)

if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    run(study, Path(sys.argv[1]), data=Path(sys.argv[2]), progress=False)
