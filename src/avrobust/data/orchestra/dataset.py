"""The orchestra on disk: what each clip is made of, and all of them written side by side, resumable."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avrobust.data.manifest import Entry, Manifest
from avrobust.data.orchestra.picture import cast, extent, film
from avrobust.data.orchestra.score import RANGES, Score, compose
from avrobust.data.orchestra.sound import perform, record
from avrobust.data.workers import cores, pool
from avrobust.media.encode import AAC_RATES, write_bytes, write_mp4
from avrobust.progress import bar
from avrobust.seeds import Seeds

CLASSES = tuple(RANGES)
EDITION = 1  # goes up when the same values would give other clips
ABOUT, TABLE = "orchestra.json", "manifest.csv"

# What is drawn for a clip, evenly between two ends, at difficulty 0, 0.5 and 1.
OTHER_BELOW_DB = ((8, 20), (1, 10), (0, 5))
SNR_DB = ((25, 40), (-4, 12), (-14, 0))
ROOM_S = ((0.05, 0.2), (0.1, 0.6), (0.3, 1.2))
BURIED_DB = -25.0  # signal to noise where noise buries the sound


@dataclass(frozen=True)
class Orchestra:
    """What the dataset is like; the same values give the same files, byte for byte.

    `train`, `val` and `test` count clips per class.  The two difficulties lie in [0, 1]: `sound_difficulty` sets
    noise, interfering instruments, room and colouring; `picture_difficulty` sets clutter, occlusion, rotation, odd
    colours, blur and grain.  `rivals` is the share of clips in which a silent instrument of another class is as
    large as the sounding one.  `shared` is the share of clips whose sound and picture both show the class: in half
    of the others noise buries the sound, in the other half a folding screen stands before the instrument.
    """

    seed: int = 0
    train: int = 100
    val: int = 12
    test: int = 60
    sound_difficulty: float = 0.5
    picture_difficulty: float = 0.5
    rivals: float = 0.6
    shared: float = 1.0
    seconds: float = 2.5
    rate: int = 22050  # Hz
    fps: float = 8.0
    size: int = 112  # pixels; frames are squares

    def __post_init__(self) -> None:
        for name in ("sound_difficulty", "picture_difficulty", "rivals", "shared"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise ValueError(f"expected {name} in [0, 1], got {value}. It is a share, or a degree.")
        if min(self.train, self.val, self.test) < 0 or self.train + self.val + self.test == 0:
            raise ValueError(
                f"expected clips per class, got train={self.train}, val={self.val}, test={self.test}. Give at least one split a positive number."
            )
        if not (0.5 <= self.seconds <= 60 and self.fps > 0 and self.seconds * self.fps >= 1):
            raise ValueError(
                f"expected 0.5 to 60 seconds and at least one frame, got seconds={self.seconds}, fps={self.fps}. Change them."
            )
        if self.rate not in AAC_RATES or self.rate < 8000:
            raise ValueError(
                f"expected a rate that AAC carries, 8000 Hz or more, got {self.rate}. Take 22050 or 44100."
            )
        if self.size < 32 or self.size % 2:
            raise ValueError(f"expected an even size of at least 32 pixels, got {self.size}. Take 112.")


@dataclass(frozen=True)
class Job:
    """One clip to be made."""

    id: str
    label: str
    split: str

    @property
    def path(self) -> Path:
        return Path(self.label) / f"{self.id}.mp4"


def write(
    orchestra: Orchestra, out: Path | str, *, workers: int | None = None, progress: bool = True
) -> Manifest:
    """Write the dataset as `<out>/<class>/<id>.mp4` with `<out>/manifest.csv`, and return the manifest.

    `box` in the manifest is where the sounding instrument is seen over the clip, whatever stands before it.  Extra
    columns: `carries` ("both", "audio" or "visual": what shows the class), `rival` (1: a silent instrument is as
    large as the sounding one, and listed last), `silent` and `silent_boxes` (the silent instruments, set apart
    by ";").

    A folder that holds part of the same dataset is completed, a complete one is left as it is, and a folder that
    holds anything else is refused with `ValueError`.  `workers` processes work side by side (default: one for
    each core; 1: in this process), and a script that calls this with more than one does so under
    `if __name__ == "__main__":`.
    """
    out = Path(out)
    _claim(orchestra, out)
    jobs = tuple(_jobs(orchestra))
    if (out / TABLE).exists() and all((out / job.path).exists() for job in jobs):
        return Manifest.read(out / TABLE, classes=CLASSES)
    with bar("playing the orchestra", len(jobs), visible=progress) as advance:
        entries = []
        for entry in _made(orchestra, out, jobs, workers or cores()):
            entries.append(entry)
            advance(1)
    order = {job.id: number for number, job in enumerate(jobs)}
    manifest = Manifest(out, tuple(sorted(entries, key=lambda e: order[e.id])), CLASSES)
    manifest.write(out / TABLE)
    return manifest


def make(orchestra: Orchestra, out: Path, job: Job) -> Entry:
    """One clip's line of the manifest; its file is written unless it is there."""
    o, seeds = orchestra, Seeds(orchestra.seed, (job.id,))
    plan = seeds.generator(0, "plan")
    carries = "both" if plan.random() < o.shared else str(plan.choice(("audio", "visual")))
    rival = bool(plan.random() < o.rivals)
    score = compose(job.label, o.seconds, plan)
    actors, player = cast(job.label, score, o.seconds, rival, o.picture_difficulty, plan)
    times = (np.arange(round(o.seconds * o.fps)) + 0.5) / o.fps  # the middle of each frame's time on screen
    box = extent(actors[player], times)
    if not (out / job.path).exists():
        wave = _heard(o, job.label, score, carries == "visual", seeds.generator(0, "sound"))
        frames = film(
            actors, player, box, carries == "audio", times, o.size, o.picture_difficulty, seeds.generator(0, "film")
        )
        write_mp4(out / job.path, wave, frames, o.rate, o.fps, crf=22, audio_bitrate=64_000)
    silent = [a for a in actors if a.still_s is not None]
    boxes = (" ".join(f"{v:.4f}" for v in extent(a, times)) for a in silent)
    extra = {
        "carries": carries,
        "rival": str(int(rival)),
        "silent": ";".join(a.name for a in silent),
        "silent_boxes": ";".join(boxes),
    }
    return Entry(job.id, job.label, job.split, job.path, box=box, extra=extra)


def _heard(
    o: Orchestra, label: str, score: Score, buried: bool, rng: np.random.Generator
) -> NDArray[np.float32]:
    """The clip's sound: the player, in most clips someone else further away, a room, and noise."""
    n, hard = round(o.seconds * o.rate), o.sound_difficulty

    def drawn(ranges: Sequence[tuple[float, float]]) -> float:
        low, high = (np.interp(hard, (0, 0.5, 1), ends) for ends in zip(*ranges, strict=True))
        return float(rng.uniform(low, high))

    player = perform(label, score, n, o.rate, rng)
    other = None
    if rng.random() < 0.4 + 0.5 * hard:
        name = str(rng.choice([c for c in CLASSES if c != label]))
        other = perform(name, compose(name, o.seconds, rng), n, o.rate, rng)
    return record(
        player,
        other,
        below_db=drawn(OTHER_BELOW_DB),
        snr_db=BURIED_DB if buried else drawn(SNR_DB),
        room_s=drawn(ROOM_S),
        tilt_db=6 * hard * float(rng.uniform(-1, 1)),
        peak=float(rng.uniform(0.15, 0.9)),
        rate=o.rate,
        rng=rng,
    )


def _jobs(orchestra: Orchestra) -> Iterator[Job]:
    for split in ("train", "val", "test"):
        for number in range(getattr(orchestra, split)):
            for label in CLASSES:
                yield Job(f"{label}-{split}-{number:04d}", label, split)


def _made(orchestra: Orchestra, out: Path, jobs: Sequence[Job], workers: int) -> Iterator[Entry]:
    """The clips' lines, as they get ready."""
    one = partial(make, orchestra, out)
    if workers == 1:
        yield from map(one, jobs)
        return
    with pool(workers) as side_by_side:
        futures: list[Future[Entry]] = [side_by_side.submit(one, job) for job in jobs]
        for future in as_completed(futures):
            yield future.result()


def _claim(orchestra: Orchestra, out: Path) -> None:
    """Note in `out` what it is going to hold, unless it does; refuse a folder that holds something else."""
    about = {"edition": EDITION, "orchestra": asdict(orchestra)}
    if (out / ABOUT).exists():
        there = json.loads((out / ABOUT).read_text())
        if there != about:
            had, asked = (dict(edition=d["edition"], **d["orchestra"]) for d in (there, about))
            differ = ", ".join(f"{key} {had.get(key)} (asked: {asked.get(key)})" for key in sorted({*had, *asked}) if had.get(key) != asked.get(key))  # fmt: skip
            raise ValueError(
                f"{out}: expected an orchestra of the same configuration, got one with {differ}. Give another folder, or delete this one."
            )
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(
            f"{out}: expected a new folder or one that an orchestra was written to, got other files. Give another path."
        )
    write_bytes(out / ABOUT, json.dumps(about, indent=1).encode())
