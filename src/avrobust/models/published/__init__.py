"""Published audio-visual models, attacked in waveform and pixels: their front ends are inside, differentiable.

Each is an `AVNet`: its streams are run one by one, and a feature defense has its place between encoders and fusion.
"""

from avrobust.models.published.cavmae import CavMaeSize, CavMaeSpec, cav_mae, cav_mae_inputs
from avrobust.models.published.clap_and_clip import by_text, zero_shot
from avrobust.models.published.image_bind import imagebind, imagebind_inputs
from avrobust.models.published.peav import pe_av

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
