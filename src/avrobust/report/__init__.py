"""Rows of an evaluation, or the files of a run → one page that says what came out.  Never loads a model.

The page is imported when it is written: figures need packages of the extra `report`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from avrobust.extras import needs
from avrobust.report.load import RunError, rows_of

if TYPE_CHECKING:
    from avrobust.report.page import figures_of as figures_of
    from avrobust.report.page import summary as summary
    from avrobust.report.page import write as write

__all__ = ["RunError", "figures_of", "rows_of", "summary", "write"]


def __getattr__(name: str) -> object:
    if name not in ("figures_of", "summary", "write"):
        raise AttributeError(f"module 'avrobust.report' has no attribute {name!r}")
    with needs("report"):
        return getattr(import_module("avrobust.report.page"), name)
