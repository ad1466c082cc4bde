"""How audible and how visible a perturbation is, measured: segmental SNR, distance to the masking threshold, SSIM, colour.

Every measure takes clips before and after, and gives one number per clip, in double precision on the CPU.  Where nothing
changed, ratios are inf, distances to a threshold -inf, SSIM 1 and colour differences 0.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from avrobust.extras import needs
from avrobust.limits import PsychoacousticMask
from avrobust.limits.colour import lab
from avrobust.types import Signals

SEGMENT_MS, QUIETEST, LOUDEST = 32, -10.0, 35.0  # of a segmental SNR: Hansen & Pellom 1998
SIGMA, RADIUS, C1, C2 = 1.5, 5, 0.01**2, 0.03**2  # of SSIM: Wang et al. 2004, for values in [0, 1]
MISSING = float("nan")
BEST = {"nb": 4.549, "wb": 4.644}  # PESQ of what did not change


def segmental_snr(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """The SNR in dB as the mean over segments of 32 ms, each cut to [-10, 35]; segments of silence are left out.

    What is loud for a moment cannot hide behind the rest of the clip (Hansen & Pellom, ICSLP 1998).  nan for a silent clip.

    >>> x = torch.full((1, 640), 0.5)
    >>> [round(dB, 3) for dB in segmental_snr(x, x + 0.05, 10_000)], segmental_snr(x, x, 10_000)
    ([20.0], [inf])
    """
    size = max(1, rate * SEGMENT_MS // 1000)

    def of(clean: Tensor, delta: Tensor) -> float:
        signal, noise = (F.pad(s, (0, -len(s) % size)).view(-1, size).square().sum(1) for s in (clean, delta))
        loud = signal > 0
        ratio = 10 * (signal[loud] / noise[loud].clamp_min(1e-30)).log10()
        return round(float(ratio.clamp(QUIETEST, LOUDEST).mean()), 9) if bool(loud.any()) else MISSING

    return _per_clip(of, x, adversarial, math.inf)


def above_mask(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """By how many dB the loudest bin of the perturbation exceeds the clip's masking threshold; negative: none does.

    See `limits.PsychoacousticMask`, whose calibration it assumes.  inf for a silent clip, which masks nothing.

    >>> x = (torch.hann_window(4000) * torch.sin(torch.arange(4000) * 0.3))[None]  # an abrupt end would be a click
    >>> [-20 < dB < -10 for dB in above_mask(x, 0.9 * x, 8000)], above_mask(x, x, 8000)
    ([True], [-inf])
    """
    mask = PsychoacousticMask(rate)

    def of(clean: Tensor, delta: Tensor) -> float:
        return 20 * math.log10(max(float(mask.ratios(delta.numpy(), clean.numpy()).max()), 1e-30))

    return [math.inf if dB > 500 else dB for dB in _per_clip(of, x, adversarial, -math.inf)]


def noise_to_mask(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """The noise-to-mask ratio in dB: the perturbation's power in each critical band over the threshold there, the mean over all.

    Power adds up within a band as it does in the ear, which `above_mask` ignores; the mean is over time and bands, as in PEAQ
    (ITU-R BS.1387).  Above 0 dB, noise is heard.  inf for a silent clip.
    """
    mask = PsychoacousticMask(rate)
    band = mask.bark.floor().long()
    count = torch.bincount(band).double()

    def of(clean: Tensor, delta: Tensor) -> float:
        noise, quiet = mask.spectrum(delta[None])[0].abs().square(), mask.radii(clean[None])[0].double().square()
        noise, quiet = (torch.zeros(len(s), len(count), dtype=s.dtype).index_add_(1, band, s) for s in (noise, quiet))
        return 10 * math.log10(float((noise / (quiet / count).clamp_min(1e-60)).mean()) + 1e-30)

    return [math.inf if dB > 500 else dB for dB in _per_clip(of, x, adversarial, -math.inf)]


def ssim(x: Tensor, adversarial: Tensor) -> list[float]:
    """Structural similarity (Wang et al. 2004): 1 is the same; the mean over frames, colours, and windows that lie inside.

    Gaussian windows of 11 pixels, sigma 1.5, K 0.01 and 0.03, peak 1, covariances without a correction: scikit-image's
    `structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1)`.  nan for frames
    below 11 pixels.

    >>> x = torch.rand(1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    >>> ssim(x, x), ssim(x, 1 - x)[0] < -0.9
    ([1.0], True)
    """
    if min(x.shape[-2:]) < 2 * RADIUS + 1:
        return [MISSING] * len(x)
    weights = torch.exp(-0.5 * (torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64) / SIGMA).square())
    weights = weights / weights.sum()

    def blurred(s: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(s, weights.view(1, 1, -1, 1)), weights.view(1, 1, 1, -1))

    def of(clean: Tensor, delta: Tensor) -> float:
        a = clean.reshape(-1, 1, *clean.shape[-2:])
        b = a + delta.reshape(a.shape)
        mean_a, mean_b = blurred(a), blurred(b)
        own = blurred(a * a) - mean_a.square(), blurred(b * b) - mean_b.square()
        both = blurred(a * b) - mean_a * mean_b
        top = (2 * mean_a * mean_b + C1) * (2 * both + C2)
        return float((top / ((mean_a.square() + mean_b.square() + C1) * (own[0] + own[1] + C2))).mean())

    return _per_clip(of, x, adversarial, 1.0)


def colour_difference(x: Tensor, adversarial: Tensor) -> list[float]:
    """The mean over pixels of the colour difference in CIELAB (CIE 1976); 2.3 is just noticeable on a patch.

    >>> x = torch.zeros(1, 1, 3, 2, 2)
    >>> [round(d, 3) for d in colour_difference(x, 1 - x)]  # from black to white
    [100.0]
    """

    def of(clean: Tensor, delta: Tensor) -> float:
        return float((lab(clean + delta) - lab(clean)).square().sum(-3).sqrt().mean())

    return _per_clip(of, x, adversarial, 0.0)


def pesq(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """PESQ (ITU-T P.862), from 1 to 4.6: quality of speech at 8 kHz (narrow band) or 16 kHz (wide band), by torchmetrics.

    Of anything but speech its numbers mean little.  nan for clips in which it finds no speech.  Raises `ValueError` for other
    rates, `MissingExtraError` without torchmetrics and pesq.
    """
    if rate not in (8000, 16000):
        raise ValueError(f"PESQ is defined at 8000 and 16000 Hz, got {rate}. Resample the clips, or use noise_to_mask.")
    with needs("perception"):
        from pesq import NoUtterancesError
        from torchmetrics.functional.audio.pesq import perceptual_evaluation_speech_quality as measure
    mode = "nb" if rate == 8000 else "wb"

    def of(clean: Tensor, delta: Tensor) -> float:
        try:
            return float(measure((clean + delta).float(), clean.float(), rate, mode))
        except NoUtterancesError:
            return MISSING

    return _per_clip(of, x, adversarial, BEST[mode])


def lpips(x: Tensor, adversarial: Tensor, net: str = "alex") -> list[float]:
    """LPIPS (Zhang et al. 2018), 0 is the same: the mean over frames, by torchmetrics, which fetches its weights.

    Raises `MissingExtraError` without torchmetrics; torchmetrics itself says so where torchvision is missing.  Not tried here: no
    torchvision fits the torch that the tests run with.
    """
    with needs("perception"):
        from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity as measure

    def of(clean: Tensor, delta: Tensor) -> float:
        return float(measure((clean + delta).float(), clean.float(), net_type=net, normalize=True))

    return _per_clip(of, x, adversarial, 0.0)


def _per_clip(of: Callable[[Tensor, Tensor], float], x: Tensor, adversarial: Tensor, unchanged: float) -> list[float]:
    """`of` on each clip and its perturbation, as doubles on the CPU; `unchanged` of clips that are not perturbed."""
    if adversarial.device == x.device and torch.equal(adversarial, x):
        return [unchanged] * len(x)
    found = []
    for a, s in zip(adversarial.detach().cpu(), x.detach().cpu(), strict=True):
        clean = s.double()
        delta = a.double() - clean
        found.append(of(clean, delta) if bool(delta.any()) else unchanged)
    return found


def perceived(x: Signals, adversarial: Signals, rate: int | None) -> dict[str, list[float]]:
    """All measures, as columns of rows; those of audio only where its sampling rate is known.

    >>> from avrobust.types import AV
    >>> x = AV(torch.zeros(1, 8), torch.zeros(1, 1, 3, 16, 16))
    >>> perceived(x, x, None)
    {'ssim': [1.0], 'delta_e': [0.0]}
    """
    found = {} if rate is None else {name: f(x.audio, adversarial.audio, rate) for name, f in HEARD.items()}
    return found | {name: f(x.visual, adversarial.visual) for name, f in SEEN.items()}


# By the names of their columns.
HEARD = {"segsnr_db": segmental_snr, "mask_db": above_mask, "nmr_db": noise_to_mask}
SEEN = {"ssim": ssim, "delta_e": colour_difference}
