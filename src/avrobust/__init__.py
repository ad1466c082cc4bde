"""Does hearing help a model see, and seeing help it hear, when someone attacks what it hears, sees, or both?

    import avrobust as avr
    rows = avr.evaluate(model, batches, [avr.PGD(steps=40)], avr.Threat.linf(audio=0.002, visual="4/255"))
    print(rows.table())

Names are imported when they are first used, so that `import avrobust` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avrobust.attacks import APGD, FGSM, MIM, PGD, AVAutoAttack, Square
    from avrobust.evaluation.evaluator import evaluate
    from avrobust.evaluation.schema import Rows
    from avrobust.objectives import cross_entropy, margin
    from avrobust.papers.tian2021.attacks import Published
    from avrobust.seeds import Seeds
    from avrobust.threat import Ball, BudgetError, Threat
    from avrobust.types import AV, Batch

__version__ = "0.1.0"

_HOME = {
    "AV": "types",
    "Batch": "types",
    "Seeds": "seeds",
    "Ball": "threat",
    "BudgetError": "threat",
    "Threat": "threat",
    "cross_entropy": "objectives",
    "margin": "objectives",
    "APGD": "attacks",
    "AVAutoAttack": "attacks",
    "FGSM": "attacks",
    "MIM": "attacks",
    "PGD": "attacks",
    "Published": "papers.tian2021.attacks",
    "Square": "attacks",
    "Rows": "evaluation.schema",
    "evaluate": "evaluation.evaluator",
}
__all__ = [
    "APGD",
    "AV",
    "FGSM",
    "MIM",
    "PGD",
    "AVAutoAttack",
    "Ball",
    "Batch",
    "BudgetError",
    "Published",
    "Rows",
    "Seeds",
    "Square",
    "Threat",
    "__version__",
    "cross_entropy",
    "evaluate",
    "margin",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'avrobust' has no attribute {name!r}")
    return getattr(import_module(f"avrobust.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
