"""What can be done about attacks: losses to train with, and feature defenses between the encoders and the fusion."""

from avrobust.defenses.adversarial import FAST, Adversarial
from avrobust.defenses.broken import Broken, Disguise
from avrobust.defenses.memory import PUBLISHED, ExFMem, Memory, diagnosis
from avrobust.defenses.pcl import PCL, Centres, Prototypes
from avrobust.defenses.similarity import MAX_SIM, MIN_SIM, Similarity
from avrobust.defenses.sparse import Dictionary, Solution, lasso, published_ista

__all__ = [
    "FAST",
    "MAX_SIM",
    "MIN_SIM",
    "PCL",
    "PUBLISHED",
    "Adversarial",
    "Broken",
    "Centres",
    "Dictionary",
    "Disguise",
    "ExFMem",
    "Memory",
    "Prototypes",
    "Similarity",
    "Solution",
    "diagnosis",
    "lasso",
    "published_ista",
]
