"""What a model is for, from the command line."""

from dataclasses import dataclass
from typing import Literal

from avrobust.cli.options import Maybe
from avrobust.data.manifest import Manifest
from avrobust.evaluation.tasks import Binary, Classification, Embedding, MultiLabel, Retrieval, Task


@dataclass(frozen=True)
class TaskOptions:
    """What the model is for, where it does not name one class per clip."""

    task: Maybe[Literal["classes", "multi-label", "binary", "embedding", "retrieval"]] = None
    """classes: one logit per class. multi-label: one logit per label. binary: one logit, above 0 for the second of two classes. embedding: a vector. retrieval: an AV of two vectors. Default: multi-label where clips have several labels, else classes."""
    tolerance: Maybe[float] = None
    """With --task embedding: how far the attacker has to move a vector to succeed, as Euclidean distance."""

    def of(self, manifest: Manifest) -> Task:
        """The task on these clips.  Raises `ValueError` where their labels, or the other options, do not fit it."""
        asked = self.task or ("multi-label" if manifest.multilabel else "classes")
        if (asked == "embedding") != (self.tolerance is not None):
            raise ValueError(
                f"expected --tolerance with --task embedding, and only there, got --task {asked} "
                f"{'without it' if self.tolerance is None else 'with it'}. Give both, or neither."
            )
        if asked in ("classes", "binary") and manifest.multilabel:
            raise ValueError(f"expected clips with one label each for --task {asked}, got several. Use multi-label.")
        if asked == "multi-label" and not manifest.multilabel:
            raise ValueError(
                f"expected clips with a column 'labels' for --task multi-label, got one class per clip in {manifest.root}. "
                "Give a table with several labels per clip, or leave out --task."
            )
        if asked == "binary" and len(manifest.classes) != 2:
            raise ValueError(
                f"expected two classes for --task binary, got {len(manifest.classes)} ({', '.join(manifest.classes)}). "
                "Name the negative and the positive one: --classes real,fake."
            )
        if self.tolerance is not None:
            return Embedding(self.tolerance)
        kinds = {"classes": Classification, "multi-label": MultiLabel, "binary": Binary, "retrieval": Retrieval}
        task: Task = kinds[asked]()
        return task
