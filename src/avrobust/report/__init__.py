"""Files of a run → one page that tells what came out.  Never loads a model."""

from avrobust.report.load import RunError
from avrobust.report.page import summary, write

__all__ = ["RunError", "summary", "write"]
