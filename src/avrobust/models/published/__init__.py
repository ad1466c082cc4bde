"""Published audio-visual models, attacked in waveform and pixels: their front ends are inside, differentiable.

Each is an `AVNet`: its streams are run one by one, and a feature defense has its place between encoders and fusion.
"""

from avrobust.models.published.cav_mae import CavMaeSize, CavMaeSpec, cav_mae, cav_mae_inputs
from avrobust.models.published.imagebind import imagebind, imagebind_inputs
from avrobust.models.published.pe_av import pe_av
from avrobust.models.published.zero_shot import by_text, zero_shot

__all__ = [
    "CavMaeSize",
    "CavMaeSpec",
    "by_text",
    "cav_mae",
    "cav_mae_inputs",
    "imagebind",
    "imagebind_inputs",
    "pe_av",
    "zero_shot",
]
