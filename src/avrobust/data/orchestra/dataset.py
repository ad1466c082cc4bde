"""Writes the orchestra to disk, clip by clip, on all cores; resumable."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avrobust.data.entry import Entry
from avrobust.data.manifest import Manifest
from avrobust.data.orchestra.audio import perform, record
from avrobust.data.orchestra.difficulty import acoustics, looks
from avrobust.data.orchestra.score import RANGES, Score, compose
from avrobust.data.orchestra.video import cast, extent, film
from avrobust.data.workers import Lost, cores, in_processes
from avrobust.files import occupied, write_json
from avrobust.media.encode import AAC_RATES, write_mp4
from avrobust.progress import track_progress
from avrobust.seeds import Seeds

CLASSES = tuple(RANGES)
EDITION = 2  # increases when the same settings give other clips
ABOUT, TABLE = "orchestra.json", "manifest.csv"

BURIED_DB = -25.0  # signal to noise where noise masks the instrument


@dataclass(frozen=True)
class Orchestra:
    """The settings of the dataset; the same settings give the same files, byte for byte.

    `train`, `val` and `test` are clips per class.  Difficulties are in [0, 1]: `audio_difficulty` sets noise, interfering
    instruments, room and spectral tilt; `visual_difficulty` sets clutter, occlusion, rotation, unusual colours, blur and
    grain.  `rivals` is the share of clips in which a silent instrument of another class is as large as the sounding one.
    `shared` is the share of clips in which both modalities show the class: in half of the others noise masks the audio, in
    the other half a folding screen hides the instrument.

    Raises ValueError for settings out of range.

    >>> Orchestra(train=10).audio_difficulty
    0.5
    """

    seed: int = 0  # of all random choices
    train: int = 100  # training clips per class
    val: int = 12  # validation clips per class
    test: int = 60  # test clips per class
    audio_difficulty: float = 0.5  # 0 to 1: noise, interfering instruments, room
    visual_difficulty: float = 0.35  # 0 to 1: clutter, occlusion, rotation, colours, blur
    rivals: float = 0.4  # share of clips with a silent instrument of the same size
    shared: float = 1.0  # share of clips in which both modalities show the class
    seconds: float = 2.0  # duration of a clip in seconds
    rate: int = 22050  # sample rate in Hz
    fps: float = 6.0  # frames per second
    size: int = 112  # width and height in pixels

    def __post_init__(self) -> None:
        for name in ("audio_difficulty", "visual_difficulty", "rivals", "shared"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"expected {name} in [0, 1], got {value}. Choose another value.")
        if min(self.train, self.val, self.test) < 0 or self.train + self.val + self.test == 0:
            raise ValueError(
                f"expected clips per class, got train={self.train}, val={self.val}, test={self.test}. Give at "
                "least one split a positive number."
            )
        if not (0.5 <= self.seconds <= 60 and self.fps > 0 and self.seconds * self.fps >= 1):
            raise ValueError(
                f"expected 0.5 to 60 seconds and at least one frame, got seconds={self.seconds}, fps={self.fps}. "
                "Change them."
            )
        if self.rate not in AAC_RATES or self.rate < 8000:
            raise ValueError(f"expected a sample rate of AAC, 8000 Hz or more, got {self.rate}. Use 22050 or 44100.")
        if self.size < 32 or self.size % 2:
            raise ValueError(f"expected an even size of at least 32 pixels, got {self.size}. Use 112.")


@dataclass(frozen=True)
class Job:
    """One clip to write."""

    id: str
    label: str
    split: str

    @property
    def path(self) -> Path:
        return Path(self.label) / f"{self.id}.mp4"


def write(orchestra: Orchestra, out: Path | str, *, workers: int | None = None, progress: bool = True) -> Manifest:
    """Write the dataset as `<out>/<class>/<id>.mp4` with `<out>/manifest.csv`, and return the manifest.

    `box` in the manifest is where the sounding instrument is visible during the clip, as if nothing occluded it.  Extra
    columns: `carries` ("both", "audio" or "visual": the modality that shows the class), `rival` (1: a silent instrument is
    as large as the sounding one, at `rival_box`), `silent` and `silent_boxes` (all silent instruments, separated by ";").

    A folder with part of the same dataset is completed, a complete one is left unchanged, and one with other content is
    refused with ValueError.  `workers` processes work side by side (default: one for each core; 1: in this process); a
    script that starts processes should do so under `if __name__ == "__main__":`.

    >>> import tempfile
    >>> tiny = Orchestra(train=1, val=0, test=0, seconds=0.5, fps=2, size=32)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(write(tiny, Path(folder, "orchestra"), workers=1, progress=False))
    11
    """
    out = Path(out)
    _create(orchestra, out)
    jobs = tuple(_jobs(orchestra))
    if (out / TABLE).exists() and all((out / job.path).exists() for job in jobs):
        return Manifest.read(out / TABLE, classes=CLASSES)
    with track_progress("writing the orchestra", len(jobs), visible=progress) as advance:
        entries = []
        for entry in _made(orchestra, out, jobs, workers):
            entries.append(entry)
            advance()
    manifest = Manifest(out, tuple(entries), CLASSES)
    manifest.write(out / TABLE)
    return manifest


def make(orchestra: Orchestra, out: Path, job: Job) -> Entry:
    """The manifest's entry of one clip; its file is written if it is missing."""
    o, seeds = orchestra, Seeds(orchestra.seed, (job.id,))
    visual = looks(o.visual_difficulty)
    plan = seeds.generator(0, "plan")
    carries = "both" if plan.random() < o.shared else str(plan.choice(("audio", "visual")))
    rival = (
        bool(plan.random() < o.rivals) and carries != "visual"
    )  # with masked audio, nothing would show which one counts
    score = compose(job.label, o.seconds, plan)
    actors, player = cast(job.label, score, o.seconds, rival, visual, plan)
    times = (np.arange(round(o.seconds * o.fps)) + 0.5) / o.fps  # s, the middle of each frame
    box = extent(actors[player], times)
    if not (out / job.path).exists():
        wave = _audio(o, job.label, score, carries == "visual", seeds.generator(0, "sound"))
        film_rng = seeds.generator(0, "film")
        frames = film(actors, player, box, carries == "audio", times, o.size, visual, film_rng)
        write_mp4(out / job.path, wave, frames, o.rate, o.fps, crf=22, audio_bitrate=64_000)
    silent = [a for a in actors if a.still_s is not None]
    extra = {"carries": carries, "rival": str(int(rival))}
    if silent:
        extra["silent"] = ";".join(a.name for a in silent)
        boxes = [" ".join(f"{v:.4f}" for v in extent(a, times)) for a in silent]
        extra["silent_boxes"] = ";".join(boxes)
        if rival:
            extra["rival_box"] = boxes[-1]
    return Entry(job.id, job.label, job.split, job.path, box=box, extra=extra)


def _audio(o: Orchestra, label: str, score: Score, buried: bool, rng: np.random.Generator) -> NDArray[Any]:
    """The clip's audio: the player, in most clips another instrument in the background, a room, and noise."""
    n, around = round(o.seconds * o.rate), acoustics(o.audio_difficulty)
    player = perform(label, score, n, o.rate, rng)
    other = None
    if rng.random() < around.others:
        name = str(rng.choice([c for c in CLASSES if c != label]))
        other = perform(name, compose(name, o.seconds, rng), n, o.rate, rng)
    return record(
        player,
        other,
        below_db=float(rng.uniform(*around.below_db)),
        snr_db=BURIED_DB if buried else float(rng.uniform(*around.snr_db)),
        room_s=float(rng.uniform(*around.room_s)),
        tilt_db=around.tilt_db * float(rng.uniform(-1, 1)),
        peak=float(rng.uniform(0.15, 0.9)),
        rate=o.rate,
        rng=rng,
    )


def _jobs(orchestra: Orchestra) -> Iterator[Job]:
    for split in ("train", "val", "test"):
        for number in range(getattr(orchestra, split)):
            for label in CLASSES:
                yield Job(f"{label}-{split}-{number:04d}", label, split)


def _made(orchestra: Orchestra, out: Path, jobs: Sequence[Job], workers: int | None) -> Iterator[Entry]:
    """The manifest's entries, in order, as their files are written."""
    one = partial(make, orchestra, out)
    if workers == 1:
        yield from map(one, jobs)
        return
    for job, entry in in_processes(one, jobs, workers or cores()):
        if isinstance(entry, Lost):
            raise RuntimeError(
                f"expected clip '{job.id}' to be written, but making it {entry.reason}: memory may have run out. "
                "Run this again, with fewer workers; clips that are written are kept."
            )
        yield entry


def _create(orchestra: Orchestra, out: Path) -> None:
    """Write the settings to `out`, if it is new; refuse a folder with other settings or other content."""
    about: dict[str, Any] = {"edition": EDITION, **asdict(orchestra)}
    if (out / ABOUT).exists():
        found: dict[str, Any] = json.loads((out / ABOUT).read_text())
        differ = [key for key in sorted({*found, *about}) if found.get(key) != about.get(key)]
        if differ:
            had, asked = (", ".join(f"{key}={d.get(key)}" for key in differ) for d in (found, about))
            raise ValueError(
                f"{out}: expected an orchestra with {asked}, got one with {had}. Give another folder, or "
                "delete this one."
            )
        return
    if out.is_file() or occupied(out):
        raise ValueError(f"{out}: expected a new folder or one with an orchestra, got other files. Give another path.")
    write_json(out / ABOUT, about)
