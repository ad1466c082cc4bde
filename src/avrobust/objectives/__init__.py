"""What an attacker wants: a number per clip that it pushes UP, and when it has succeeded.  No budgets, no search.

An objective gets a model's `Output` and the labels, never the model.  Labels are what the objective understands: class
numbers (b), one float per label (b k), targets of a regression (b) or (b d).
"""

from avrobust.objectives.base import Loss, Need, Objective, Raised, Success, as_objective, display_name, needs_of
from avrobust.objectives.classification import (
    Targeted,
    correct,
    cross_entropy,
    dlr,
    dlr_towards,
    margin,
    margins,
    misclassified,
)
from avrobust.objectives.streams import WithSimilarity, cosine, heat_shift
from avrobust.objectives.tasks import (
    BinaryCrossEntropy,
    Deviation,
    EmbeddingShift,
    EmbeddingTowards,
    pair_apart,
)
from avrobust.objectives.undetected import Undetected, suspicion_of

__all__ = [
    "BinaryCrossEntropy",
    "Deviation",
    "EmbeddingShift",
    "EmbeddingTowards",
    "Loss",
    "Need",
    "Objective",
    "Raised",
    "Success",
    "Targeted",
    "Undetected",
    "WithSimilarity",
    "as_objective",
    "correct",
    "cosine",
    "cross_entropy",
    "display_name",
    "dlr",
    "dlr_towards",
    "heat_shift",
    "margin",
    "margins",
    "misclassified",
    "needs_of",
    "pair_apart",
    "suspicion_of",
]
