"""Finds classes that one simple number of a clip tells apart: a model would learn that number, and not the class.

Silence at a clip's ends, length, loudness, codecs, sizes and rates say how clips were made.  Where they go with the
class, a model that knows nothing else is right.  Each is asked alone, by one rule: a clip's class is guessed from
the clips whose number is nearest, those of its own recording left out.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact

from avrobust.data.entry import Entry
from avrobust.data.manifest import Manifest
from avrobust.media import ClipSpec
from avrobust.media.audio import decode_audio
from avrobust.media.probe import probe
from avrobust.seeds import digest

Facts = Mapping[str, float | str]

SAMPLE = 300  # clips that are looked at, at most: some 20 s of computing
RATE = 16_000  # Hz
SECONDS = 10.0  # at each end of a clip that are listened to
QUIET = 0.1  # of the clip's peak; below it is silence
ENOUGH = 8  # clips
# Of the way from guessing the largest class to being always right; and of true less false alarms, for one class.
ALL, ONE = 0.5, 0.75
CHANCE = 1e-3  # of any finding where there is none


@dataclass(frozen=True)
class Shortcut:
    """What tells the classes apart; `label`: this class from all others."""

    fact: str
    label: str | None
    right: int  # clips whose class is guessed from it
    clips: int  # in all

    def __str__(self) -> str:
        what = "the classes apart" if self.label is None else f"class '{self.label}' from the others"
        return f"{self.fact} alone tells {what}: {self.right} of {self.clips} clips"


def sample(entries: Sequence[Entry], most: int = SAMPLE) -> list[Entry]:
    """At most so many clips, of each class alike, chosen by their names alone."""
    classes: dict[str, list[Entry]] = defaultdict(list)
    for e in sorted(entries, key=lambda e: digest(0, e.id, "shortcut")):
        classes[e.label].append(e)
    turns = [(turn, e) for of in classes.values() for turn, e in enumerate(of)]
    return [e for _, e in sorted(turns, key=lambda pair: pair[0])[:most]]


def facts(manifest: Manifest, e: Entry) -> Facts:
    """What a clip's files say of it beside what is heard and seen.  Raises MediaError and OSError."""
    heard = manifest.root / (e.audio or e.video)
    held = probe(heard)
    size = heard.stat().st_size
    found: dict[str, float | str] = {"file size": float(size), "container": held.container}
    if held.audio is not None:
        found |= {
            "audio codec": held.audio.codec,
            "sample rate": float(held.audio.rate),
            "number of channels": held.audio.channels,
        }
    end = e.end if e.end is not None else held.seconds
    if end is not None and end > e.start:
        found["length"] = end - e.start
        found["bit rate"] = size / held.seconds if held.seconds else np.nan
        if held.audio is not None:
            found |= _of_sound(heard, e.start, end)
    video = manifest.root / e.video
    if video.is_file() and (shown := (held if video == heard else probe(video)).video):
        found |= {
            "video codec": shown.codec,
            "picture size": shown.width * shown.height,
            "picture shape": shown.width / shown.height,
        }
        found |= {"frame rate": shown.fps} if shown.fps else {}
    return found


def _of_sound(path: Path, start: float, end: float) -> Facts:
    """Silence at both ends, and how loud it is between them."""
    spec = ClipSpec(seconds=min(SECONDS, end - start), rate=RATE, short="pad")
    first, _ = decode_audio(path, spec, start, None)
    last = first if spec.seconds == end - start else decode_audio(path, spec, end - spec.seconds, None)[0]
    lead, trail = (np.flatnonzero(np.abs(w) > QUIET * np.abs(w).max()) for w in (first, last[::-1]))
    if not (len(lead) and len(trail)):
        return {"loudness": -120.0}
    return {
        "length of leading silence": float(lead[0] / RATE),
        "length of trailing silence": float(trail[0] / RATE),
        "loudness": float(10 * np.log10(np.square(first[lead[0] : lead[-1] + 1], dtype=np.float64).mean())),
    }


def _is_known(value: float | str | None) -> bool:
    return isinstance(value, str) or (value is not None and isfinite(value))


def shortcuts(clips: Iterable[tuple[Entry, Facts]]) -> tuple[Shortcut, ...]:
    """What tells the classes of these clips apart, the surest first."""
    clips = list(clips)
    names = sorted({name for _, known in clips for name in known})
    found: list[Shortcut] = []
    for name in names:
        having = [(e, known[name]) for e, known in clips if _is_known(known.get(name))]
        if len(having) >= ENOUGH and len({e.label for e, _ in having}) > 1 and len({value for _, value in having}) > 1:
            found += _tells(name, [e for e, _ in having], [value for _, value in having], CHANCE / len(names))
    return tuple(sorted(found, key=lambda s: (s.label is not None, -s.right / s.clips, s.fact)))


def _tells(name: str, entries: Sequence[Entry], values: Sequence[float | str], chance: float) -> list[Shortcut]:
    classes = sorted({e.label for e in entries})
    labels = np.array([classes.index(e.label) for e in entries])
    votes, prior = _votes(values, labels, np.array([e.source for e in entries]), len(classes))
    count, largest = len(labels), np.bincount(labels).max() / len(labels)
    right = int((votes.argmax(axis=1) == labels).sum())
    sure = binomtest(right, count, largest, "greater").pvalue < chance
    if sure and right / count - largest >= ALL * (1 - largest):
        return [Shortcut(name, None, right, count)]
    found = []
    for k, label in enumerate(classes):
        said, is_it = votes[:, k] > prior[:, k], labels == k
        table = [
            [int((said & is_it).sum()), int((~said & is_it).sum())],
            [int((said & ~is_it).sum()), int((~said & ~is_it).sum())],
        ]
        alarms = said[is_it].mean() - said[~is_it].mean()
        if alarms >= ONE and fisher_exact(table, "greater").pvalue < chance / len(classes):
            found.append(Shortcut(name, label, table[0][0] + table[1][1], count))
    return found


def _votes(
    values: Sequence[float | str], labels: NDArray[np.int64], sources: NDArray[Any], classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(clip, class): the share among the clips nearest to a clip's value, and among all; its own recording left out."""
    members = np.eye(classes)[labels]
    near = 2 * round(sqrt(len(labels)) / 2) + 1
    votes, prior = np.zeros((2, len(labels), classes))
    known: NDArray[Any] = np.array(values)
    for i in range(len(labels)):
        others = np.flatnonzero(sources != sources[i])
        if not len(others):
            continue
        if known.dtype.kind == "f":
            apart = np.abs(known[others] - known[i])
            nearest = others[apart <= np.sort(apart)[min(near, len(apart)) - 1]]
        else:
            nearest = others[known[others] == known[i]]
        prior[i] = members[others].mean(axis=0)
        votes[i] = members[nearest].mean(axis=0) if len(nearest) else prior[i]
    return votes, prior
