"""Studies: experiments as values."""

from avrobust.study.plan import Cell, ModelConfig, Study, Sweep

__all__ = ["Cell", "ModelConfig", "Study", "Sweep"]
