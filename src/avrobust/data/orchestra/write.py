"""Writes the orchestra as video files: what each clip is made of, and many clips at once, resumable."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.progress import track

from avrobust.data.manifest import Entry, Manifest
from avrobust.data.orchestra.picture import cast, extent, film
from avrobust.data.orchestra.score import RANGES, compose
from avrobust.data.orchestra.sound import perform, record
from avrobust.media.encode import write_mp4
from avrobust.seeds import Seeds

CLASSES = tuple(RANGES)


@dataclass(frozen=True)
class Orchestra:
    """What the dataset is like; the same values give the same clips.

    `train`, `val`, `test` count clips per class.  The difficulties lie in [0, 1]: `sound_difficulty` sets noise,
    interfering instruments, room and colouring, `picture_difficulty` clutter, occlusion, rotation, odd colours,
    blur and grain.  `rivals` is the share of clips with a silent instrument as large as the sounding one.
    `shared` is the share of clips whose sound and picture both show the class; in half of the others noise buries
    the sound, in half a folding screen hides the instrument.
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
    rate: int = 22050
    fps: float = 8.0
    size: int = 112


def write(orchestra: Orchestra, out: Path, *, workers: int | None = None, progress: bool = True) -> Manifest:
    jobs = list(_clips(orchestra))
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        futures = [pool.submit(_make, orchestra, out, *job) for job in jobs]
        for _ in track(as_completed(futures), total=len(futures), disable=not progress):
            pass
        entries = tuple(f.result() for f in futures)
    manifest = Manifest(out, entries, CLASSES, out.name)
    manifest.write(out / "manifest.csv")
    return manifest


def _clips(orchestra: Orchestra) -> Iterator[tuple[str, str, str]]:
    """(id, label, split) of every clip."""
    for split, count in (("train", orchestra.train), ("val", orchestra.val), ("test", orchestra.test)):
        for number in range(count):
            for label in CLASSES:
                yield f"{label}-{split}-{number:04d}", label, split


def _make(o: Orchestra, out: Path, id: str, label: str, split: str) -> Entry:
    seeds = Seeds(o.seed, (id,))
    score = compose(label, o.seconds, seeds.generator(0, "score"))
    rng = seeds.generator(0, "plan")
    rival = bool(rng.random() < o.rivals)
    carries = "both" if rng.random() < o.shared else str(rng.choice(("audio", "visual")))
    actors, player = cast(label, score, o.seconds, rival, o.picture_difficulty, seeds.generator(0, "cast"))
    count = round(o.seconds * o.fps)
    times = (np.arange(count) + 0.5) / o.fps
    path = Path(label) / f"{id}.mp4"
    if not (out / path).exists():
        frames = film(actors, player, carries == "audio", times, o.size, o.picture_difficulty, seeds.generator(0, "film"))
        wave = _sound(o, label, score, carries == "visual", seeds.generator(0, "sound"))
        write_mp4(out / path, wave, frames, o.rate, o.fps)
    silent = [a for a in actors if a.still_s is not None]
    return Entry(
        id=id, label=label, split=split, video=path, box=extent(actors[player], times),
        extra={
            "carries": carries, "rival": str(int(rival)), "silent": ";".join(a.name for a in silent),
            "silent_boxes": ";".join(" ".join(f"{v:.4f}" for v in extent(a, times)) for a in silent),
        },
    )  # fmt: skip


def _sound(o, label, score, buried, rng):
    d = o.sound_difficulty
    n = round(o.seconds * o.rate)
    player = perform(label, score, n, o.rate, rng)
    other = None
    if rng.random() < 0.4 + 0.5 * d:
        name = str(rng.choice([c for c in CLASSES if c != label]))
        other = perform(name, compose(name, o.seconds, rng), n, o.rate, rng)
    return record(
        player, other,
        below_db=rng.uniform(*_between(d, ((8, 20), (1, 10), (0, 5)))),
        snr_db=-15.0 if buried else rng.uniform(*_between(d, ((25, 40), (-4, 12), (-14, 0)))),
        room_s=rng.uniform(*_between(d, ((0.05, 0.2), (0.1, 0.6), (0.3, 1.2)))),
        tilt_db=rng.uniform(-1, 1) * 6 * d,
        peak=rng.uniform(0.15, 0.9),
        rate=o.rate, rng=rng,
    )  # fmt: skip


def _between(d, ranges):
    easy, middle, hard = np.array(ranges, float)
    return easy + (middle - easy) * 2 * d if d < 0.5 else middle + (hard - middle) * (2 * d - 1)
