"""What a model is for: one value per task, given to `evaluate` as `task`."""

from avrobust.evaluation.tasks.base import Gallery, Task
from avrobust.evaluation.tasks.classification import Classification
from avrobust.evaluation.tasks.embedding import Embedding, Retrieval
from avrobust.evaluation.tasks.regression import Regression
from avrobust.evaluation.tasks.yes_no import Binary, MultiLabel

__all__ = ["Binary", "Classification", "Embedding", "Gallery", "MultiLabel", "Regression", "Retrieval", "Task"]
