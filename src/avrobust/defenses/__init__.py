"""Defenses: losses to train with, feature defenses between the encoders and the fusion, and adaptation at test time."""

from avrobust.defenses.adaptation import Adaptation, Read, Selective, Tent
from avrobust.defenses.adversarial import FAST, THREE_STEPS, Adversarial
from avrobust.defenses.broken import Broken, BrokenDefense
from avrobust.defenses.detection import Detection, Detector, Distance, Learned, Watch
from avrobust.defenses.disagreement import Disagreement
from avrobust.defenses.gate import Gate, Gated
from avrobust.defenses.memory import ExFMem, Memory, diagnosis
from avrobust.defenses.pcl import PCL, Centres, Prototypes
from avrobust.defenses.recombined import Recombined
from avrobust.defenses.sensitivity import Sensitivity
from avrobust.defenses.similarity import MAX_SIM, MIN_SIM, Similarity
from avrobust.defenses.sparse import Dictionary, Lasso, Solution, lasso
from avrobust.defenses.weights import WeightsAttacked

__all__ = [
    "FAST",
    "MAX_SIM",
    "MIN_SIM",
    "PCL",
    "THREE_STEPS",
    "Adaptation",
    "Adversarial",
    "Broken",
    "BrokenDefense",
    "Centres",
    "Detection",
    "Detector",
    "Dictionary",
    "Disagreement",
    "Distance",
    "ExFMem",
    "Gate",
    "Gated",
    "Lasso",
    "Learned",
    "Memory",
    "Prototypes",
    "Read",
    "Recombined",
    "Selective",
    "Sensitivity",
    "Similarity",
    "Solution",
    "Tent",
    "Watch",
    "WeightsAttacked",
    "diagnosis",
    "lasso",
]
