"""Some clips of the data, as the models get them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avrobust.report.media import Audio, Room, audio, beside, read_json, uri
from avrobust.report.run import Run
from avrobust.report.section import Section

Box = tuple[float, float, float, float]  # x0 y0 x1 y1 in [0, 1]


@dataclass(frozen=True)
class Listed:
    """What `samples/samples.json` says of a clip: its files lie beside it."""

    label: str
    image: str
    sound: str | None = None
    box: Box | None = None


@dataclass(frozen=True)
class Sample:
    """One clip of the data, with the box of its sound source if it is known."""

    label: str
    frame: str
    box: Box | None
    audio: Audio | None


def samples(run: Path, room: Room) -> list[Sample]:
    """Clips of the data, as samples/samples.json lists them."""
    index = run / "samples" / "samples.json"
    found = []
    for listed in read_json(Listed, index) if index.exists() else []:
        wav = (
            audio(beside(index, listed.sound, ".wav"), room, f"sample {Path(listed.sound).stem}")
            if listed.sound
            else None
        )
        found.append(Sample(listed.label, uri(beside(index, listed.image, ".png")), listed.box, wav))
    return found


def data(run: Run) -> Mapping[str, Any] | None:
    found = samples(run.path, Room()) if run.path else []
    labels = len({sample.label for sample in found})
    return {"samples": found, "result": f"{len(found)} clips of {labels} classes"} if found else None


SECTION = Section("samples", "The data", data)
