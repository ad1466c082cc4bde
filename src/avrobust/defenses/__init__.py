"""What can be done about attacks: losses to train with, and guards between the encoders and the fusion."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from avrobust.defenses.memory import PUBLISHED, ExFMem, Memory, diagnosis
from avrobust.defenses.pcl import PCL, Centres, Prototypes
from avrobust.defenses.similarity import MAX_SIM, MIN_SIM, Similarity
from avrobust.defenses.sparse import Dictionary, Solution, lasso, published_ista

__all__ = [
    "MAX_SIM",
    "MIN_SIM",
    "PCL",
    "PUBLISHED",
    "Centres",
    "Dictionary",
    "ExFMem",
    "Memory",
    "Prototypes",
    "Similarity",
    "Solution",
    "diagnosis",
    "guard",
    "lasso",
    "published_ista",
]


def guard(spec: Mapping[str, Any] | None) -> nn.Module:
    """The guard whose `spec` this is, its numbers yet to be loaded; None is no guard.

    >>> guard(None)
    Identity()
    """
    if spec is None:
        return nn.Identity()
    if spec["kind"] == "ExFMem":
        return Memory.rebuild(spec)
    if spec["kind"] == "Centres":
        return Centres(spec["classes"], spec["width"])
    raise ValueError(
        f"expected a guard of ExFMem or Centres, got {spec['kind']!r}. Is the checkpoint of a newer version?"
    )
