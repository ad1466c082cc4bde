"""The study of pretraining as a value; the weights themselves are in test_efficientnet.py."""

from avrobust.cli.studies import named
from avrobust.models.visual import LITE0


def test_each_model_differs_from_the_first_in_one_thing() -> None:
    study = named("pretrained")
    models = {c.name: c for c in study.models}
    assert {name for name, c in models.items() if c.spec.visual_weights} == set(models) - {
        "A",
        "AV, random weights",
        "AV, ResNet-18",
    }
    assert models["AV"].spec.visual_weights == LITE0
    quick = next(c for c in named("quick").models if c.name == "AV")
    assert (models["AV, ResNet-18"].spec, models["AV, ResNet-18"].recipe) == (quick.spec, quick.recipe)
    frozen = [name for name, c in models.items() if c.recipe is not None and c.recipe.lr.visual == 0]
    assert frozen == ["AV, frozen"]
    later = {name: c for name, c in models.items() if c.start}
    assert {(c.start, c.epochs, c.recipe) for c in later.values()} == {("AV", 2, models["AV"].recipe)}


def test_every_audio_visual_model_meets_both_attacks_at_the_paper_s_budgets() -> None:
    study = named("pretrained")
    for name in (c.name for c in study.models if c.spec.modality == "AV"):
        cells = [c for c in study.cells(name, seed=0) if c.attack]
        met = {(c.attack_name, c.threat.subset, max(c.threat.audio.eps, c.threat.visual.eps)) for c in cells}
        attacks, subsets, budgets = (set(part) for part in zip(*met, strict=True))
        assert attacks == {"FGSM", "PGD-10"} and subsets == {"A", "V", "AV"} and budgets == {0.006, 0.012}
        assert len(met) == len(cells) == 12
