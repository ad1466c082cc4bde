"""How audible and how visible a perturbation is, measured: segmental SNR, distance to the masking threshold, SSIM, colour.

Every measure takes clips before and after, and gives one number per clip, in double precision, on the device of the clips
where that has it.  Where nothing changed, ratios are inf, distances to a threshold -inf, SSIM 1 and colour differences 0.
"""

import math
from collections.abc import Callable
from functools import cache

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
TINY = 1e-30  # above a threshold by more than all dB that are told: of a silent clip
# Numbers of clips that are measured at a time: what a processor's cache holds, or what keeps a GPU busy.
AT_ONCE = {"cpu": 2**18, "cuda": 2**23}
# Clips before, and what was added: one number per clip of each measure, (m b).
Of = Callable[[Tensor, Tensor], Tensor]


def segmental_snr(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """The SNR in dB as the mean over segments of 32 ms, each cut to [-10, 35]; segments of silence are left out.

    What is loud for a moment cannot hide behind the rest of the clip (Hansen & Pellom, ICSLP 1998).  nan for a silent clip that changed,
    inf for one that did not.

    >>> x = torch.full((1, 640), 0.5)
    >>> [round(dB, 3) for dB in segmental_snr(x, x + 0.05, 10_000)], segmental_snr(x, x, 10_000)
    ([20.0], [inf])
    """
    size = max(1, rate * SEGMENT_MS // 1000)

    def of(clean: Tensor, delta: Tensor) -> Tensor:
        parts = (F.pad(s, (0, -s.shape[1] % size)).view(len(s), -1, size) for s in (clean, delta))
        signal, noise = (s.square().sum(2) for s in parts)
        ratio = 10 * (signal / noise.clamp_min(TINY)).log10()
        loud = signal > 0
        total: Tensor = torch.where(loud, ratio.clamp(QUIETEST, LOUDEST), 0.0).sum(1)[None]
        return total / loud.sum(1)

    return [round(dB, 9) for dB in _per_clip(of, x, adversarial, math.inf)[0]]


def above_mask(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """By how many dB the loudest bin of the perturbation exceeds the clip's masking threshold; negative: none does.

    See `limits.PsychoacousticMask`, whose calibration it assumes.  inf for a silent clip, which masks nothing.

    >>> x = (torch.hann_window(4000) * torch.sin(torch.arange(4000) * 0.3))[None]  # an abrupt end would be a click
    >>> [-20 < dB < -10 for dB in above_mask(x, 0.9 * x, 8000)], above_mask(x, x, 8000)
    ([True], [-inf])
    """
    return _against_mask(x, adversarial, rate)[0]


def noise_to_mask(x: Tensor, adversarial: Tensor, rate: int) -> list[float]:
    """The noise-to-mask ratio in dB: the perturbation's power in each critical band over the threshold there, the mean over all.

    Power adds up within a band as it does in the ear, which `above_mask` ignores; the mean is over time and bands, as in PEAQ
    (ITU-R BS.1387).  Above 0 dB, noise is heard.  inf for a silent clip.
    """
    return _against_mask(x, adversarial, rate)[1]


def _against_mask(x: Tensor, adversarial: Tensor, rate: int) -> list[list[float]]:
    """Both distances to the masking threshold, of one spectrum."""
    mask = PsychoacousticMask(rate)
    band = mask.bark.floor().long()
    bands = F.one_hot(band).double()  # (k bands)

    def of(clean: Tensor, delta: Tensor) -> Tensor:
        noise, quiet = mask.spectrum(delta).abs(), mask.radii(clean).double()
        loudest = (noise / quiet.clamp_min(TINY)).flatten(1).amax(1).square()
        inside = bands.to(noise.device)
        noise, quiet = noise.square() @ inside, quiet.square() @ inside / inside.sum(0)
        ratio = (noise / quiet.clamp_min(TINY**2)).flatten(1).mean(1)
        return 10 * (torch.stack([loudest, ratio]) + TINY).log10()

    found = _per_clip(of, x, adversarial, -math.inf, -math.inf)
    return [[math.inf if dB > 500 else dB for dB in measure] for measure in found]


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

    def of(clean: Tensor, delta: Tensor) -> Tensor:
        a, b = clean, clean + delta
        mean_a, mean_b = _blurred(a), _blurred(b)
        product, squares = mean_a * mean_b, mean_a.square() + mean_b.square()
        both, own = _blurred(a * b) - product, _blurred(a.square() + b.square()) - squares
        similar = (2 * product + C1) * (2 * both + C2) / ((squares + C1) * (own + C2))
        return similar.flatten(1).mean(1)[None]

    return _per_clip(of, x, adversarial, 1.0)[0]


@cache
def _window() -> list[float]:
    """Half of the window, from its middle on; both halves and the middle add to 1."""
    weights = [math.exp(-0.5 * (i / SIGMA) ** 2) for i in range(RADIUS + 1)]
    return [w / (2 * sum(weights) - weights[0]) for w in weights]


def _blurred(s: Tensor) -> Tensor:
    """Maps (... h w) weighted by a Gaussian window, where that lies inside: sums of shifted maps, which no library does faster."""
    middle, *sides = _window()
    for axis in (-2, -1):
        size = s.shape[axis] - 2 * RADIUS
        total = middle * s.narrow(axis, RADIUS, size)
        for i, weight in enumerate(sides, 1):
            total.add_(s.narrow(axis, RADIUS - i, size) + s.narrow(axis, RADIUS + i, size), alpha=weight)
        s = total
    return s


def colour_difference(x: Tensor, adversarial: Tensor) -> list[float]:
    """The mean over pixels of the colour difference in CIELAB (CIE 1976); 2.3 is just noticeable on a patch.

    >>> x = torch.zeros(1, 1, 3, 2, 2)
    >>> [round(d, 3) for d in colour_difference(x, 1 - x)]  # from black to white
    [100.0]
    """

    def of(clean: Tensor, delta: Tensor) -> Tensor:
        return (lab(clean + delta) - lab(clean)).square().sum(-3).sqrt().flatten(1).mean(1)[None]

    return _per_clip(of, x, adversarial, 0.0)[0]


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

    def one(clean: Tensor, delta: Tensor) -> float:
        try:
            return float(measure((clean + delta).float(), clean.float(), rate, mode))
        except NoUtterancesError:
            return MISSING

    return _per_clip(_one_by_one(one), x, adversarial, BEST[mode])[0]


def lpips(x: Tensor, adversarial: Tensor, net: str = "alex") -> list[float]:
    """LPIPS (Zhang et al. 2018), 0 is the same: the mean over frames, by torchmetrics, which fetches its weights.

    Raises `MissingExtraError` without torchmetrics; torchmetrics itself says so where torchvision is missing.  Not tried here: no
    torchvision fits the torch that the tests run with.
    """
    with needs("perception"):
        from torchmetrics.functional.image.lpips import learned_perceptual_image_patch_similarity as measure

    def one(clean: Tensor, delta: Tensor) -> float:
        return float(measure((clean + delta).float(), clean.float(), net_type=net, normalize=True))

    return _per_clip(_one_by_one(one), x, adversarial, 0.0)[0]


def _one_by_one(one: Callable[[Tensor, Tensor], float]) -> Of:
    return lambda clean, delta: torch.tensor([list(map(one, clean.cpu(), delta.cpu()))], dtype=torch.float64)


def _per_clip(of: Of, x: Tensor, adversarial: Tensor, *unchanged: float) -> list[list[float]]:
    """Of each measure its numbers: `of` the clips that changed, and their perturbations, as doubles; `unchanged` of the others."""
    device = x.device if x.device.type in AT_ONCE else torch.device("cpu")
    before, after = x.detach().to(device), adversarial.detach().to(device)
    changed = (before != after).flatten(1).any(1)
    found = torch.tensor(unchanged, dtype=torch.float64, device=device)[:, None].repeat(1, len(x))
    each = max(1, AT_ONCE[device.type] // max(1, x[:1].numel()))
    every = changed.nonzero()[:, 0]
    for start in range(0, len(every), each):
        clips = every[start : start + each]
        clean = before[clips].double()
        found[:, clips] = of(clean, after[clips].double() - clean).to(device)
    told: list[list[float]] = found.tolist()
    return told


def perceived(x: Signals, adversarial: Signals, rate: int | None) -> dict[str, list[float]]:
    """All measures, as columns of rows; those of audio only where its sampling rate is known.

    >>> from avrobust.types import AV
    >>> x = AV(torch.zeros(1, 8), torch.zeros(1, 1, 3, 16, 16))
    >>> perceived(x, x, None)
    {'ssim': [1.0], 'delta_e': [0.0]}
    """
    found: dict[str, list[float]] = {}
    if rate is not None:
        found["segsnr_db"] = segmental_snr(x.audio, adversarial.audio, rate)
        found["mask_db"], found["nmr_db"] = _against_mask(x.audio, adversarial.audio, rate)
    found["ssim"] = ssim(x.visual, adversarial.visual)
    found["delta_e"] = colour_difference(x.visual, adversarial.visual)
    return found
