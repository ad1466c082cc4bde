"""Training: views of clips, recipes, the loop, checkpoints."""

from avrobust.files import CheckpointError
from avrobust.training.checkpoint import load, save, weights_sha256
from avrobust.training.identity import TrainingError
from avrobust.training.loop import train
from avrobust.training.recipe import FINE_TUNE, Recipe, cross_entropy
from avrobust.training.state import Epoch, Trained
from avrobust.training.views import Augment, Clips, StoredBatches, View, batches, window

__all__ = [
    "FINE_TUNE",
    "Augment",
    "CheckpointError",
    "Clips",
    "Epoch",
    "Recipe",
    "StoredBatches",
    "Trained",
    "TrainingError",
    "View",
    "batches",
    "cross_entropy",
    "load",
    "save",
    "train",
    "weights_sha256",
    "window",
]
