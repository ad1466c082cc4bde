"""Corruptions by sensors and codecs: Gaussian, impulse, shot and speckle noise, compression."""

import io

import numpy as np
from PIL import Image

from avrobust.corruptions.sound import Wave, at_snr, band
from avrobust.corruptions.vision import Film

SNR_DB = (40, 30, 20, 10, 0)
LOW_PASS_HZ = (8000, 6000, 4000, 2000, 1000)  # the ends are declared, the steps between are ours
SIGMA = (0.08, 0.12, 0.18, 0.26, 0.38)
FLIPPED = (0.03, 0.06, 0.09, 0.17, 0.27)  # share of the pixels
PHOTONS = (60, 25, 12, 5, 3)  # at full scale
SPECKLE = (0.15, 0.2, 0.35, 0.45, 0.6)
JPEG_QUALITY = (25, 18, 15, 10, 7)


def gaussian_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """White noise."""
    return at_snr(wave, g.standard_normal(len(wave)), SNR_DB[severity - 1])


def gaussian_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """White noise of a standard deviation in full scales."""
    return film + SIGMA[severity - 1] * g.standard_normal(film.shape)


def impulse_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Clicks: one sample in a hundred, up or down."""
    clicks = g.choice([-1.0, 1.0], len(wave)) * (g.random(len(wave)) < 0.01)
    clicks[int(g.integers(len(wave)))] = 1.0  # one at least
    return at_snr(wave, clicks, SNR_DB[severity - 1])


def impulse_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Salt and pepper on a share of the values."""
    hit, salt = g.random(film.shape), g.random(film.shape) < 0.5
    return np.where(hit < FLIPPED[severity - 1], salt.astype(float), film)


def shot_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Noise whose power follows the signal's size, as the counting of particles has it."""
    return at_snr(wave, np.sqrt(np.abs(wave) + 1e-6) * g.standard_normal(len(wave)), SNR_DB[severity - 1])


def shot_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Poisson noise of few photons."""
    photons = PHOTONS[severity - 1]
    return g.poisson(film.clip(0, 1) * photons) / photons


def speckle_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Noise that multiplies the signal."""
    return at_snr(wave, (np.abs(wave) + 1e-6) * g.standard_normal(len(wave)), SNR_DB[severity - 1])


def speckle_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Noise that multiplies the picture."""
    return film * (1 + SPECKLE[severity - 1] * g.standard_normal(film.shape))


def compression_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """What coarse codecs do first: nothing is left above a frequency."""
    return band(wave, rate, high=LOW_PASS_HZ[severity - 1])


def compression_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """JPEG, frame by frame."""
    done = []
    for frame in film:
        file = io.BytesIO()
        Image.fromarray((255 * frame.clip(0, 1)).round().astype(np.uint8)).save(
            file, "JPEG", quality=JPEG_QUALITY[severity - 1]
        )
        done.append(np.asarray(Image.open(file), np.float64) / 255)
    return np.stack(done)
