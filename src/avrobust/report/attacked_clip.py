"""One attacked clip to be seen and heard: clean, adversarial and their difference side by side, as a part of a page.

It shows what the model receives, not the whole video.  Nothing lies outside the page: media are data URIs.
"""

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from markupsafe import Markup
from scipy import signal

from avrobust.evaluation.one_clip import ADVERSARIAL, CLEAN, AttackedClip, as_arrays
from avrobust.media import encode_mp4, encode_png
from avrobust.media.encode import AAC_RATES
from avrobust.report.figures import INK, MUTED, Figure, Row
from avrobust.report.formatting import spaced, used
from avrobust.report.spectrogram import power, spectrogram
from avrobust.types import AV

SIDE = 256  # pixels of a shown frame at least: browsers would blur smaller ones
FPS = 8.0  # at least; a video of one frame does not play everywhere
DRAWN = 5  # classes in the figure of the search
POINTS = 160  # of it, at most
FORMS = {CLEAN: "Clean", ADVERSARIAL: "Adversarial"}
COLOURS = ("var(--good)", "var(--visual)", "var(--audio)", "var(--purple)", MUTED, INK)


@dataclass(frozen=True)
class Card:
    """The clip in one form; `video` and `heat` are data URIs, `note` says how it is shown."""

    title: str
    video: str
    spectrogram: Figure
    heat: str | None
    note: str


def fragment(clip: AttackedClip, rate: int) -> Markup:
    """The clip as HTML, in the style of the report; `rate` is that of its audio, in Hz."""
    from avrobust.report.page import environment  # the page's own templates import this part

    content = {
        "clip": clip, "cards": cards(clip, rate), "search": search(clip), "used": used(clip.threat.budget, clip.distortion),
        "outcome": spaced(clip.outcome), "names": names, "forms": clip.success,
    }  # fmt: skip
    return Markup(environment().get_template("templates/attacked_clip.html.j2").render(content))


def cards(clip: AttackedClip, rate: int) -> list[Card]:
    """Clean, adversarial, and the difference amplified until its largest value fills the range."""
    clean, made = as_arrays(clip.x), as_arrays(clip.adversarial)
    delta = AV(audio=made.audio - clean.audio, visual=made.visual - clean.visual)
    times = delta.map(lambda d: 0.5 / float(np.abs(d).max()) if np.any(d) else 0.0)
    loudest = float(power(clean.audio, rate).max())
    found = []
    for form, x in ((CLEAN, clean), (ADVERSARIAL, made)):
        name, p = clip.ranking(form, 1)[0]
        heat = clip.answers[form].heat
        shown = spectrogram(form, x.audio, rate, loudest)
        found.append(
            Card(
                FORMS[form],
                video(x, rate),
                shown,
                None if heat is None else heat_map(x.visual, heat),
                f"{spaced(name)}, {p:.0%}",
            )
        )
    amplified = AV(audio=delta.audio * times.audio, visual=np.clip(0.5 + delta.visual * times.visual, 0, 1))
    factors = [f"{name} × {t:.0f}" if t else f"{name} untouched" for name, t in times.items()]
    shown = spectrogram("difference", delta.audio, rate, loudest)
    return [*found, Card("Difference", video(amplified, rate), shown, None, f"amplified: {', '.join(factors)}")]


def video(x: AV[Any], rate: int) -> str:
    """Audio and frames as a video that browsers play, in a data URI; small frames are enlarged without smoothing."""
    whole = min((r for r in AAC_RATES if r >= rate), default=max(AAC_RATES))
    wave = x.audio if whole == rate else np.clip(signal.resample_poly(x.audio, whole, rate), -1, 1).astype(np.float32)
    times = max(1, math.ceil(SIDE / max(x.visual.shape[1:3])))
    fps = len(x.visual) / (len(x.audio) / rate)
    again = max(1, math.ceil(FPS / fps))
    frames = x.visual.repeat(again, 0).repeat(times, 1).repeat(times, 2)
    data = encode_mp4(np.pad(wave, (0, -len(wave) % 1024)), frames, whole, fps * again, crf=12)
    return f"data:video/mp4;base64,{base64.b64encode(data).decode()}"


def heat_map(frames: Any, heat: Any) -> str:
    """The middle frame in grey with the heat map over it, hottest brightest, as a data URI."""
    from avrobust.study.showcase import over  # here: a study may end with a report

    shown = over(frames[len(frames) // 2], torch.from_numpy(heat[len(heat) // 2]))
    return f"data:image/png;base64,{base64.b64encode(encode_png(shown)).decode()}"


def search(clip: AttackedClip) -> Figure | None:
    """Probabilities of the classes that matter, answer by answer of the search; None without any answer."""
    asked = len(clip.history)
    if not asked:
        return None
    first = [clip.label, *filter(lambda k: k is not None, [clip.target])]
    likely = np.argsort(-clip.history.max(0), kind="stable").tolist()
    drawn = list(dict.fromkeys([*first, int(clip.history[-1].argmax()), *likely]))[:DRAWN]
    steps = np.unique(np.linspace(0, asked - 1, min(asked, POINTS)).round().astype(int))
    rows: list[Row] = [
        {"answer": 1 + int(i), "class": spaced(clip.classes[k]), "probability": round(100 * float(clip.history[i, k]), 2)}
        for k in drawn for i in steps
    ]  # fmt: skip
    names = [spaced(clip.classes[k]) for k in drawn]
    colour = {
        "field": "class",
        "type": "nominal",
        "scale": {"domain": names, "range": COLOURS[: len(names)]},
        "legend": {"title": None},
    }
    encoding = {
        "x": {"field": "answer", "type": "quantitative", "title": "answers of the model to the attack", "scale": {"nice": False}, "axis": {"tickMinStep": 1, "format": "d"}},
        "y": {"field": "probability", "type": "quantitative", "title": "probability (%)", "scale": {"domain": [0, 100]}},
        "color": colour,
    }  # fmt: skip
    mark = {"type": "line" if asked > 1 else "point", "strokeWidth": 2, "interpolate": "linear"}
    alt = f"Probabilities of {', '.join(names)} over the {asked} answers that {clip.attack} asked for."
    return Figure("search", "Predictions over the search", alt, rows, {"mark": mark, "encoding": encoding}, (700, 240))


def names(ranking: Sequence[tuple[str, float]]) -> str:
    """The most likely classes in a line.

    >>> names([("tuba", 0.931), ("flute", 0.05)])
    'tuba 93.1 %, flute 5.0 %'
    """
    return ", ".join(f"{spaced(name)} {100 * p:.1f} %" for name, p in ranking)
