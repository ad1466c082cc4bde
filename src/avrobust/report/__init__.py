"""Files of a run → one page that tells what came out.  Never loads a model."""

from avrobust.report.page import summary, write
from avrobust.report.read import RunError

__all__ = ["RunError", "summary", "write"]
