"""The clips of a dataset, with their root folder and the order of their classes.  Opens no media.

A manifest may list clips that are not on disk, and published lists may name a clip twice: `audit` reports both, and
`unique` settles the second.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from avrobust.data.entry import SPLITS, Entry, ManifestError
from avrobust.data.tables import read_entries, unknown_label, write_entries
from avrobust.seeds import stable_hash


@dataclass(frozen=True)
class Manifest:
    """Clips of a dataset; `root` is the folder that all paths are relative to, `classes` the order of the labels.

    `divided` says that the dataset names no splits, so that `divide` made them.

    Raises ManifestError for a manifest without clips, and for a label that is none of the classes.

    >>> clips = (Entry("a", "dog", "train", Path("a.mp4")), Entry("b", "cat", "test", Path("b.mp4")))
    >>> Manifest(Path("pets"), clips).classes
    ('cat', 'dog')
    """

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...] = ()  # default: the labels that occur, sorted
    name: str = ""
    divided: bool = False

    def __post_init__(self) -> None:
        if not self.entries:
            raise ManifestError(
                f"{self.root}: expected at least one clip, got none. Check the folder, the list, or the split."
            )
        if not self.classes:
            object.__setattr__(self, "classes", tuple(sorted({label for e in self.entries for label in e.labels})))
        if not self.name:
            object.__setattr__(self, "name", self.root.name)
        known = set(self.classes)
        for entry in self.entries:
            for label in entry.labels:
                if label not in known:
                    raise ManifestError(f"clip '{entry.id}': {unknown_label(label, self.classes)}")
            if isinstance(entry.label, tuple) != self.multilabel:
                raise ManifestError(
                    f"clip '{entry.id}': expected clips of one class each or multi-label clips, got both. Give every clip a "
                    "tuple of its classes."
                )

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def multilabel(self) -> bool:
        """Whether a clip may be of several classes."""
        return isinstance(self.entries[0].label, tuple)

    @property
    def tags(self) -> dict[str, dict[str, str]]:
        """Of every clip with tags, where its classes can be perceived: id → class → "audible", "visible" or "both"."""
        return {e.id: dict(zip(e.labels, e.tags, strict=True)) for e in self.entries if e.tags}

    @classmethod
    def read(
        cls,
        path: Path | str,
        *,
        root: Path | str | None = None,
        label: str = "label",
        split: str | None = None,
        start: str | None = None,
        end: str | None = None,
        classes: Sequence[str] | None = None,
        repeats: bool = False,
    ) -> "Manifest":
        """The clips of a csv file with a header; paths in it are relative to `root`, by default its own folder.

        Required columns are `video` and the label's, or of multi-label clips `labels`, with semicolons between them; `tags` may
        say in the same order where each can be perceived (see `Entry`).  `id` (default: the video's path without its suffix), `audio`,
        `start`, `end` (s), `box` or `bbox` and `sha256` are optional; all others are kept as `extra`.  `label`, `split`,
        `start`, `end` name the columns to use.  A table without splits is divided: see `divide`; one whose splits are in a column of
        another name is refused, unless `split` names it.  With `classes`, another label is an error.  `repeats=True` keeps a clip
        that is listed twice, for an audit.

        Raises ManifestError with file and line.

        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "pets.csv").write_text("video,species,split\\na.mp4,dog,train\\n")
        ...     manifest = Manifest.read(Path(folder, "pets.csv"), label="species")
        >>> manifest.entries[0].id, manifest.classes
        ('a', ('dog',))
        """
        path = Path(path)
        root = Path(path).parent if root is None else Path(root)
        entries, divided = read_entries(
            path, root, label=label, split=split, start=start, end=end, classes=classes, repeats=repeats
        )
        name = root.resolve().name if path.stem == "manifest" else path.stem
        manifest = cls(root, tuple(entries), tuple(classes or ()), name)
        return manifest if divided else manifest.divide()

    def write(self, path: Path | str) -> None:
        """Write a csv table, whole or not at all; paths stay relative to `root`, so give `read` the same root."""
        write_entries(self.entries, path)

    @property
    def splits(self) -> str:
        """How many clips each split has, in words.

        >>> Manifest(Path("pets"), (Entry("a", "dog", "train", Path("a.mp4")),)).splits
        '1 train, 0 val, 0 test clips'
        """
        count = Counter(e.split for e in self.entries)
        made = ", divided at random, as the dataset names no splits" if self.divided else ""
        return f"{', '.join(f'{count[split]} {split}' for split in SPLITS)} clips{made}"

    def divide(self, *, seed: int = 0, shares: tuple[float, float, float] = (0.6, 0.2, 0.2)) -> "Manifest":
        """The same clips, divided anew into train, val and test by `shares`, each class by itself; of several, a clip's first.

        Clips of one source video stay together.  The split of a video depends on `seed` and on the names, not on their order.
        A class of one or two videos is all train at the default shares.

        >>> clips = tuple(Entry(f"{n}", "dog", "train", Path(f"{n}.mp4")) for n in range(10))
        >>> Manifest(Path("pets"), clips).divide().splits
        '6 train, 2 val, 2 test clips, divided at random, as the dataset names no splits'
        """
        sources: dict[str, set[str]] = defaultdict(set)
        for e in self.entries:
            sources[next(iter(e.labels), "")].add(e.source)
        split_of: dict[str, str] = {}
        for label in (*self.classes, ""):
            # A video with clips of two classes stays in the split of the first.
            order = sorted(sources[label] - split_of.keys(), key=lambda source: stable_hash(seed, source, "split"))
            test, val = (round(share * len(order)) for share in (shares[2], shares[1]))
            split_of |= dict.fromkeys(order[:test], "test")
            split_of |= dict.fromkeys(order[test : test + val], "val")
            split_of |= dict.fromkeys(order[test + val :], "train")
        entries = tuple(replace(e, split=split_of[e.source]) for e in self.entries)
        return replace(self, entries=entries, divided=True)

    def select(self, *splits: str) -> "Manifest":
        """The clips of some splits, with the same classes.  Raises ManifestError when there are none."""
        entries = tuple(e for e in self.entries if e.split in splits)
        if not entries:
            have = ", ".join(f"{n} {s}" for s, n in Counter(e.split for e in self.entries).items())
            raise ManifestError(
                f"{self.name}: expected clips in {' or '.join(splits)}, got none (there are {have}). Give some clips "
                "that split."
            )
        return replace(self, entries=entries)

    def repeated(self) -> tuple[str, ...]:
        """The ids that occur more than once."""
        return tuple(id for id, n in Counter(e.id for e in self.entries).items() if n > 1)

    def unique(self, repeats: Literal["drop", "rename"] = "drop") -> "Manifest":
        """The same clips with every id once.

        "drop" keeps a repeated clip in test rather than val rather than train, so that no test clip is trained on.
        "rename" keeps lists as published, leaks included: the second occurrence gets `#2` after its id.

        >>> clips = [Entry("a", "dog", split, Path("a.mp4")) for split in ("train", "test")]
        >>> [(e.id, e.split) for e in Manifest(Path("d"), tuple(clips)).unique().entries]
        [('a', 'test')]
        >>> [(e.id, e.split) for e in Manifest(Path("d"), tuple(clips)).unique("rename").entries]
        [('a', 'train'), ('a#2', 'test')]
        """
        if repeats == "rename":
            seen: Counter[str] = Counter()
            renamed = []
            for e in self.entries:
                seen[e.id] += 1
                renamed.append(e if seen[e.id] == 1 else replace(e, id=f"{e.id}#{seen[e.id]}"))
            return replace(self, entries=tuple(renamed))
        best: dict[str, Entry] = {}
        for e in self.entries:
            if e.id not in best or SPLITS.index(e.split) > SPLITS.index(best[e.id].split):
                best[e.id] = e
        return replace(self, entries=tuple(best.values()))

    def paths(self, entry: Entry) -> tuple[Path, ...]:
        """The files of a clip: its video, and its audio file if that is another one."""
        return tuple(self.root / p for p in (entry.video, entry.audio) if p is not None)
