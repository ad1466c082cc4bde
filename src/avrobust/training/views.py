"""Views: the part of a prepared clip that a model gets, and batches of them.

A view is a segment of the audio, and frames spread evenly over the same segment, so that audio and video stay aligned.
Training draws the segment, the crop, a horizontal flip and the volume per (seed, epoch, clip); evaluation takes the
centre.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from avrobust.media.decode import Clip
from avrobust.media.spec import ClipSpec
from avrobust.seeds import Seeds, stable_hash
from avrobust.types import AV, Batch

VOLUME = (0.5, 1.5)  # as in the published code
CPU = torch.device("cpu")


@runtime_checkable
class Clips(Protocol):
    """Labelled clips: a `data.store.Store`, or any object with these five.

    Training reads every clip once to recognise it, unless a method `stable_hash(id)` names what a clip holds.
    """

    @property
    def spec(self) -> ClipSpec: ...
    @property
    def classes(self) -> Sequence[str]: ...
    def ids(self, split: str) -> Sequence[str]: ...
    def label(self, id: str) -> int | Sequence[float]: ...
    def __getitem__(self, id: str) -> Clip: ...


@dataclass(frozen=True)
class View:
    """The part of a clip that a model gets.

    The published setting is `View(samples=65535, frames=1, size=224)`, at 11,025 Hz.
    """

    samples: int = 12288  # samples of audio, from the middle of the clip
    frames: int = 1  # frames, spread evenly over these samples
    size: int = 64  # width and height in pixels, from the middle of each frame

    def __post_init__(self) -> None:
        for name in ("samples", "frames", "size"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected a view of at least 1 {name}, got {getattr(self, name)}. Ask for more.")


def received(spec: ClipSpec, view: View) -> str:
    """What a model receives of each clip, for people: often less than the clip holds.

    >>> received(ClipSpec(seconds=3.0), View(samples=12288))
    '1.11 s of 3 s of audio at 11,025 Hz and 1 frame of 64 x 64 pixels, from the middle of the clip'
    """
    frames = f"{view.frames} frame{'s' * (view.frames > 1)} of {view.size} x {view.size} pixels"
    audio = f"{view.samples / spec.rate:.2f} s of {spec.seconds:g} s of audio at {spec.rate:,} Hz"
    return f"{audio} and {frames}, from the middle of the clip"


@dataclass(frozen=True)
class Augment:
    """Random views: the draws depend on (seed, epoch, clip) and on nothing else."""

    seed: int
    epoch: int

    def seeds(self, ids: Sequence[str]) -> Seeds:
        """The draws of these clips in this epoch."""
        return Seeds(stable_hash(self.seed, "view", self.epoch), tuple(ids))


def cut(clip: Clip, spec: ClipSpec, view: View, generator: np.random.Generator | None = None) -> AV[np.ndarray]:
    """The view of a clip: audio float32 (n) in [-1, 1], video uint8 (t size size 3).

    Without a generator it is the centre.  With one: any segment, any crop, flipped half of the time, volume times
    U(0.5, 1.5) and then clipped at full scale.
    """
    spare = AV(audio=len(clip.wave) - view.samples, visual=min(clip.frames.shape[1:3]) - view.size)
    if spare.audio < 0:
        raise ValueError(
            f"expected at least {view.samples} samples of audio, got {len(clip.wave)}. "
            "Prepare longer clips, or ask for a shorter view."
        )
    if spare.visual < 0:
        raise ValueError(
            f"expected frames of at least {view.size} pixels, got {clip.frames.shape[1]} x {clip.frames.shape[2]}. "
            "Prepare larger frames, or ask for a smaller view."
        )

    def place(room: int) -> int:
        return room // 2 if generator is None else int(generator.integers(room + 1))

    start = place(spare.audio)
    wave = clip.wave[start : start + view.samples]
    seconds = (start + (np.arange(view.frames) + 0.5) / view.frames * view.samples) / spec.rate
    # Frame j is on screen from j / fps to (j + 1) / fps.
    shown = np.minimum((seconds * spec.fps).astype(int), len(clip.frames) - 1)
    top, left = (place(side - view.size) for side in clip.frames.shape[1:3])
    frames = clip.frames[shown, top : top + view.size, left : left + view.size]
    if generator is not None:
        if generator.random() < 0.5:
            frames = frames[:, :, ::-1]
        wave = np.clip(wave * np.float32(generator.uniform(*VOLUME)), -1, 1)
    return AV(audio=wave, visual=frames)


def window(spec: ClipSpec, view: View) -> tuple[float, float, float, float]:
    """The part of a square prepared frame that the centre view shows, x0 y0 x1 y1 in [0, 1].

    >>> window(ClipSpec(size=72), View(size=36))
    (0.25, 0.25, 0.75, 0.75)
    """
    start = (spec.size - view.size) // 2 / spec.size
    end = start + view.size / spec.size
    return (start, start, end, end)


def subset(ids: Sequence[str], limit: int | None) -> tuple[str, ...]:
    """At most `limit` of the clips, drawn by name, in their order.  A smaller limit gives a subset of a larger one.

    >>> subset(["a", "b", "c"], 5), len(subset(["a", "b", "c"], 2))
    (('a', 'b', 'c'), 2)
    """
    if limit is None or limit >= len(ids):
        return tuple(ids)
    kept = set(sorted(ids, key=lambda id: stable_hash("limit", id))[:limit])
    return tuple(id for id in ids if id in kept)


def count_batches(clips: int, batch_size: int) -> int:
    """Training batches per epoch: whole batches only, as batch normalisation needs them; one if there are fewer clips."""
    return max(1, clips // batch_size)


def batches(
    store: Clips,
    split: str,
    view: View,
    batch_size: int,
    *,
    augment: Augment | None = None,
    limit: int | None = None,
    start: int = 0,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch]:
    """The clips of a split, in batches of `batch_size`.

    Without `augment`: every clip once, in the store's order, at the centre.  With it: in random order, each view
    drawn, and the last clips left out where they do not fill a batch.  `limit` keeps so many clips (`subset`);
    `start` skips that many batches; `shard` = (number, count) gives one process its share of each batch.
    """
    ids = subset(store.ids(split), limit)
    if not ids:
        raise ValueError(
            f"expected clips in the split '{split}', got none. Check the manifest and what prepare reported."
        )
    count = -(-len(ids) // batch_size)
    if augment is not None:
        ids = tuple(sorted(ids, key=lambda id: stable_hash(augment.seed, "order", augment.epoch, id)))
        count = count_batches(len(ids), batch_size)
    for i in range(start, count):
        mine = ids[i * batch_size : (i + 1) * batch_size][shard[0] :: shard[1]]
        if mine:
            yield _batch(store, mine, view, augment)


@dataclass(frozen=True, eq=False)
class StoredBatches:
    """The clips of a split at the centre of their views, in batches that are read when they are asked for, each time anew.

    They can be gone through again and again, and are never in memory together: so a test set may be of any size.  `ids` and
    `labels` name all clips, and `pick` reads any of them.  Raises `ValueError` where the split has no clips.
    """

    store: Clips
    split: str
    view: View
    batch_size: int
    limit: int | None = None  # at most so many clips; see `subset`
    device: torch.device = CPU

    def __iter__(self) -> Iterator[Batch]:
        return on_device(batches(self.store, self.split, self.view, self.batch_size, limit=self.limit), self.device)

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The names of the clips, in their order."""
        return subset(self.store.ids(self.split), self.limit)

    @cached_property
    def labels(self) -> tuple[int | Sequence[float], ...]:
        """Their labels."""
        return tuple(self.store.label(id) for id in self.ids)

    def pick(self, numbers: Sequence[int]) -> Batch:
        """Some of the clips, by their numbers in `ids`."""
        return _batch(self.store, tuple(self.ids[i] for i in numbers), self.view, None).to(self.device)


def on_device(made: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches on a device; for one that works on its own each is made while the one before it is in use."""
    if device.type == "cpu":
        return made
    # From pages that stay in memory, CUDA copies while the host goes on.
    made = map(Batch.pinned, made) if device.type == "cuda" else made
    return (batch.to(device) for batch in prefetched(made))


def prefetched(made: Iterator[Batch]) -> Iterator[Batch]:
    """The same batches in the same order, each made by a thread while the one before it is in use.

    A thread is enough, without the worker processes of `torch`'s DataLoader: making a batch takes 3 % of a training step
    on two CPU cores.  On a GPU the thread hides it; on a CPU it would only compete with the step.
    """
    with ThreadPoolExecutor(1, "batches") as thread:
        following = thread.submit(next, made, None)
        while (batch := following.result()) is not None:
            following = thread.submit(next, made, None)
            yield batch


def _batch(store: Clips, ids: tuple[str, ...], view: View, augment: Augment | None) -> Batch:
    wave = np.empty((len(ids), view.samples), np.float32)
    frames = np.empty((len(ids), view.frames, view.size, view.size, 3), np.uint8)
    seeds = augment.seeds(ids) if augment is not None else None
    for i, id in enumerate(ids):
        try:
            x = cut(store[id], store.spec, view, seeds.generator(i) if seeds is not None else None)
        except ValueError as error:
            raise ValueError(f"clip '{id}': {error}") from error
        wave[i], frames[i] = x
    visual = torch.from_numpy(frames).permute(0, 1, 4, 2, 3).contiguous().float().div_(255)
    label = torch.tensor([store.label(id) for id in ids])
    label = label if label.is_floating_point() else label.long()  # as a loss takes class numbers
    return Batch(AV(audio=torch.from_numpy(wave), visual=visual), label, ids)
