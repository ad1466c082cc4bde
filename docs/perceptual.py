"""Draw what a clip of the orchestra masks: docs/images/masking.png and docs/images/radii.png, for the guide to perceptual budgets.

avrobust study quick
python docs/perceptual.py data/prepared/orchestra-...
"""

import sys
from pathlib import Path

import numpy as np
import torch
import vl_convert

from avrobust.data.store import Store
from avrobust.limits import DeltaE, PsychoacousticMask, Texture
from avrobust.media import write_png
from avrobust.media.colour import magma
from avrobust.report.figures import AUDIO, INK, VISUAL, Figure, on_paper
from avrobust.training import StoredBatches, View

OUT = Path(__file__).parent / "images"
EVEN, LARGER = 0.006, 4
NAMES = {"the clip": INK, "its masking threshold": AUDIO, "linf 0.006": VISUAL}


def spectrum(wave: torch.Tensor, rate: int) -> Figure:
    """The loudest window of a clip: its spectrum, its threshold, and white noise as loud as a linf budget allows."""
    mask = PsychoacousticMask(rate)
    clip = mask.spectrum(wave)[0].abs()
    window = int(clip.square().sum(1).argmax())
    noise = EVEN * torch.randn(wave.shape, generator=torch.Generator().manual_seed(0)).sign()
    levels = dict(zip(NAMES, (clip, mask.radii(wave)[0], mask.spectrum(noise)[0].abs()), strict=True))
    top = 20 * float(clip.max().log10())
    rows = [
        {"frequency, Hz": round(float(f)), "level, dB SPL": round(20 * float(s[window, k].clamp_min(1e-9).log10()) - top + 96, 1), "of": name}
        for name, s in levels.items()
        for k, f in enumerate(mask.frequencies)
        if f >= 60
    ]  # fmt: skip
    spec = {
        "mark": {"type": "line", "strokeWidth": 1.4, "clip": True},
        "encoding": {
            "x": {"field": "frequency, Hz", "type": "quantitative", "scale": {"type": "log", "domain": [60, rate / 2], "nice": False}},
            "y": {"field": "level, dB SPL", "type": "quantitative", "scale": {"domain": [-10, 100]}},
            "color": {"field": "of", "type": "nominal", "scale": {"domain": [*NAMES], "range": [*NAMES.values()]}, "legend": {"title": None}},
        },
    }  # fmt: skip
    return Figure("masking", "Masking", "A spectrum and its masking threshold.", rows, spec, size=(700, 340))


def radii(frames: torch.Tensor) -> np.ndarray:
    """A frame, its texture, and the mean radius of its pixels in one colour difference: larger is brighter."""
    frame = frames[0, 0].permute(1, 2, 0).numpy()
    shown = [frame]
    for limit in (Texture(), DeltaE()):
        size = limit.radii(frames)[0, 0].mean(0).numpy()
        shown.append(magma(size / size.max()))
    gap = np.ones((frame.shape[0], 3, 3))
    return np.concatenate([shown[0], gap, shown[1], gap, shown[2]], 1).repeat(LARGER, 0).repeat(LARGER, 1)


if __name__ == "__main__":
    store = Store.open(sys.argv[1])
    clip = next(iter(StoredBatches(store, "test", View(), 8))).x
    drawn = on_paper(spectrum(clip.audio[3:4], store.spec.rate).whole() | {"background": "white"})
    (OUT / "masking.png").write_bytes(vl_convert.vegalite_to_png(drawn, scale=1.5))
    write_png(OUT / "radii.png", radii(clip.visual[3:4]))
