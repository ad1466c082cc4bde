"""Adversarial robustness of audio-visual models: attacks, defenses and evaluation.

    import avrobust as avr
    rows = avr.evaluate(model, batches, [avr.PGD(steps=40)], avr.Threat.linf(audio=0.002, visual="4/255"))
    print(rows.table())

`import avrobust` is quick: a name is imported when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avrobust.attacks import APGD as APGD
    from avrobust.attacks import FGSM as FGSM
    from avrobust.attacks import MIM as MIM
    from avrobust.attacks import PGD as PGD
    from avrobust.attacks import AVAutoAttack as AVAutoAttack
    from avrobust.attacks import Square as Square
    from avrobust.budget_check import BudgetError as BudgetError
    from avrobust.evaluation.certify import certify as certify
    from avrobust.evaluation.evaluator import evaluate as evaluate
    from avrobust.evaluation.loader import batches as batches
    from avrobust.evaluation.schema import Rows as Rows
    from avrobust.evaluation.versus import compare as compare
    from avrobust.objectives import cross_entropy as cross_entropy
    from avrobust.objectives import margin as margin
    from avrobust.papers.tian2021.attacks import Published as Published
    from avrobust.report.hub import save_to_hub as save_to_hub
    from avrobust.seeds import Seeds as Seeds
    from avrobust.threat import Ball as Ball
    from avrobust.threat import Threat as Threat
    from avrobust.types import AV as AV
    from avrobust.types import Batch as Batch
    from avrobust.types import Output as Output

__version__ = "0.2.0"

# The public names, by the module that holds them.
_MODULES = {
    # What a model gets, waveforms and frames with labels, and what it may return.
    "types": ("AV", "Batch", "Output"),
    # What an attacker may change: one ball per modality; an error for a clip outside it.
    "threat": ("Threat", "Ball"),
    "budget_check": ("BudgetError",),
    # How an attacker searches.
    "attacks": ("FGSM", "PGD", "MIM", "APGD", "Square", "AVAutoAttack"),
    # What an attacker increases.
    "objectives": ("cross_entropy", "margin"),
    # What your own attack draws random numbers from.
    "seeds": ("Seeds",),
    # Attacks on a model, and their results: one row per clip.
    "evaluation.evaluator": ("evaluate",),
    # What a smoothed model withstands for certain, beside attacks on it.
    "evaluation.certify": ("certify",),
    "evaluation.schema": ("Rows",),
    "evaluation.versus": ("compare",),
    # Your own loader, with its parts named.
    "evaluation.loader": ("batches",),
    # A checkpoint or a run, published with a card.
    "report.hub": ("save_to_hub",),
    # The attacks as the code of Tian & Xu 2021 runs them.
    "papers.tian2021.attacks": ("Published",),
}
# The packages that hold the rest, avr.models.pair for example, and where they lie.
_PACKAGES = {
    "attacks": "attacks",
    "certificates": "certificates",
    "corruptions": "corruptions",
    "data": "data",
    "defenses": "defenses",
    "evaluation": "evaluation",
    "limits": "limits",
    "media": "media",
    "models": "models",
    "objectives": "objectives",
    "study": "study",
    "tasks": "evaluation.tasks",
    "timing": "timing",
    "training": "training",
}
_MODULE = {name: module for module, names in _MODULES.items() for name in names}
__all__ = ["__version__", *_MODULE, *_PACKAGES]


def __getattr__(name: str) -> object:
    if name in _PACKAGES:
        return import_module(f"avrobust.{_PACKAGES[name]}")
    if name not in _MODULE:
        raise AttributeError(f"module 'avrobust' has no attribute {name!r}")
    return getattr(import_module(f"avrobust.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
