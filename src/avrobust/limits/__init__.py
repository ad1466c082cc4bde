"""Where and how much a clip may change, as it follows from the clean clip: by sample, by pixel, by frequency."""

from avrobust.limits.colour import DeltaE
from avrobust.limits.elements import Limit, Patch, Texture, Window
from avrobust.limits.masking import PsychoacousticMask

__all__ = ["DeltaE", "Limit", "Patch", "PsychoacousticMask", "Texture", "Window"]
