"""What can be done about attacks: losses to train with, and guards between the encoders and the fusion."""

from collections.abc import Mapping
from typing import Any

from torch import nn

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
    if spec["kind"] == "Broken":
        return Disguise.rebuild(spec)
    raise ValueError(
        f"expected a guard of ExFMem, Centres or Broken, got {spec['kind']!r}. Is the checkpoint of a newer version?"
    )
