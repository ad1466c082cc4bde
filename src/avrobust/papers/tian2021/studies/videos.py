"""What the studies of Tian & Xu 2021 on real videos have in common: networks, attacks, budgets, inputs."""

from dataclasses import dataclass

from avrobust.attacks import FGSM, PGD
from avrobust.data.source import Source
from avrobust.defenses import ExFMem
from avrobust.media import ClipSpec
from avrobust.models.zoo import NetSpec
from avrobust.objectives import WithSimilarity, heat_shift
from avrobust.papers.tian2021.attacks import Published
from avrobust.papers.tian2021.budgets import TABLE1, TABLE3, curves, threat
from avrobust.papers.tian2021.defenses import published_memory
from avrobust.papers.tian2021.printed import PAPER
from avrobust.papers.tian2021.recipes import PUBLISHED, PUBLISHED_30, PUBLISHED_30_AVE, PUBLISHED_30_KINETICS
from avrobust.papers.tian2021.studies.standard import FUSIONS, POINTING, defenses, model_configs
from avrobust.study.plan import ModelConfig, Study, Sweep
from avrobust.study.shared import MOMENTUM, ONE_STEP, TEN_STEPS
from avrobust.training.recipe import Recipe
from avrobust.training.views import View

# Figure 3 goes from 0 to 0.012 with the same number for both modalities.
AXIS = (0.002, 0.004, 0.006, 0.008, 0.010, 0.012)
CURVES = curves(AXIS, AXIS)
PUBLISHED_MEMORY = "ExFMem published"
DEFENSES = defenses(PUBLISHED_MEMORY)


@dataclass(frozen=True)
class Settings:
    """What the paper's code has of its own for a dataset: its scripts' options, and its comments for Kinetics-Sounds.

    `clips` are those of its lists in train, val and test, each once.  `recipe` and `again` train a network, and train it again with a defense.  `columns` and `blend` are those of the
    feature memory, `cosine` is the weight of the similarity in what the attacker of defenses raises.
    """

    clips: tuple[int, int, int]
    recipe: Recipe
    again: Recipe
    columns: int = 1024
    blend: float = 0.5
    cosine: float = 1.0


SETTINGS = {
    "music": Settings((312, 104, 104), PUBLISHED, PUBLISHED, columns=288),
    "kinetics_sounds": Settings((9309, 3103, 3104), PUBLISHED_30, PUBLISHED_30_KINETICS, blend=0.6, cosine=0.8),
    "ave": Settings((3294, 401, 402), PUBLISHED_30, PUBLISHED_30_AVE),
}


PRINTED = {
    "music": "MIT-MUSIC",
    "kinetics_sounds": "Kinetics-Sounds",
}


def on(name: str, title: str, data: Source, *, seconds: float) -> Study:
    """The paper's experiments on one dataset, with its code's settings for it.

    `seconds` of each video are prepared, and training draws its stretches of 5.9 s from them.
    """
    assert data.dataset is not None
    settings = SETTINGS[data.dataset]
    return Study(
        name=name,
        title=title,
        paper=PAPER,
        benchmark=PRINTED.get(data.dataset),
        models=networks(settings),
        sweeps=sweeps(settings.cosine),
        tables=(TABLE1,),
        defenses=(TABLE3,),
        embedded=("AV", "MinSim"),
        showcase=threat(0.012, 0.012),
        data=data,
        listed=settings.clips,
        clip=ClipSpec(seconds=seconds, rate=11025, fps=8, size=246),
        view=View(samples=65_535, frames=1, size=224),
        seeds=(0, 1, 2),
    )


def networks(settings: Settings) -> tuple[ModelConfig, ...]:
    """The paper's networks; a defense's second training is as long as its first, as in the published code."""
    columns, blend = settings.columns, settings.blend
    return model_configs(
        NetSpec(visual_weights="microsoft/resnet-18", width=64, classifier_std=1e-4),
        more=settings.again.epochs,
        memory=ExFMem(columns=columns),
        published=(PUBLISHED_MEMORY, published_memory(columns, blend)),
        threats=TABLE1,
        recipe=settings.recipe,
        again=settings.again,
    )


def sweeps(cosine: float) -> tuple[Sweep, ...]:
    """The attacks of the paper's tables and figures; `cosine` is the weight of the similarity."""
    published = (Published("FGSM"), Published("PGD"), Published("MIM"))
    return (
        Sweep(("AV",), (ONE_STEP, TEN_STEPS, MOMENTUM, *published), TABLE1),
        Sweep(("AV",), (ONE_STEP, TEN_STEPS), sum(CURVES.values(), ())),
        Sweep(("A",), (ONE_STEP, TEN_STEPS), CURVES["A"]),
        Sweep(("V",), (ONE_STEP, TEN_STEPS), CURVES["V"]),
        Sweep((*FUSIONS, "A", "V", *DEFENSES), (ONE_STEP,), TABLE3),
        # The published code attacks defenses with the similarity in the objective; PGD shows what one step misses.
        Sweep((*FUSIONS, *DEFENSES), (FGSM(objective=WithSimilarity(cosine)), TEN_STEPS), TABLE3),
        Sweep(POINTING, (ONE_STEP, PGD(), PGD(objective=heat_shift)), TABLE1),
    )
