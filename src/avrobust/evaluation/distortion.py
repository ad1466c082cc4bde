"""How far adversarial clips lie from the clean ones: norms, share of the budget, SNR and PSNR."""

import numpy as np
import torch

from avrobust.threat import Ball, Threat, distances
from avrobust.types import AV, Signals

# In the signals' own units.
BALLS = Ball(0.0, "linf"), Ball(0.0, "l2")


def distortion(threat: Threat, x: Signals, adversarial: Signals) -> dict[str, list[float]]:
    """The size of each clip's perturbation, as columns of rows.

    `linf_*` and `l2_*` in the signals' own units; `used_*` as a share of the budget, nan for a modality without one;
    `snr_db` of the audio, 10 log10(sum x^2 / sum (x_adv - x)^2), and `psnr_db` of the frames, whose peak is 1.  Both are
    inf where nothing changed; a silent clip has an SNR of -inf, and nan where it is unchanged.

    >>> x = AV(audio=torch.full((1, 4), 0.5), visual=torch.zeros(1, 1, 3, 2, 2))
    >>> far = distortion(Threat.linf(audio=0.05), x, AV(audio=x.audio + 0.05, visual=x.visual))
    >>> round(far["snr_db"][0], 3), far["psnr_db"], round(far["used_audio"][0], 3)
    (20.0, [inf], 1.0)
    """
    sizes = threat.map(lambda ball, a, s: distances(a, s, *BALLS, ball), adversarial, x)
    linf, l2, own = (AV(*parts) for parts in zip(*sizes, strict=True))
    used = threat.map(lambda b, d, s: b.used(d, s) if b.active else np.full(len(s), np.nan), own, x)
    (loud,), pixels = distances(x.audio, torch.zeros_like(x.audio), BALLS[1]), x.visual.shape[1:].numel()
    with np.errstate(divide="ignore", invalid="ignore"):
        snr, psnr = 20 * np.log10(loud / l2.audio), -20 * np.log10(l2.visual / pixels**0.5)
    return {
        "linf_audio": linf.audio.tolist(), "linf_visual": linf.visual.tolist(),
        "l2_audio": l2.audio.tolist(), "l2_visual": l2.visual.tolist(),
        "used_audio": used.audio.tolist(), "used_visual": used.visual.tolist(),
        "snr_db": snr.tolist(), "psnr_db": psnr.tolist(),
    }  # fmt: skip
