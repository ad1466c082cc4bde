"""Studies: experiments as values."""

from avrobust.study.plan import Cell, Contestant, Study, Trial

__all__ = ["Cell", "Contestant", "Study", "Trial"]
