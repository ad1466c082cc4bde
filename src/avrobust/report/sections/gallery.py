"""Clips before and after an attack: video with audio, spectrograms, predictions, and the difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avrobust.facts import Budget
from avrobust.report.figures import Figure
from avrobust.report.formatting import ATTACKED, at
from avrobust.report.media import Audio, Room, audio, read_json, read_wav, uri, video
from avrobust.report.run import Run
from avrobust.report.section import Section
from avrobust.report.sections.setup import seen
from avrobust.report.spectrogram import power, spectrogram


@dataclass(frozen=True)
class ClipRecord:
    """What `gallery/*/clip.json` says of a clip."""

    label: str
    pred_clean: str
    pred: str
    attack: str
    subset: Literal["A", "V", "AV"]
    budget: Budget
    clip: str = ""
    p_true_clean: float | None = None
    p_true_adv: float | None = None
    snr_db: float | None = None
    psnr_db: float | None = None
    mask_db: float | None = None
    ssim: float | None = None
    amplified: float | None = None
    seconds: float | None = None  # of audio that the model hears
    frames: int | None = None  # that it sees


@dataclass(frozen=True)
class Side:
    """The clip clean or attacked: its frames side by side, a video with its audio where the run has one, its audio."""

    frame: str
    video: str | None
    audio: Audio | None


@dataclass(frozen=True)
class Example:
    """One attacked clip.  `difference` is the change of the frame, amplified around grey.

    `noise` is the spectrogram of the audio perturbation, on the clean audio's scale.
    """

    about: ClipRecord
    clean: Side
    adversarial: Side
    difference: str | None
    noise: Figure | None

    @property
    def fooled(self) -> bool:
        return self.about.pred != self.about.label


def examples(run: Path, room: Room) -> list[Example]:
    """The attacked clips of a run, in the order of their folders' names."""
    folders = (f.parent for f in run.glob("gallery/*/clip.json") if (f.parent / "adv.png").exists())
    return [_example(folder, room) for folder in sorted(folders)]


def _example(folder: Path, room: Room) -> Example:
    (about,) = read_json(ClipRecord, folder / "clip.json")
    name = f"example {folder.name}"
    clean, adversarial, difference = folder / "clean.wav", folder / "adv.wav", folder / "diff.png"
    noise = None
    if clean.exists() and adversarial.exists():
        (before, rate), (after, _) = read_wav(clean), read_wav(adversarial)
        if len(before) == len(after) and (before != after).any():
            noise = spectrogram(f"perturbation of {name}", after - before, rate, loudest=power(before, rate).max())
    difference_uri = uri(difference) if difference.exists() else None
    return Example(
        about,
        _side(clean, room, f"{name}, clean"),
        _side(adversarial, room, f"{name}, attacked"),
        difference_uri,
        noise,
    )


def _side(wav: Path, room: Room, name: str) -> Side:
    """A video carries the audio: a clip that has one needs no other."""
    played = video(wav.with_suffix(".mp4"), room)
    return Side(uri(wav.with_suffix(".png")), played, audio(wav, Room(0) if played else room, name))


def data(run: Run) -> Mapping[str, Any] | None:
    found = examples(run.path, Room()) if run.path else []
    if not found:
        return None
    fooled = all(example.fooled for example in found)
    first = next(iter(run.levels), {})
    budgets = {e.about.subset: e.about.budget for e in found}
    return {
        "examples": found,
        "seen": seen(run),
        "model": next(iter(run.record.models), ""),  # studies show their first one
        "others": [
            f"{ATTACKED[s].lower()} at {at(s, b)} here, at {at(s, first[s])} there"
            for s, b in budgets.items()
            if s in first and at(s, b) != at(s, first[s])
        ],
        "result": f"{len(found)} examples, chosen among clips that the attack fools{'' if fooled else ' as far as there are any'}",
    }


SECTION = Section("gallery", "Adversarial examples", data)
