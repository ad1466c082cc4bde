"""Audio as figures: its spectrogram and its waveform, with axes in seconds, kilohertz and decibels."""

import base64
import io

import numpy as np
from PIL import Image
from scipy import signal

from avrobust.media.colour import magma
from avrobust.report.figures import AUDIO, Figure, Spec

WINDOW = 512  # samples per spectrum: 46 ms at 11,025 Hz, a third of a semitone's worth of a violin's low notes
COLUMNS, ROWS = 220, 110  # a spectrogram's pixels
FLOOR_DB = 80  # how far below the loudest cell black begins
SMALL, WAVEFORM = (270, 150), (400, 150)
STEPS = 240  # of a waveform: each spans from the lowest to the highest sample of its stretch


def power(wave: np.ndarray, rate: int) -> np.ndarray:
    """Power by (frequency, time)."""
    window = min(WINDOW, len(wave))
    _, _, density = signal.spectrogram(wave, rate, "hann", window, window - max(1, len(wave) // COLUMNS))
    return np.asarray(density)


def spectrogram(name: str, wave: np.ndarray, rate: int, loudest: float | None = None) -> Figure:
    """Time to the right, frequency up from 0 to half the rate; decibels below `loudest`, by default this audio's own."""
    density = power(wave, rate)
    top = loudest if loudest is not None else density.max()
    db = 10 * np.log10(np.maximum(density, 1e-20) / max(top, 1e-20))
    seconds, khz = round(len(wave) / rate, 3), rate / 2000
    title = f"Spectrogram: {name}"
    alt = f"{title}. {seconds:g} s, 0 to {khz:g} kHz, {FLOOR_DB} dB from black to white."
    spec = _axes(seconds, khz)
    return Figure(
        f"spectrogram {name}",
        title,
        alt,
        [{"image": _image(db), "loudest, dB": 0}],
        spec,
        SMALL,
        f"{title}.",
        live=False,
    )


def _axes(seconds: float, khz: float) -> Spec:
    x = {
        "type": "quantitative",
        "scale": {"domain": [0, seconds], "nice": False},
        "axis": {"title": "time (s)", "tickCount": 4},
    }
    y = {
        "type": "quantitative",
        "scale": {"domain": [0, khz], "nice": False},
        "axis": {"title": "kHz", "tickCount": 3, "grid": False},
    }
    image = {
        "mark": {"type": "image", "aspect": False, "width": {"expr": "width"}, "height": {"expr": "height"}},
        "encoding": {
            "x": x | {"datum": seconds / 2},
            "y": y | {"datum": khz / 2},
            "url": {"field": "image", "type": "nominal"},
        },
    }
    bar = {
        "title": "dB",
        "orient": "right",
        "gradientLength": 80,
        "gradientThickness": 8,
        "values": [-FLOOR_DB, -FLOOR_DB / 2, 0],
        "offset": 8,
    }
    scale = {  # nothing is seen of it but its legend
        "mark": {"type": "rect", "opacity": 0},
        "encoding": {"color": {"field": "loudest, dB", "type": "quantitative", "scale": {"scheme": "magma", "domain": [-FLOOR_DB, 0]}, "legend": bar}},
    }  # fmt: skip
    return {"layer": [image, scale]}


def _image(db: np.ndarray) -> str:
    """Decibels as an image, a data URI: the loudest white, `FLOOR_DB` below it black."""
    level = np.clip(1 + db / FLOOR_DB, 0, 1)[::-1]
    image = Image.fromarray((level * 255).astype(np.uint8)).resize((COLUMNS, ROWS), Image.Resampling.BOX)
    # A palette of 64 colours: a third of the bytes of full colour, and no visible step.
    image = Image.fromarray((np.asarray(image) // 4).astype(np.uint8), mode="P")
    image.putpalette((magma(np.linspace(0, 1, 64)) * 255).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def waveform(name: str, wave: np.ndarray, rate: int) -> Figure:
    """Audio in [-1, 1] over time, from the lowest to the highest sample of each of `STEPS` stretches.

    >>> waveform("a tone", np.array([0.0, 0.5, -0.5, 0.0]), 2).rows[1]
    {'time, s': 0.5, 'lowest': 0.5, 'highest': 0.5}
    """
    parts = np.array_split(wave, min(STEPS, max(len(wave), 1)))
    starts = np.cumsum([0, *map(len, parts[:-1])]) / rate
    rows = [
        {"time, s": round(float(t), 4), "lowest": _full_scale(part.min(initial=1)), "highest": _full_scale(part.max(initial=-1))}
        for t, part in zip(starts, parts, strict=True)
    ]  # fmt: skip
    spec = {
        "mark": {"type": "area", "color": AUDIO, "stroke": AUDIO, "strokeWidth": 0.8},
        "encoding": {
            "x": {"field": "time, s", "type": "quantitative", "axis": {"title": "time (s)"}},
            "y": {"field": "lowest", "type": "quantitative", "scale": {"domain": [-1, 1]}, "axis": {"title": "amplitude (of full scale)", "values": [-1, 0, 1]}},
            "y2": {"field": "highest"},
        },
    }  # fmt: skip
    title = f"Waveform: {name}"
    peak = max((abs(float(v)) for v in wave), default=0.0)
    return Figure(
        f"waveform {name}",
        title,
        f"{title}, {len(wave) / rate:.2f} s, peak {peak:.2f} of full scale.",
        rows,
        spec,
        WAVEFORM,
        f"{title}.",
        live=False,
    )


def _full_scale(value: float) -> float:
    return round(float(np.clip(value, -1, 1)), 4)
