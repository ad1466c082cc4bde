"""Options that several verbs share, and how they become the package's own values."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from avrobust.attacks import ATTACKS, by_name
from avrobust.data.entry import SPLITS
from avrobust.data.manifest import Manifest
from avrobust.data.prepare import prepare
from avrobust.data.source import Source
from avrobust.data.store import Store
from avrobust.locks import Lock
from avrobust.media import ClipSpec
from avrobust.models.own import imported
from avrobust.papers.tian2021.lists import Dataset, Lists
from avrobust.threat import Threat
from avrobust.types import Attack

T = TypeVar("T")

# Nested options that share a titled box of the help, without a prefix in their names.
Group = Annotated[T, tyro.conf.OmitArgPrefixes]
# Options that are off unless they are given: the help shows no default.
Maybe = Annotated[T | None, tyro.conf.arg(help_behavior_hint="")]
ATTACK_HELP = f"{', '.join(ATTACKS)}, with numbers as in PGD-40x5 (steps, restarts), or module:name."
Packages = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PACKAGE ...", help_behavior_hint="")]


def parse(options: type[T], argv: Sequence[str], verb: str, about: str, *, default: T | None = None) -> T:
    """Read the options from the command line; `about` is the help text and contains an example."""
    start = tyro.MISSING_NONPROP if default is None else default
    plain = (tyro.conf.DisallowNone, tyro.conf.FlagCreatePairsOff)  # no `{None}|INT`, no `--no-strict`
    return tyro.cli(options, prog=f"avrobust {verb}", args=list(argv), description=about, default=start, config=plain)


def prepared(manifest: Manifest, spec: ClipSpec, out: Path, splits: Sequence[str] = SPLITS) -> Store:
    """Prepare the clips of a manifest in the folder `out`, one process at a time: torchrun starts several at once.

    Raises `StoreError` if a class has no readable clip in one of `splits`.
    """
    whole = out.resolve()
    whole.parent.mkdir(parents=True, exist_ok=True)
    with Lock(whole.with_name(f".{whole.name}.lock")):  # beside it: a new store's folder has to be empty
        store = prepare(manifest, spec, out)
    store.require_classes(*splits)
    return store


@dataclass(frozen=True)
class Columns:
    """Names of the columns in a csv table."""

    label: str = "label"
    """Column of the class."""
    split: str = "split"
    """Column of the split: train, val or test."""
    start: Maybe[str] = None
    """Column of the time at which a clip begins, in seconds."""
    end: Maybe[str] = None
    """Column of the time at which a clip ends, in seconds."""


@dataclass(frozen=True)
class PublishedLists:
    """Split lists that others published."""

    lists: Maybe[Path] = None
    """Folder with the split lists of Tian & Xu 2021; --data is then the media folder of --dataset."""
    dataset: Dataset = "music"
    """Dataset that these lists describe."""
    names: Maybe[Path] = None
    """MIT-MUSIC's json list of clips; clips that are not on disk are counted."""


@dataclass(frozen=True)
class Clips:
    """Your clips."""

    data: Maybe[Path] = None
    """Folder of <class>/<video>.mp4, a folder with a manifest.csv, a csv table, or a public dataset as it is distributed: Kinetics, VGGSound, VGGSounder, AudioSet, AVE, CREMA-D, VGG-SS, Flickr-SoundNet."""
    classes: Maybe[str] = None
    """Use only these classes: names separated by commas, a text file with one name per line, or ks27, ks31, ks32 or ks34 (the class lists of Kinetics-Sounds); all keeps every class. For your own model (module:name), list them in the order of its outputs."""
    middle: Maybe[float] = None
    """Use only the middle part of each video, of this many seconds; set --clip.seconds to the same value."""
    columns: Columns = field(default_factory=Columns)
    published: PublishedLists = field(default_factory=PublishedLists)
    own: Annotated[Callable[[Path], Manifest] | None, tyro.conf.Suppress, tyro.conf.Fixed] = None
    """A function of a study that reads its split lists."""

    @classmethod
    def of(cls, source: Source) -> "Clips":
        """The options that describe this source."""
        lists = source.lists
        dataset: Any = lists.dataset if isinstance(lists, Lists) else source.dataset or "music"
        return cls(
            data=source.path,
            classes=source.classes,
            middle=source.middle,
            columns=Columns(source.label, source.split, source.start, source.end),
            published=PublishedLists(lists.folder if isinstance(lists, Lists) else None, dataset, source.names),
            own=None if isinstance(lists, Lists) else lists,
        )

    def source(self) -> Source | None:
        """The clips; None without --data."""
        if self.data is None:
            return None
        lists, dataset = self.published.lists, self.published.dataset
        return Source(
            self.data,
            lists=self.own if lists is None else Lists(lists, dataset),
            dataset=dataset,
            names=self.published.names,
            classes=None if self.classes == "all" else self.classes,
            middle=self.middle,
            **asdict(self.columns),
        )


def attack(text: str) -> Attack:
    """The attack called `text`: one of `attacks.ATTACKS` (PGD-40x5 is 40 steps, 5 restarts), or your own as module:name.

    >>> attack("PGD-40x5").name
    'PGD-40x5'
    """
    if ":" in text:
        own: Attack = imported(text)
        return own
    return by_name(text)


@dataclass(frozen=True)
class Budget:
    """How far the attacker may change each modality; 0 leaves it clean."""

    audio: str = "0"
    """Audio budget: 0.006, "-44.4 dBFS", or with --norm l2 "40 dB SNR"."""
    visual: str = "0"
    """Visual budget: 2/255, 0.006, or "0.006 normalised" (the unit of the paper's code)."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of both budgets."""

    def threat(self) -> Threat:
        """The threat.  Raises `ValueError` if both budgets are 0."""
        found = (Threat.linf if self.norm == "linf" else Threat.l2)(audio=self.audio, visual=self.visual)
        if found.subset == "clean":
            raise ValueError("expected an audio or visual budget, got 0 for both. Give --audio, --visual or both.")
        return found
