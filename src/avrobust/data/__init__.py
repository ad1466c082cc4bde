"""Media to labelled clips: knows datasets, knows no models.

Nothing is imported here until it is used: processes that decode clips import `data.prepare` alone, which needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avrobust.data.hugging_face import from_hf as from_hf

__all__ = ["from_hf"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'avrobust.data' has no attribute {name!r}")
    return getattr(import_module("avrobust.data.hugging_face"), name)
