"""Clips before and after an attack: frames, audio, spectrograms, and the difference."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from avrobust.facts import Budget
from avrobust.report.media import Audio, Room, audio, power, read_json, read_wav, spectrogram, uri
from avrobust.report.run import Run
from avrobust.report.section import Section


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
    amplified: float | None = None


@dataclass(frozen=True)
class Example:
    """One attacked clip.  `difference` is the change of the frame, amplified around grey.

    `noise` is the spectrogram of the audio perturbation, on the clean audio's scale.
    """

    about: ClipRecord
    clean: str
    adversarial: str
    difference: str | None
    clean_audio: Audio | None
    adversarial_audio: Audio | None
    noise: str | None


def examples(run: Path, room: Room) -> list[Example]:
    """The attacked clips of a run, in the order of their folders' names."""
    folders = (f.parent for f in run.glob("gallery/*/clip.json") if (f.parent / "adv.png").exists())
    return [_example(folder, room) for folder in sorted(folders)]


def _example(folder: Path, room: Room) -> Example:
    (about,) = read_json(ClipRecord, folder / "clip.json")
    clean, adversarial, difference = folder / "clean.wav", folder / "adv.wav", folder / "diff.png"
    noise = None
    if clean.exists() and adversarial.exists():
        (before, rate), (after, _) = read_wav(clean), read_wav(adversarial)
        if len(before) == len(after) and (before != after).any():
            noise = spectrogram(after - before, rate, loudest=power(before, rate).max())
    return Example(
        about=about,
        clean=uri(folder / "clean.png"),
        adversarial=uri(folder / "adv.png"),
        difference=uri(difference) if difference.exists() else None,
        clean_audio=audio(clean, room),
        adversarial_audio=audio(adversarial, room),
        noise=noise,
    )


def data(run: Run) -> Mapping[str, Any] | None:
    found = examples(run.path, Room()) if run.path else []
    return {"examples": found} if found else None


SECTION = Section("gallery", "Adversarial examples", data)
