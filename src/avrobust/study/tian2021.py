"""What the studies of Tian & Xu 2021 on real videos have in common: networks, attacks, budgets, inputs."""

from dataclasses import replace

from avrobust.attacks import FGSM, PGD, Published
from avrobust.data.source import Source
from avrobust.defenses import PUBLISHED, ExFMem
from avrobust.media import ClipSpec
from avrobust.objectives import WithSimilarity, heat_shift
from avrobust.study.budgets import MOMENTUM, ONE_STEP, TABLE1, TABLE3, TEN_STEPS, curves
from avrobust.study.plan import Contestant, Study, Trial
from avrobust.study.standard import FUSIONS, POINTING, contestants, defenses
from avrobust.threat import Threat
from avrobust.training.recipe import RECIPES
from avrobust.training.views import View

# Figure 3 goes from 0 to 0.012 with the same number for both modalities.
AXIS = (0.002, 0.004, 0.006, 0.008, 0.010, 0.012)
CURVES = curves(AXIS, AXIS)
PUBLISHED_MEMORY = "ExFMem published"
DEFENSES = defenses(PUBLISHED_MEMORY)
TRIALS = (
    Trial(("AV",), (ONE_STEP, TEN_STEPS, MOMENTUM, Published("FGSM"), Published("PGD"), Published("MIM")), TABLE1),
    Trial(("AV",), (ONE_STEP, TEN_STEPS), sum(CURVES.values(), ())),
    Trial(("A",), (ONE_STEP, TEN_STEPS), CURVES["A"]),
    Trial(("V",), (ONE_STEP, TEN_STEPS), CURVES["V"]),
    Trial((*FUSIONS, "A", "V", *DEFENSES), (ONE_STEP,), TABLE3),
    # The published code attacks defenses with the similarity in the objective; PGD shows what one step misses.
    Trial((*FUSIONS, *DEFENSES), (FGSM(objective=WithSimilarity()), TEN_STEPS), TABLE3),
    Trial(POINTING, (ONE_STEP, PGD(), PGD(objective=heat_shift)), TABLE1),
)


def on(name: str, title: str, data: Source, *, recipe: str, columns: int, blend: float, seconds: float) -> Study:
    """The paper's experiments on one dataset.

    `columns` and `blend` are those of the published code's feature memory; `seconds` of each video are prepared,
    and training draws its stretches of 5.9 s from them.
    """
    return Study(
        name=name,
        title=title,
        contestants=networks(recipe, columns, blend),
        trials=TRIALS,
        tables=(TABLE1,),
        defenses=(TABLE3,),
        embedded=("AV", "MinSim"),
        showcase=Threat.tian2021(0.012, 0.012),
        data=data,
        clip=ClipSpec(seconds=seconds, rate=11025, fps=8, size=246),
        view=View(samples=65_535, frames=1, size=224),
        seeds=(0, 1, 2),
    )


def networks(recipe: str, columns: int, blend: float) -> tuple[Contestant, ...]:
    """The paper's networks; a defense's second training is as long as its first, as in the published code."""
    return contestants(
        width=64,
        more=RECIPES[recipe].epochs,
        memory=ExFMem(columns=columns),
        published=(PUBLISHED_MEMORY, replace(PUBLISHED, columns=columns, blend=blend)),
        threats=TABLE1,
        recipe=recipe,
        visual_weights="microsoft/resnet-18",
        classifier_std=1e-4,
    )
