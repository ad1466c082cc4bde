"""Natural corruptions of audio, video and both, and missing modalities: how robust a model is when nobody attacks."""

from avrobust.corruptions.base import KINDS, SEVERITIES, Corruption, corruptions
from avrobust.corruptions.missing import Gap, Missing

__all__ = ["KINDS", "SEVERITIES", "Corruption", "Gap", "Missing", "corruptions"]
