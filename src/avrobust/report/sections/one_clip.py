"""One clip before and after a joint attack: waveform, audio, frame, attention and prediction."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from avrobust.report.figures import Figure
from avrobust.report.formatting import ATTACKED, spaced
from avrobust.report.media import Audio, Room, audio, read_wav
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.localisation import Strip, strips
from avrobust.report.spectrogram import WAVEFORM, waveform


@dataclass(frozen=True)
class Side:
    """The clip in one condition."""

    condition: str  # "clean" or "AV"
    waveform: Figure
    audio: Audio
    frame: str
    heat: str
    pred: str


@dataclass(frozen=True)
class OneClip:
    """One clip of one model that localises; `sides` are clean and attacked on both modalities."""

    model: str
    strip: Strip
    sides: tuple[Side, Side]


def one_clip(run: Run, room: Room) -> OneClip | None:
    """The first clip that the joint attack fools, else the first; None where no study kept its audio."""
    for model in run.localisers:
        whole = [s for s in strips(run, model) if {"clean", "AV"} <= s.audio.keys() & s.frames.keys()]
        for strip in sorted(whole, key=lambda s: s.about.pred["AV"] == s.about.label)[:1]:
            clean, attacked = (_side(strip, condition, room) for condition in ("clean", "AV"))
            return OneClip(model, strip, (clean, attacked))
    return None


def _side(strip: Strip, condition: str, room: Room) -> Side:
    name = f"one clip, {ATTACKED[condition].lower()}"
    wav = audio(strip.audio[condition], room, name)
    assert wav is not None
    wav = replace(wav, spectrogram=replace(wav.spectrogram, size=WAVEFORM))  # one time axis below the other
    return Side(
        condition,
        waveform(name, *read_wav(strip.audio[condition])),
        wav,
        strip.frames[condition],
        strip.heat[condition],
        strip.about.pred[condition],
    )


def data(run: Run) -> Mapping[str, Any] | None:
    found = one_clip(run, Room())
    if not found:
        return None
    clean, attacked = (spaced(side.pred) for side in found.sides)
    return {
        "one": found,
        "result": f"{spaced(found.strip.about.label)}: {clean} when clean, {attacked} when both are attacked",
    }


SECTION = Section("one_clip", "One clip, clean and attacked", data)
