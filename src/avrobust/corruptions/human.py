"""Corruptions by people: concert, smoke, crowd, interference."""

import numpy as np
from scipy import ndimage, signal

from avrobust.corruptions.sound import Wave, at_snr, swell, voice
from avrobust.corruptions.vision import Film, blend, cloud, drifting, scale

SNR_DB = (20, 15, 10, 5, 0)
SMOKE = (0.3, 0.42, 0.54, 0.66, 0.78)
CROWD = (0.15, 0.22, 0.3, 0.38, 0.46)  # share of the height
SILENT = (0.1, 0.2, 0.3, 0.4, 0.5)  # share of the clip
VOICES = 12


def concert_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Music from the stage: a beat, a bass and chords."""
    t = np.arange(len(wave)) / rate
    root = 55 * 2 ** (g.integers(12) / 12)
    beat = np.exp(-12 * np.mod(t * g.uniform(1.6, 2.4), 1))
    chord = sum(signal.sawtooth(2 * np.pi * root * ratio * t + g.uniform(0, 6)) for ratio in (2, 2.5, 3, 4))
    music = beat * np.sin(2 * np.pi * root * t) * 2 + np.asarray(chord) * 0.3 * swell(len(wave), rate, 2, g)
    return at_snr(wave, music, SNR_DB[severity - 1])


def concert_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """A dark hall and coloured spotlights that sweep across it."""
    t, h, w, _ = film.shape
    y, x = np.mgrid[0:h, 0:w] / max(min(h, w), 1)
    lit = film * (1 - 0.12 * severity)
    for _ in range(3):
        at, sweep, colour = g.uniform(0.1, 0.9, 2), g.uniform(-0.1, 0.1, 2), g.uniform(0, 1, 3)
        spots = [np.exp(-((y - at[0] - sweep[0] * k) ** 2 + (x - at[1] - sweep[1] * k) ** 2) / 0.03) for k in range(t)]
        lit = blend(lit, tuple(colour), 0.15 * severity * np.stack(spots))
    return lit


def smoke_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """A smoke alarm: three beeps at 3.1 kHz, then a pause; the clip begins within the beeps."""
    t = np.arange(len(wave)) / rate + g.uniform(0, 0.4)
    on = (np.mod(t, 4) < 3) & (np.mod(t, 1) < 0.5)
    beep = np.sin(2 * np.pi * min(3100, 0.4 * rate) * t)
    return at_snr(wave, np.where(on, beep, 0.0), SNR_DB[severity - 1])


def smoke_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Drifting smoke."""
    puffs = drifting(cloud(film.shape[1:3], 1.6, g), len(film), 0, 3 * scale(film))
    return blend(film, 0.7, SMOKE[severity - 1] * (0.4 + 0.6 * puffs))


def crowd_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Many voices at once."""
    babble = np.sum([voice(len(wave), rate, g) for _ in range(VOICES)], axis=0)
    return at_snr(wave, babble, SNR_DB[severity - 1])


def crowd_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """Dark heads and shoulders before the lower part of the picture, that sway."""
    t, h, w, _ = film.shape
    y, x = np.mgrid[0:h, 0:w] / max(min(h, w), 1)
    tall = CROWD[severity - 1]
    alpha = np.zeros((t, h, w))
    for middle in np.arange(0.0, w / min(h, w) + 0.2, 0.2) + g.uniform(-0.06, 0.06):
        top, sway = h / min(h, w) - tall * g.uniform(0.7, 1.0), g.uniform(-0.02, 0.02)
        for k in range(t):
            across = x - middle - sway * k
            head = (across / 0.07) ** 2 + ((y - top - 0.09) / 0.09) ** 2 < 1
            body = (np.abs(across) < 0.12) & (y > top + 0.19)
            alpha[k] = np.maximum(alpha[k], head | body)
    return blend(film, (0.06, 0.05, 0.06), 0.97 * alpha)


def interference_audio(wave: Wave, rate: int, severity: int, g: np.random.Generator) -> Wave:
    """Drop-outs: a share of the clip is silent, in five pieces."""
    pieces = 5
    length = int(SILENT[severity - 1] * len(wave) / pieces)
    kept, stretch = np.array(wave), len(wave) // pieces
    for k in range(pieces):
        start = k * stretch + int(g.random() * max(stretch - length, 0))
        kept[start : start + length] = 0
    return kept


def interference_visual(film: Film, severity: int, g: np.random.Generator) -> Film:
    """A tilted camera: turned by 6 s to 6 s + 5 degrees at severity s, either way."""
    low = 6 * severity
    degrees = g.choice([-1, 1]) * g.uniform(low, low + 5)
    turned: Film = ndimage.rotate(film, degrees, axes=(1, 2), reshape=False, order=1, mode="constant")
    return turned
