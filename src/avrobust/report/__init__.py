"""Rows of an evaluation, or the files of a run → one page that says what came out.  Never loads a model."""

from avrobust.report.load import RunError, rows_of
from avrobust.report.page import summary, write

__all__ = ["RunError", "rows_of", "summary", "write"]
