"""Frames and audio of a run, ready for the page: PNG and WAV files as data URIs, spectrograms, and what JSON says of them.

A page is passed on, so it holds files of its own run only.  Knows files and how to draw audio; knows no results.
"""

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy.io import wavfile

from avrobust.config import brief, parse
from avrobust.report.figures import Figure
from avrobust.report.load import RunError
from avrobust.report.spectrogram import spectrogram

T = TypeVar("T")
FOLDERS = ("gallery", "samples", "strips", "features")  # of a run, whose files a page may hold
MEDIA_BYTES = 2_000_000  # of audio and video in one section; base64 adds a third, images and curves below a megabyte
# By the end of a file's name: its kind, and how it begins from which byte on.
KINDS = {".png": ("image/png", 0, b"\x89PNG"), ".wav": ("audio/wav", 0, b"RIFF"), ".mp4": ("video/mp4", 4, b"ftyp")}


@dataclass(frozen=True)
class Audio:
    """A clip's audio as a data URI, None where the page has no room for it, and its spectrogram."""

    wav: str | None
    spectrogram: Figure


class Room:
    """How many bytes of audio and video still fit into a section."""

    def __init__(self, size: int = MEDIA_BYTES) -> None:
        self.left = size

    def reserve(self, size: int) -> bool:
        """Whether `size` bytes fit; if so they are reserved."""
        if size > self.left:
            return False
        self.left -= size
        return True


def check_inside(folder: Path) -> None:
    """Refuse media that are links to elsewhere: the page would carry somebody's other files along."""
    for part in FOLDERS:
        for file in (folder / part, *(folder / part).rglob("*")):
            if not file.resolve().is_relative_to(folder.resolve()):
                raise RunError(
                    f"{file}: expected a file of this run, got a link to {file.resolve()}. Put the file itself there."
                )


def read_json(kind: type[T], path: Path) -> list[T]:
    """A JSON file of a run, one value or a list, as values of a kind.  Raises `RunError` where it does not fit."""
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return [parse(kind, p, extra="ignore", finite=False) for p in (plain if isinstance(plain, list) else [plain])]
    except (OSError, ValueError, RecursionError) as error:
        raise RunError(
            f"{path}: expected the record of a clip, {brief(error, 400)}. Delete its folder and run the study again."
        ) from None


def beside(index: Path, name: str, suffix: str) -> Path:
    """A file that an index names, if it lies beside it."""
    if Path(name).name != name or Path(name).suffix != suffix or not name.isprintable():
        raise RunError(
            f"{index}: expected the name of a {suffix} file beside it, got {brief(repr(name), 80)}. "
            "Put the file itself there."
        )
    return index.with_name(name)


def audio(path: Path, room: Room, name: str) -> Audio | None:
    """A WAV file for the page, `name` says what it is of; None where there is none."""
    if not path.exists():
        return None
    wave, rate = read_wav(path)
    return Audio(uri(path) if room.reserve(path.stat().st_size) else None, spectrogram(name, wave, rate))


def video(path: Path, room: Room) -> str | None:
    """An MP4 file as a data URI; None where there is none, or no room for it."""
    return uri(path) if path.exists() and room.reserve(path.stat().st_size) else None


def uri(path: Path) -> str:
    """A PNG, WAV or MP4 file as a data URI."""
    kind, at, head = KINDS[path.suffix]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"{path}: expected a file of this run, got: {error}. Run the study again.") from None
    if content[at : at + len(head)] != head:
        raise RunError(
            f"{path}: expected a {path.suffix} file, got another. Delete its folder and run the study again."
        )
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def read_wav(path: Path) -> tuple[np.ndarray, int]:
    """A WAV file as mono samples in [-1, 1] and their rate."""
    try:
        rate, samples = wavfile.read(path)
        if rate < 1 or not len(samples):
            raise ValueError(f"{len(samples)} samples at {rate} Hz")
    except Exception as error:  # a damaged file fails in many ways
        raise RunError(
            f"{path}: expected audio, got: {brief(error)}. Delete its folder and run the study again."
        ) from error
    wave = samples / np.iinfo(samples.dtype).max if np.issubdtype(samples.dtype, np.integer) else samples
    return wave.reshape(len(wave), -1).mean(1), int(rate)
