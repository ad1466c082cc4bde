"""Corruptions by weather: snow, frost, spatter, wind, rain, underwater."""

import numpy as np
from scipy import ndimage

from avrobust.corruptions.sound import Wave, at_snr, band, grains, swell
from avrobust.corruptions.vision import Film, blend, cloud, drifting, motion_blur, scale

SNR_DB = (20, 15, 10, 5, 0)
SNOW = (0.02, 0.03, 0.045, 0.06, 0.08)  # share of the pixels that a flake starts in
FROST = (0.3, 0.4, 0.5, 0.6, 0.7)
SPATTERED = (0.05, 0.1, 0.17, 0.25, 0.33)  # share of the pixels
WIND_PIXELS = (6, 10, 14, 19, 25)  # at a short side of 224, as all lengths here
RAIN = (0.004, 0.008, 0.013, 0.02, 0.03)
UNDERWATER = (0.15, 0.25, 0.35, 0.45, 0.55)


def snow_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Steps in snow: bursts of dull noise, twice a second."""
    steps = band(g.standard_normal(len(wave)), rate, 200, 2000) * np.clip(swell(len(wave), rate, 4, g) - 0.4, 0, None)
    return at_snr(wave, steps, SNR_DB[severity - 1])


def snow_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Falling flakes before a picture whose colours pale."""
    p, share = scale(film), SNOW[severity - 1]
    flakes = (g.random(film.shape[1:3]) < share).astype(float)
    flakes = motion_blur(ndimage.gaussian_filter(flakes, 0.8 * max(p, 0.5), mode="wrap"), 8 * p, g.uniform(60, 120))
    alpha = (flakes / max(flakes.max(), 1e-12)).clip(0, 1)
    pale = 0.06 * severity
    return blend(film * (1 - pale) + pale, 1.0, drifting(alpha, len(film), 9 * p, 2 * p))


def frost_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Crackling ice."""
    return at_snr(wave, grains(len(wave), rate, 60, 0.002, g, (2000, 6000)), SNR_DB[severity - 1])


def frost_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Ice on the lens: bright ridges, the same in every frame."""
    ridges = 1 - np.abs(2 * cloud(film.shape[1:3], 1.2, g) - 1)
    return blend(film, (0.85, 0.92, 1.0), np.broadcast_to(FROST[severity - 1] * ridges, film.shape[:3]))


def spatter_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Drops on the lens: few and loud."""
    return at_snr(wave, grains(len(wave), rate, 8, 0.02, g, (300, 1500)), SNR_DB[severity - 1])


def spatter_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Mud on the lens: blots over a share of the picture, the same in every frame."""
    noise = ndimage.gaussian_filter(g.standard_normal(film.shape[1:3]), 5 * scale(film), mode="wrap")
    edge = np.quantile(noise, 1 - SPATTERED[severity - 1])
    alpha = ndimage.gaussian_filter((noise > edge).astype(float), 1 * scale(film)).clip(0, 1)
    return blend(film, (0.25, 0.17, 0.1), np.broadcast_to(0.95 * alpha, film.shape[:3]))


def wind_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Gusts at the microphone: low noise that swells."""
    gusts = band(g.standard_normal(len(wave)), rate, high=400) * swell(len(wave), rate, 1.5, g)
    return at_snr(wave, gusts, SNR_DB[severity - 1])


def wind_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """A shaken camera: motion blur along a line."""
    pixels, degrees = WIND_PIXELS[severity - 1] * scale(film), g.uniform(-20, 20)
    channels = [[motion_blur(frame[..., c], pixels, degrees) for c in range(3)] for frame in film]
    return np.moveaxis(np.array(channels), 1, -1)


def rain_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Many drops over a hiss."""
    hiss = band(g.standard_normal(len(wave)), rate, low=1000)
    return at_snr(wave, 0.2 * hiss + grains(len(wave), rate, 200, 0.004, g, (800, 5000)), SNR_DB[severity - 1])


def rain_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Slanted streaks that fall from frame to frame, before a darker picture."""
    p = scale(film)
    drops = (g.random(film.shape[1:3]) < RAIN[severity - 1]).astype(float)
    streaks = motion_blur(drops, 22 * p, g.uniform(75, 105))
    alpha = (streaks / max(streaks.max(), 1e-12)).clip(0, 1) * 0.7
    return blend(film * (1 - 0.05 * severity), 0.8, drifting(alpha, len(film), 40 * p, 4 * p))


def underwater_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """A muffled signal among bubbles."""
    muffled = band(wave, rate, high=(4000, 3000, 2000, 1200, 800)[severity - 1])
    return at_snr(muffled, grains(len(wave), rate, 15, 0.03, g, (200, 900)), SNR_DB[severity - 1])


def underwater_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Blurred, bent by waves, and blue-green."""
    t, h, w, _ = film.shape
    p, strength, phase = scale(film), UNDERWATER[severity - 1], g.uniform(0, 2 * np.pi)
    rows, columns = np.meshgrid(np.arange(h), np.arange(w), indexing="ij")
    done = []
    for k, frame in enumerate(film):
        bend = 4 * p * strength * np.sin(2 * np.pi * rows / (40 * max(p, 0.1)) + phase + 0.6 * k)
        soft = ndimage.gaussian_filter(frame, (2 * p * strength, 2 * p * strength, 0))
        bent = [
            ndimage.map_coordinates(soft[..., c], [rows, columns + bend], order=1, mode="nearest") for c in range(3)
        ]
        done.append(np.stack(bent, -1))
    return blend(np.stack(done), (0.05, 0.35, 0.4), np.full((t, h, w), strength))
