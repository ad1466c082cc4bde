"""What audio corruptions are made of: noise at a signal-to-noise ratio, filters, grains of sound."""

import numpy as np
from numpy.typing import NDArray
from scipy import signal

Wave = NDArray[np.float64]  # (n), in [-1, 1]
# A silent clip has no signal-to-noise ratio: noise is then set against -60 dBFS.
FLOOR = 1e-3


def at_snr(wave: Wave, noise: Wave, snr_db: float) -> Wave:
    """`wave` with `noise` added, scaled to the signal-to-noise ratio.

    >>> wave = np.full(4, 0.5)
    >>> at_snr(wave, np.array([1.0, -1, 1, -1]), 20).round(3)
    array([0.55, 0.45, 0.55, 0.45])
    """
    return wave + noise * (max(rms(wave), FLOOR) / max(rms(noise), 1e-12) * 10 ** (-snr_db / 20))


def rms(wave: Wave) -> float:
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(wave)))) if len(wave) else 0.0


def band(wave: Wave, rate: int, low: float | None = None, high: float | None = None) -> Wave:
    """`wave` between two frequencies in Hz, or on one side of one; as far as the sampling rate allows."""
    top = 0.475 * rate
    edges = [min(f, top) for f in (low, high) if f is not None]
    kind = "bandpass" if len(edges) == 2 else "lowpass" if low is None else "highpass"
    if kind == "bandpass" and edges[0] >= edges[1]:
        edges = [edges[1] / 2, edges[1]]
    sos = signal.butter(4, edges if len(edges) == 2 else edges[0], kind, fs=rate, output="sos")
    filtered: Wave = signal.sosfilt(sos, wave)
    return filtered


def grains(
    samples: int, rate: int, per_second: float, seconds: float, g: np.random.Generator, hz: tuple[float, float]
) -> Wave:
    """Short decaying tones at random times, between two frequencies: drops, crackle, bubbles."""
    out = np.zeros(samples)
    length = max(4, int(8 * seconds * rate))
    t = np.arange(length) / rate
    for _ in range(max(1, int(per_second * samples / rate))):
        start, tone, loud = int(g.integers(samples)), g.uniform(*hz), g.uniform(0.2, 1.0)
        piece = loud * np.exp(-t / seconds) * np.sin(2 * np.pi * min(tone, 0.45 * rate) * t)
        out[start : start + length] += piece[: samples - start]
    return out


def swell(samples: int, rate: int, hz: float, g: np.random.Generator) -> Wave:
    """A loudness between 0 and 1 that changes about `hz` times a second."""
    points = max(2, int(samples / rate * hz) + 2)
    value: Wave = np.interp(np.linspace(0, points - 1, samples), np.arange(points), g.uniform(0.1, 1.0, points))
    return value


def voice(samples: int, rate: int, g: np.random.Generator) -> Wave:
    """A voiced murmur: a buzz at a speaker's pitch through two moving formants, in syllables."""
    t = np.arange(samples) / rate
    pitch = g.uniform(90, 250)
    buzz = signal.sawtooth(2 * np.pi * pitch * t + 3 * np.sin(2 * np.pi * g.uniform(2, 5) * t + g.uniform(0, 6)))
    formants = sum(band(buzz, rate, f / 1.3, f * 1.3) for f in (g.uniform(300, 900), g.uniform(900, 2500)))
    return np.asarray(formants) * np.clip(swell(samples, rate, 6, g) - 0.3, 0, None)
