"""The parts of the page, in their order: one file and one template each."""

from avrobust.report.section import Section
from avrobust.report.sections import (
    accuracy,
    attribution,
    budget_use,
    certified,
    channels,
    claims,
    classes,
    curves,
    defenses,
    doubts,
    features,
    fusions,
    gallery,
    localisation,
    modality,
    models,
    natural,
    one_clip,
    perception,
    reproduce,
    robustness,
    samples,
    setup,
    summary,
    suspicion,
    task,
    timing,
    transfer,
)

SECTIONS: tuple[Section, ...] = tuple(
    module.SECTION
    for module in (
        summary, doubts, modality, accuracy, classes, task, curves, claims, attribution, budget_use, perception, fusions, defenses, robustness, suspicion, certified, channels,
        transfer, timing, natural, localisation, features, one_clip, gallery, samples, models, setup, reproduce,
    )
)  # fmt: skip
# Those that say something of models that do not classify.
OF_OTHER_TASKS = (
    summary.SECTION,
    doubts.SECTION,
    modality.OF_OTHER_TASKS,
    *(module.SECTION for module in (task, budget_use, perception, models, setup, reproduce)),
)
