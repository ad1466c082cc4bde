"""Pictures and sounds of a run, ready to be put into the page: frames and spectrograms as PNG, sounds as WAV.

Knows files and how to draw a sound; knows no results.
"""

import base64
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import matplotlib
import numpy as np
from PIL import Image
from scipy import signal
from scipy.io import wavfile

from avrobust.config import brief, parse
from avrobust.evaluation.conditions import Budget
from avrobust.report.load import RunError

T = TypeVar("T")
WINDOW = 512  # samples per spectrum: 46 ms at 11,025 Hz, a third of a semitone's worth of a violin's low notes
COLUMNS, ROWS = 220, 110  # a spectrogram's pixels
FLOOR_DB = 80  # how far below the loudest cell black begins


@dataclass(frozen=True)
class Sound:
    """A sound and its spectrogram as data URIs; `wav` is None where the page has no room for it."""

    wav: str | None
    spectrogram: str
    seconds: float
    rate: int


@dataclass(frozen=True)
class About:
    """What `gallery/*/clip.json` says of a clip."""

    label: str
    pred_clean: str
    pred: str
    attack: str
    subset: Literal["A", "V", "AV"]
    eps_audio: float
    eps_visual: float
    clip: str = ""
    threat: str = ""
    p_true_clean: float | None = None
    p_true_adv: float | None = None
    snr_db: float | None = None
    amplified: float | None = None


@dataclass(frozen=True)
class Example:
    """One attacked clip.  `difference` is the change of the frame, amplified `gain` times around grey."""

    about: About
    budget: Budget
    clean: str
    adversarial: str
    difference: str | None
    gain: float | None
    clean_sound: Sound | None
    adversarial_sound: Sound | None
    noise: str | None  # spectrogram of what was added, on the clean sound's scale


@dataclass(frozen=True)
class Sample:
    """One clip of the data, with the box of what sounds (x0 y0 x1 y1 in [0, 1]) if it is known."""

    label: str
    frame: str
    box: tuple[float, float, float, float] | None
    sound: Sound | None


@dataclass(frozen=True)
class Listed:
    """What `samples/samples.json` says of a clip: its files lie beside it."""

    label: str
    image: str
    sound: str | None = None
    box: tuple[float, float, float, float] | None = None


class Room:
    """How many bytes of sound still fit on the page."""

    def __init__(self, size: int) -> None:
        self.left = size

    def take(self, size: int) -> bool:
        """Whether `size` bytes fit; if so they are taken."""
        if size > self.left:
            return False
        self.left -= size
        return True


def examples(run: Path, room: Room) -> list[Example]:
    """The attacked clips of a run, in the order of their folders' numbers."""
    folders = (f.parent for f in run.glob("gallery/*/clip.json") if (f.parent / "adv.png").exists())
    return [_example(folder, room) for folder in sorted(folders, key=_number)]


def samples(run: Path, room: Room) -> list[Sample]:
    """Clips of the data, as samples/samples.json lists them."""
    index = run / "samples" / "samples.json"
    if not index.exists():
        return []
    found = []
    for entry in said(Listed, index):
        heard = sound(_beside(index, entry.sound, ".wav"), room) if entry.sound else None
        found.append(Sample(entry.label, uri(_beside(index, entry.image, ".png")), entry.box, heard))
    return found


def said(kind: type[T], path: Path) -> list[T]:
    """What a JSON file of a run says, one value or a list, as values of a kind.  Raises `RunError` where it does not fit."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        return [parse(kind, t, extra="ignore", finite=False) for t in (told if isinstance(told, list) else [told])]
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: expected what a clip shows, {brief(error, 400)}. Delete its folder and run the study again."
        ) from None


def _beside(index: Path, name: str, suffix: str) -> Path:
    """A file that an index names, if it lies beside it: a page is passed on, and holds files of its run only."""
    if Path(name).name != name or Path(name).suffix != suffix or not name.isprintable():
        raise RunError(
            f"{index}: expected the name of a {suffix} file beside it, got {brief(repr(name), 80)}. "
            "Put the file itself there."
        )
    return index.with_name(name)


def _number(folder: Path) -> tuple[int, str]:
    head = folder.name.split("-")[0]
    return (int(head) if head.isdigit() else 10**9, folder.name)


def _example(folder: Path, room: Room) -> Example:
    (about,) = said(About, folder / "clip.json")
    clean, adversarial = folder / "clean.wav", folder / "adv.wav"
    noise = None
    if clean.exists() and adversarial.exists():
        (before, rate), (after, _) = read_wav(clean), read_wav(adversarial)
        if len(before) == len(after) and (before != after).any():
            noise = _spectrogram(after - before, rate, loudest=_power(before, rate).max())
    difference = folder / "diff.png"
    return Example(
        about=about,
        budget=Budget.read(about.eps_audio, about.eps_visual, about.threat),
        clean=uri(folder / "clean.png"),
        adversarial=uri(folder / "adv.png"),
        difference=uri(difference) if difference.exists() else None,
        gain=about.amplified,
        clean_sound=sound(clean, room),
        adversarial_sound=sound(adversarial, room),
        noise=noise,
    )


def sound(path: Path, room: Room) -> Sound | None:
    """A WAV file for the page; None where there is none."""
    if not path.exists():
        return None
    wave, rate = read_wav(path)
    fits = room.take(path.stat().st_size)
    return Sound(uri(path) if fits else None, _spectrogram(wave, rate), len(wave) / rate, rate)


def uri(path: Path) -> str:
    """A PNG or WAV file as a data URI."""
    kind = {".png": "image/png", ".wav": "audio/wav"}[path.suffix]
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: expected a file of this run, got: {error}. Run the study again.") from None
    if not data.startswith(b"\x89PNG" if kind == "image/png" else b"RIFF"):
        raise RunError(
            f"{path}: expected a {path.suffix} file, got another. Delete its folder and run the study again."
        )
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """A WAV file as mono samples in [-1, 1] and their rate."""
    try:
        rate, data = wavfile.read(path)
        if rate < 1 or not len(data):
            raise ValueError(f"{len(data)} samples at {rate} Hz")
    except Exception as error:  # a damaged file fails in many ways
        raise RunError(
            f"{path}: expected a sound, got: {brief(error)}. Delete its folder and run the study again."
        ) from error
    wave = data / np.iinfo(data.dtype).max if np.issubdtype(data.dtype, np.integer) else data
    return wave.reshape(len(wave), -1).mean(1), int(rate)


def _power(wave: np.ndarray, rate: int) -> np.ndarray:
    """Power by (frequency, time)."""
    window = min(WINDOW, len(wave))
    _, _, power = signal.spectrogram(wave, rate, "hann", window, window - max(1, len(wave) // COLUMNS))
    return np.asarray(power)


def _spectrogram(wave: np.ndarray, rate: int, loudest: float | None = None) -> str:
    """A sound as a picture: time to the right, frequency up from 0 to half the rate, 80 dB from black to white."""
    power = _power(wave, rate)
    top = loudest if loudest is not None else power.max()
    db = 10 * np.log10(np.maximum(power, 1e-20) / max(top, 1e-20))
    level = np.clip(1 + db / FLOOR_DB, 0, 1)[::-1]
    # A palette of 64 colours: a third of the bytes of full colour, and no visible step.
    colours = (matplotlib.colormaps["magma"](np.linspace(0, 1, 64))[:, :3] * 255).astype(np.uint8)
    image = Image.fromarray((level * 255).astype(np.uint8)).resize((COLUMNS, ROWS), Image.Resampling.BOX)
    image = Image.fromarray((np.asarray(image) // 4).astype(np.uint8), mode="P")
    image.putpalette(colours.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
