"""Synthesises the eleven instruments by simple physical models.  Knows no video and no files.

Blown, bowed and squeezed instruments sustain one tone whose pitch and loudness change; plucked and struck ones ring, note
by note.
"""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from avrobust.data.orchestra.portable_math import cos, exp, exp2, log2, power, sin
from avrobust.data.orchestra.score import Score

Wave = NDArray[Any]  # float32 (n,)
Formants = tuple[tuple[float, float, float], ...]  # (centre in Hz, width in octaves, gain in dB)
TABLE = 16384  # samples of one period, enough to take the nearest one


def perform(name: str, score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """`n` samples of `score` without a room, with an RMS of 1.  `rng` varies player and instrument."""
    return _unit(SOUNDS[name](score, n, rate, rng))


def record(
    player: Wave, other: Wave | None, below_db: float, snr_db: float, room_s: float, tilt_db: float, peak: float,
    rate: int, rng: np.random.Generator,
) -> Wave:  # fmt: skip
    """A recording of `player` in a room, in [-1, 1].

    `other`, if any, plays `below_db` softer; `room_s` is the reverberation time in seconds; noise is `snr_db` below the
    player; `tilt_db` per octave makes the recording brighter or, below 0, duller; the largest sample is `peak`.
    """
    n = len(player)
    wave = player if other is None else player + other * _gain(np.full(1, -below_db, np.float32))
    wave = _unit(_reverberate(wave, room_s, rate, rng))
    octaves = np.maximum(_octaves(n, rate), -4.5)  # around 1 kHz, level below 44 Hz
    colour = exp2(-rng.uniform(0, 0.6) * octaves)  # from white noise to slightly darker than pink
    noise = _unit(_filtered(_noise(n, rng), colour))
    wave = wave + noise * _gain(np.full(1, -snr_db, np.float32))
    wave = _filtered(wave, _gain(tilt_db * octaves))
    return wave * np.float32(peak / np.abs(wave).max())


# ---- families


def bowed(
    score: Score,
    n: int,
    rate: int,
    rng: np.random.Generator,
    *,
    body: Formants,
    vibrato: float,
    glide_s: float,
) -> Wave:
    """A bow that sticks and slips gives a sawtooth, filtered by the body's resonances, with the noise of the bow hair."""
    f0 = _pitch(score, n, rate, glide_s, vibrato * rng.uniform(0.7, 1.3), rng.uniform(4.8, 6.6))
    level = _loudness(score, n, rate, rng.uniform(0.05, 0.11))
    k = np.arange(1, 61)
    string = _oscillate(f0, power(k, -1.0) * (1 + 0.3 * rng.standard_normal(len(k))), rate)
    hiss = _noise(n, rng) * 0.05
    return level * _resonate(string + hiss, body, rate, rng)


def reed(
    score: Score, n: int, rate: int, rng: np.random.Generator, *, even: float, slope: float, bore: Formants
) -> Wave:
    """A reed on a cylinder has odd harmonics (`even` near 0), on a cone all of them (`even` 1)."""
    f0 = _pitch(score, n, rate, 0.015, rng.uniform(0, 12), rng.uniform(4.5, 5.5))
    level = _loudness(score, n, rate, rng.uniform(0.02, 0.05))
    k = np.arange(1, 61)
    mouth = _oscillate(f0, power(k, -slope) * np.where(k % 2, 1, even * np.minimum(1, k / 8 + even)), rate)
    return level * _resonate(mouth + _noise(n, rng) * 0.02, bore, rate, rng)


def flute(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """An edge tone: hardly more than two harmonics, with tremolo and breath noise."""
    shake_hz = rng.uniform(4.5, 6)
    f0 = _pitch(score, n, rate, 0.02, 10, shake_hz)
    breath = 1 + rng.uniform(0.15, 0.35) * sin(2 * np.pi * shake_hz * _seconds(n, rate))
    tone = _oscillate(f0, np.array([1, rng.uniform(0.2, 0.45), rng.uniform(0.05, 0.15), 0.03, 0.01]), rate)
    air = _resonate(_noise(n, rng), ((2500.0, 1.2, 18.0),), rate, rng) * rng.uniform(0.02, 0.04)
    blown: Wave = _loudness(score, n, rate, 0.05) * breath * (tone + air)
    return blown


def brass(score: Score, n: int, rate: int, rng: np.random.Generator, *, bright_hz: float, attack_s: float) -> Wave:
    """Lips on a tube: brighter when louder.  A dull and a bright tone are mixed by loudness."""
    f0 = _pitch(score, n, rate, 0.02, rng.uniform(0, 15), 5.0)
    level = _loudness(score, n, rate, attack_s, swell=0.35)
    hz = np.arange(1, 61) * f0.mean()
    dull = _oscillate(f0, 1 / (1 + power(hz / (0.6 * bright_hz), 4)), rate)
    bright = _oscillate(f0, power(hz / hz[0], 0.3) / (1 + power(hz / (2.2 * bright_hz), 3)), rate)
    blown: Wave = level * ((1 - level) * dull + level * bright + _noise(n, rng) * 0.01)
    return blown


def bellows(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """Two metal reeds, detuned by some cents, beat against each other, with a lower voice."""
    f0 = _pitch(score, n, rate, 0.004, 0, 1)
    k = np.arange(1, 61)
    weights = power(k, -0.7) * (1 + 0.4 * rng.standard_normal(len(k)))
    beats = float(exp2(rng.uniform(7, 16) / 1200))
    reeds = _oscillate(f0, weights, rate) + _oscillate(f0 * beats, weights, rate)
    reeds += 0.6 * _oscillate(f0 * float(exp2(-rng.choice((4, 5, 7, 12)) / 12)), weights, rate)
    return _loudness(score, n, rate, 0.02) * _resonate(reeds, ((1600.0, 1.0, 6.0),), rate, rng)


def plucked(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """A Karplus-Strong string: a burst of noise in a loop that averages neighbouring samples.

    The loop filters once per period, so period p has the burst's spectrum times filter**p.
    """
    wave = np.zeros(n, np.float32)
    decay = rng.uniform(0.990, 0.996)
    for note in score.notes:
        start = round(note.start_s * rate)
        size = round(rate / _hz(note.pitch))  # whole samples: up to 20 cents out of tune, as guitars are
        periods = min(n - start, rate) // size
        if periods < 1:
            continue
        k = np.arange(size // 2 + 1)
        burst = rfft(rng.uniform(-1, 1, size)) * sin(np.pi * k * rng.uniform(0.12, 0.25))  # the plucking point
        loop = decay * cos(np.pi * k / size)
        rounds = np.multiply.accumulate([np.ones_like(loop), *[loop] * (periods - 1)])  # loop**p, one by one
        ring = irfft(burst * rounds, size).ravel()
        wave[start : start + len(ring)] += note.loud * ring * np.sqrt(np.linspace(1, 0, len(ring)))
    return _resonate(wave, ((110, 0.5, 6), (220, 0.5, 5), (400, 0.6, 3)), rate, rng)


def struck(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """A wooden bar: inharmonic modes (1 : 3 : 6.3 : 10.4, the first two tuned by carving) that decay fast."""
    wave = np.zeros(n, np.float32)
    hard = rng.uniform(0.4, 1)
    for note in score.notes:
        hz, start = _hz(note.pitch), round(note.start_s * rate)
        for ratio, gain, life_s in (
            (1, 1, 0.2),
            (3, 0.5 * hard, 0.07),
            (6.3, 0.3 * hard, 0.03),
            (10.4, 0.2 * hard, 0.015),
        ):
            if hz * ratio < 0.45 * rate:
                t = _seconds(min(n - start, round(5 * life_s * rate)), rate)
                wave[start : start + len(t)] += note.loud * gain * sin(2 * np.pi * hz * ratio * t) * exp(-t / life_s)
        t = _seconds(min(n - start, round(0.02 * rate)), rate)
        wave[start : start + len(t)] += 0.5 * note.loud * hard * _noise(len(t), rng) * exp(-t / 0.004)
    return wave


Synth = Callable[[Score, int, int, np.random.Generator], Wave]
SOUNDS: dict[str, Synth] = {
    "accordion": bellows,
    "acoustic_guitar": plucked,
    "cello": partial(bowed, vibrato=18, glide_s=0.03, body=((110, 0.6, 6), (220, 0.5, 7), (420, 0.6, 5), (2200, 0.6, -6), (5000, 1.2, -14))),
    "clarinet": partial(reed, even=0.06, slope=0.85, bore=((1600, 0.8, 5),)),
    "erhu": partial(bowed, vibrato=40, glide_s=0.11, body=((700, 0.4, 4), (1250, 0.35, 13), (2700, 0.4, 12), (350, 0.8, -8))),
    "flute": flute,
    "saxophone": partial(reed, even=1.0, slope=0.75, bore=((620, 0.5, 9), (1300, 0.5, 7), (2600, 0.6, 4))),
    "trumpet": partial(brass, bright_hz=1500, attack_s=0.03),
    "tuba": partial(brass, bright_hz=320, attack_s=0.06),
    "violin": partial(bowed, vibrato=24, glide_s=0.03, body=((290, 0.3, 7), (470, 0.35, 7), (1000, 0.4, -5), (2500, 0.6, 9), (6000, 1.0, -8))),
}  # fmt: skip
SOUNDS["xylophone"] = struck


# ---- parts


def _hz(pitch: float) -> float:
    return float(440 * exp2((pitch - 69) / 12))


def _unit(wave: Wave) -> Wave:
    """`wave` with an RMS of 1."""
    unit: Wave = wave / np.sqrt(np.mean(wave**2))
    return unit


def _noise(n: int, rng: np.random.Generator) -> Wave:
    return rng.standard_normal(n, dtype=np.float32)


def _seconds(n: int, rate: int) -> Wave:
    return (np.arange(n) / rate).astype(np.float32)


@lru_cache
def _octaves(n: int, rate: int) -> Wave:
    """How many octaves above 1 kHz each frequency of a spectrum of `n` samples lies."""
    octaves: Wave = log2(np.maximum(rfftfreq(n, 1 / rate), 1) / 1000).astype(np.float32)
    return octaves


def _gain(db: Wave) -> Wave:
    gain: Wave = exp(db * np.float32(np.log(10) / 20))
    return gain


def _filtered(wave: Wave, gain: Wave) -> Wave:
    """`wave` with each frequency multiplied by `gain`."""
    filtered: Wave = irfft(rfft(wave) * gain, len(wave))
    return filtered


def _pitch(score: Score, n: int, rate: int, glide_s: float, vibrato: float, vibrato_hz: float) -> Wave:
    """The fundamental in Hz: it glides to each note within about `glide_s`, with a vibrato of `vibrato` cents."""
    starts = [round(note.start_s * rate) for note in score.notes]
    held = np.diff([0, *starts[1:], n])
    pitch = np.repeat(np.array([note.pitch for note in score.notes], np.float32), held)
    width = 2 * round(glide_s * rate) + 2
    slope = 0.5 - 0.5 * cos(2 * np.pi / width * np.arange(width + 1))
    step = np.cumsum(slope / slope.sum())
    for start, before, after in zip(starts[1:], score.notes, score.notes[1:], strict=False):
        stop = min(n, start + len(step))
        pitch[start:stop] = before.pitch + (after.pitch - before.pitch) * step[: stop - start]
    trembling = vibrato / 100 * sin(2 * np.pi * vibrato_hz * _seconds(n, rate))
    return 440 * exp2((pitch - 69 + trembling) / 12)


def _loudness(score: Score, n: int, rate: int, attack_s: float, swell: float = 0.0) -> Wave:
    """Loudness in [0, 1]: each note rises within about `attack_s`, grows further with `swell`, and is released at its end."""
    level = np.zeros(n, np.float32)
    for note in score.notes:
        start = round(note.start_s * rate)
        t = _seconds(min(n - start, round(note.seconds * rate)), rate)
        rise = 1 - exp(-3 / attack_s * t)
        fall = np.clip((note.seconds - t) / 0.03, 0, 1)
        level[start : start + len(t)] = note.loud * rise * fall * (1 - swell + swell / note.seconds * t)
    return level


def _oscillate(f0: Wave, weights: NDArray[Any], rate: int) -> Wave:
    """A tone of changing pitch `f0` (Hz) with these `weights` of its harmonics, without aliasing."""
    weights = weights[: max(1, int(0.48 * rate / f0.max()))]
    spectrum = np.zeros(TABLE // 2 + 1, np.complex64)
    spectrum[1 : len(weights) + 1] = -0.5j * TABLE * weights
    phase = np.cumsum(f0, dtype=np.float64) * (TABLE / rate)
    return _unit(irfft(spectrum, TABLE)[phase.astype(np.int64) % TABLE])


def _resonate(wave: Wave, formants: Formants, rate: int, rng: np.random.Generator) -> Wave:
    """`wave` filtered by a body's resonances, each a few per cent off, so that no two instruments are alike."""
    octaves = _octaves(len(wave), rate)
    gain_db = np.zeros_like(octaves)
    for hz, width, gain in formants:
        middle = log2(hz * rng.uniform(0.92, 1.08) / 1000)
        gain_db += gain * exp(-(((octaves - middle) / width) ** 2))
    return _filtered(wave, _gain(gain_db))


def _reverberate(wave: Wave, room_s: float, rate: int, rng: np.random.Generator) -> Wave:
    """`wave` with reverberation that decays by 60 dB within `room_s` seconds."""
    t = _seconds(round(room_s * rate), rate)
    tail = _noise(len(t), rng) * _gain(-60 / room_s * t)
    tail *= 0.5 / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    size = next_fast_len(len(wave) + len(tail), real=True)
    a, b = rfft(wave, size), rfft(tail, size)
    both = np.empty_like(a)  # a * b, part by part: some CPUs would round once where others round twice
    both.real, both.imag = a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real
    echoing: Wave = irfft(both, size)
    return echoing[: len(wave)]
