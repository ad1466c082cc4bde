"""How the eleven instruments sound: each is synthesised by how it works.  Knows no pictures and no files.

Waves are float64 (n,) until they are mixed.  Blown, bowed and squeezed instruments sustain one tone whose pitch
and loudness change; plucked and struck ones ring, note by note.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq

from avrobust.data.orchestra.score import Score

Wave = NDArray[np.float64]
Formants = tuple[tuple[float, float, float], ...]  # (centre in Hz, width in octaves, gain in dB)
TABLE = 2048  # samples of one period


def perform(name: str, score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """`n` samples of `score`, played alone in a dry room, with an RMS of 1.  `rng` is the player and the instrument."""
    return _unit(SOUNDS[name](score, n, rate, rng))


def record(
    player: Wave, other: Wave | None, below_db: float, snr_db: float, room_s: float, tilt_db: float, peak: float,
    rate: int, rng: np.random.Generator,
) -> NDArray[np.float32]:  # fmt: skip
    """What a microphone hears of `player`, in [-1, 1].

    `other`, if any, plays `below_db` softer; the room rings for `room_s` seconds; noise lies `snr_db` below the
    player; `tilt_db` per octave makes the recording brighter or, below 0, duller; the loudest sample is `peak`.
    """
    wave = player if other is None else player + other * 10 ** (-below_db / 20)
    wave = _unit(_reverberate(wave, room_s, rate, rng))
    colour = rng.uniform(0, 1.2)  # 0: white noise, 1: pink
    octaves = np.log2(np.maximum(rfftfreq(len(wave), 1 / rate), 40) / 1000)
    noise = _unit(irfft(rfft(rng.standard_normal(len(wave))) * 2 ** (-colour * octaves / 2), len(wave)))
    wave = wave + noise * 10 ** (-snr_db / 20)
    wave = irfft(rfft(wave) * 10 ** (tilt_db * octaves / 20), len(wave))
    return (wave * (peak / np.abs(wave).max())).astype(np.float32)


# ---- families


def bowed(
    score: Score, n: int, rate: int, rng: np.random.Generator, *, body: Formants, vibrato: float, glide_s: float
) -> Wave:
    """A bow that grips and slips gives a sawtooth; the body's resonances colour it; bow hair hisses along."""
    f0 = _pitch(score, n, rate, glide_s, vibrato * rng.uniform(0.7, 1.3), rng.uniform(4.8, 6.6))
    level = _loudness(score, n, rate, rng.uniform(0.05, 0.11))
    k = np.arange(1, 61)
    string = _oscillate(f0, k**-1.0 * (1 + 0.3 * rng.standard_normal(len(k))), rate)
    hiss = rng.standard_normal(n) * 0.05
    return level * _resonate(string + hiss, body, rate, rng)


def reed(
    score: Score, n: int, rate: int, rng: np.random.Generator, *, even: float, slope: float, bore: Formants
) -> Wave:
    """A reed on a cylinder sounds odd harmonics (`even` near 0), on a cone all of them (`even` 1)."""
    f0 = _pitch(score, n, rate, 0.015, rng.uniform(0, 12), rng.uniform(4.5, 5.5))
    level = _loudness(score, n, rate, rng.uniform(0.02, 0.05))
    k = np.arange(1, 61)
    mouth = _oscillate(f0, k**-slope * np.where(k % 2, 1, even * np.minimum(1, k / 8 + even)), rate)
    return level * _resonate(mouth + rng.standard_normal(n) * 0.02, bore, rate, rng)


def flute(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """An edge tone: hardly more than two harmonics, a tremble of the breath, and the breath itself."""
    shake_hz = rng.uniform(4.5, 6)
    f0 = _pitch(score, n, rate, 0.02, 10, shake_hz)
    breath = 1 + rng.uniform(0.15, 0.35) * np.sin(2 * np.pi * shake_hz * np.arange(n) / rate)
    tone = _oscillate(f0, np.array([1, rng.uniform(0.2, 0.45), rng.uniform(0.05, 0.15), 0.03, 0.01]), rate)
    air = _resonate(rng.standard_normal(n), ((2500.0, 1.2, 18.0),), rate, rng) * rng.uniform(0.02, 0.04)
    return _loudness(score, n, rate, 0.05) * breath * (tone + air)


def brass(score: Score, n: int, rate: int, rng: np.random.Generator, *, bright_hz: float, attack_s: float) -> Wave:
    """Lips on a tube: the louder, the brighter.  Two tones, one dull and one bright, are mixed by loudness."""
    f0 = _pitch(score, n, rate, 0.02, rng.uniform(0, 15), 5.0)
    level = _loudness(score, n, rate, attack_s, swell=0.35)
    hz = np.arange(1, 61) * f0.mean()
    dull = _oscillate(f0, 1 / (1 + (hz / (0.6 * bright_hz)) ** 4), rate)
    bright = _oscillate(f0, (hz / hz[0]) ** 0.3 / (1 + (hz / (2.2 * bright_hz)) ** 3), rate)
    return level * ((1 - level) * dull + level * bright + rng.standard_normal(n) * 0.01)


def bellows(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """Two metal reeds some cents apart beat against each other, with a chord's third below and pulsing air."""
    f0 = _pitch(score, n, rate, 0.004, 0, 1)
    k = np.arange(1, 61)
    weights = k**-0.7 * (1 + 0.4 * rng.standard_normal(len(k)))
    beats = 2 ** (rng.uniform(7, 16) / 1200)
    reeds = _oscillate(f0, weights, rate) + _oscillate(f0 * beats, weights, rate)
    reeds += 0.6 * _oscillate(f0 * 2 ** (-rng.choice((4, 5, 7, 12)) / 12), weights, rate)
    return _loudness(score, n, rate, 0.02) * _resonate(reeds, ((1600.0, 1.0, 6.0),), rate, rng)


def plucked(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """Karplus and Strong's string: a burst of noise goes round a loop that averages neighbours.

    The loop filters once per period, so period number p has the burst's spectrum times filter**p.
    """
    wave = np.zeros(n)
    decay = rng.uniform(0.990, 0.996)
    for note in score.notes:
        start = round(note.start_s * rate)
        size = round(rate / _hz(note.pitch))  # the nearest whole sample: at most 3 cents out of tune at 1.2 kHz per %
        periods = min(n - start, rate) // size
        if periods < 1:
            continue
        burst = rfft(rng.uniform(-1, 1, size))
        burst *= np.sin(np.pi * np.arange(len(burst)) * rng.uniform(0.12, 0.25))  # plucked at this part of the string
        loop = decay * np.cos(np.pi * np.arange(len(burst)) / size)
        ring = irfft(burst * loop ** np.arange(periods)[:, None], size).ravel()
        wave[start : start + len(ring)] += note.loud * ring * np.linspace(1, 0, len(ring)) ** 0.5
    return _resonate(wave, ((110.0, 0.5, 6.0), (220.0, 0.5, 5.0), (400.0, 0.6, 3.0)), rate, rng)


def struck(score: Score, n: int, rate: int, rng: np.random.Generator) -> Wave:
    """A wooden bar: its modes are no harmonics (1 : 3 : 6.3 : 10.4, the first two tuned by carving), and die fast."""
    wave = np.zeros(n)
    hard = rng.uniform(0.4, 1)
    for note in score.notes:
        start = round(note.start_s * rate)
        t = np.arange(min(n - start, round(0.7 * rate))) / rate
        f0 = _hz(note.pitch)
        for ratio, gain, life_s in ((1, 1.0, 0.20), (3.0, 0.5, 0.07), (6.3, 0.3, 0.03), (10.4, 0.2, 0.015)):
            if f0 * ratio < 0.45 * rate:
                gain *= 1 if ratio == 1 else hard
                wave[start : start + len(t)] += note.loud * gain * np.sin(2 * np.pi * f0 * ratio * t) * np.exp(-t / life_s)
        knock = rng.standard_normal(len(t)) * np.exp(-t / 0.004)
        wave[start : start + len(t)] += 0.5 * note.loud * hard * knock
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
    return float(440 * 2 ** ((pitch - 69) / 12))


def _unit(wave: Wave) -> Wave:
    """`wave` with an RMS of 1."""
    return wave / np.sqrt(np.mean(wave**2))


def _pitch(score: Score, n: int, rate: int, glide_s: float, vibrato: float, vibrato_hz: float) -> Wave:
    """The fundamental in Hz: it slides to each note within about `glide_s` and trembles by `vibrato` cents."""
    starts = [round(note.start_s * rate) for note in score.notes]
    held = np.diff([0, *starts[1:], n])
    pitch = np.repeat([note.pitch for note in score.notes], held)
    if glide_s:
        bump = np.hanning(2 * max(1, round(glide_s * rate)) + 1)
        half = len(bump) // 2
        curve = np.concatenate(([0.0], np.cumsum(bump / bump.sum())))  # a smooth step
        for start, before, after in zip(starts[1:], score.notes, score.notes[1:], strict=False):
            stop = min(n, start + 2 * half)
            pitch[start:stop] = before.pitch + (after.pitch - before.pitch) * curve[: stop - start]
    t = np.arange(n) / rate
    return 440 * 2 ** ((pitch - 69 + vibrato / 100 * np.sin(2 * np.pi * vibrato_hz * t)) / 12)


def _loudness(score: Score, n: int, rate: int, attack_s: float, swell: float = 0.0) -> Wave:
    """0 to 1: each note rises within about `attack_s`, with `swell` goes on growing, and is let go at its end."""
    level = np.zeros(n)
    for note in score.notes:
        start = round(note.start_s * rate)
        t = np.arange(min(n - start, round(note.seconds * rate))) / rate
        rise = 1 - np.exp(-3 * t / attack_s)
        fall = np.clip((note.seconds - t) / 0.03, 0, 1)
        level[start : start + len(t)] = note.loud * rise * fall * (1 - swell * (1 - t / note.seconds))
    return level


def _oscillate(f0: Wave, weights: Wave, rate: int) -> Wave:
    """A tone of changing pitch `f0` whose harmonics have these `weights`, without those above half the rate."""
    weights = weights[: max(1, int(0.48 * rate / f0.max()))]
    spectrum = np.zeros(TABLE // 2 + 1, complex)
    spectrum[1 : len(weights) + 1] = -0.5j * TABLE * weights
    period = irfft(spectrum, TABLE)
    phase = np.cumsum(f0) * (TABLE / rate)
    whole = phase.astype(np.int64)
    left = period[whole % TABLE]
    return _unit(left + (phase - whole) * (period[(whole + 1) % TABLE] - left))


def _resonate(wave: Wave, formants: Formants, rate: int, rng: np.random.Generator) -> Wave:
    """`wave` through a body whose resonances lie some per cent off: no two instruments are alike."""
    octave = np.log2(np.maximum(rfftfreq(len(wave), 1 / rate), 20))
    gain_db = np.zeros(len(octave))
    for hz, width, gain in formants:
        gain_db += gain * np.exp(-(((octave - np.log2(hz * rng.uniform(0.92, 1.08))) / width) ** 2))
    return irfft(rfft(wave) * 10 ** (gain_db / 20), len(wave))


def _reverberate(wave: Wave, room_s: float, rate: int, rng: np.random.Generator) -> Wave:
    """`wave` with a tail of echoes that lose 60 dB within `room_s` seconds."""
    t = np.arange(round(room_s * rate)) / rate
    tail = rng.standard_normal(len(t)) * 10 ** (-3 * t / room_s)
    tail *= 0.5 / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    size = next_fast_len(len(wave) + len(tail), real=True)
    return irfft(rfft(wave, size) * rfft(tail, size), size)[: len(wave)]
