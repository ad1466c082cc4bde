"""Published audio-visual models, attacked in waveform and pixels: their front ends are inside, differentiable."""

from avrobust.models.published.cav_mae import CavMae, CavMaeSize, cav_mae, cav_mae_inputs

__all__ = ["CavMae", "CavMaeSize", "cav_mae", "cav_mae_inputs"]
