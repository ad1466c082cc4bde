"""Options that several verbs share, with one spelling, and how they become the package's own values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import tyro

from avrobust.attacks import ATTACKS, VARIANTS, by_name
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


def _default(text: str) -> str:
    """What the help says of a default: nothing of options that are off unless they are given."""
    return "" if text in ("None", "False", "") else f"(default: {text})"


# Nested options that share a titled box of the help, without a prefix in their names.
Group = Annotated[T, tyro.conf.OmitArgPrefixes]
Maybe = Annotated[T | None, tyro.conf.arg(help_behavior_hint=_default)]
Flag = Annotated[bool, tyro.conf.arg(help_behavior_hint=_default)]
Packages = Annotated[tuple[str, ...], tyro.conf.arg(metavar="PACKAGE ...", help_behavior_hint="")]
ATTACK_HELP = (
    f"{', '.join(ATTACKS)}, with numbers as in PGD-40x5 (steps, restarts); FGSM, PGD and MIM also as variants for transfer, "
    f"{', '.join(f'{v}-MIM' for v in VARIANTS)}, which combine (SI-NI-MIM-20); or module:name."
)
Device = Annotated[
    str | None,
    tyro.conf.arg(help="cpu, cuda, cuda:1, mps or xpu; default: a GPU if there is one.", help_behavior_hint=""),
]


def box(title: str) -> Any:
    """The title of a box of the help."""
    return tyro.conf.arg(name=title)


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


@dataclass(frozen=True, kw_only=True)
class Json:
    """What a verb answers."""

    json: Flag = False
    """Print the answer as JSON on stdout, and nothing else there."""


@dataclass(frozen=True)
class Clips:
    """Your clips."""

    data: Maybe[Path] = None
    """Folder of <class>/<video>.mp4, a folder with a manifest.csv, a csv table, or a public dataset as it is distributed: Kinetics, VGGSound, VGGSounder, AudioSet, AVE, CREMA-D, VGG-SS, Flickr-SoundNet."""
    classes: Maybe[str] = None
    """Use only these classes: names separated by commas, a text file with one name per line, or ks27, ks31, ks32 or ks34 (the class lists of Kinetics-Sounds); all keeps every class. For your own model (module:name), list them in the order of its outputs."""

    def source(self, listing: "Listing") -> Source | None:
        """The clips, as `listing` says; None without --data."""
        if self.data is None:
            return None
        lists, dataset = listing.lists, listing.dataset
        return Source(
            self.data,
            lists=listing.own if lists is None else Lists(lists, dataset),
            dataset=dataset,
            names=listing.names,
            classes=None if self.classes == "all" else self.classes,
            middle=listing.middle,
            **{name: getattr(listing, name) for name in ("root", "label", "split", "start", "end")},
        )


@dataclass(frozen=True)
class Listing:
    """How your clips are listed: columns of a csv table, or split lists that others published."""

    root: Maybe[Path] = None
    """Folder that the paths in a csv table are relative to; default: the table's own."""
    label: str = "label"
    """Column of the class."""
    split: Maybe[str] = None
    """Column of the split: train, val or test; default: split. A table without it is divided 60 : 20 : 20 at random."""
    start: Maybe[str] = None
    """Column of the time at which a clip begins, in seconds."""
    end: Maybe[str] = None
    """Column of the time at which a clip ends, in seconds."""
    lists: Maybe[Path] = None
    """Folder with the split lists of Tian & Xu 2021; --data is then the media folder of --dataset."""
    dataset: Dataset = "music"
    """Dataset that these lists describe."""
    names: Maybe[Path] = None
    """MIT-MUSIC's json list of clips; clips that are not on disk are counted."""
    middle: Maybe[float] = None
    """Use only the middle part of each video, of this many seconds; set --clip.seconds to the same value."""
    own: Annotated[Callable[[Path], Manifest] | None, tyro.conf.Suppress, tyro.conf.Fixed] = None
    """A function of a study that reads its split lists."""

    @classmethod
    def of(cls, source: Source) -> "Listing":
        """The options that describe how a source is listed."""
        lists = source.lists
        dataset: Any = lists.dataset if isinstance(lists, Lists) else source.dataset or "music"
        return cls(
            source.root, source.label, source.split, source.start, source.end,
            lists.folder if isinstance(lists, Lists) else None, dataset, source.names, source.middle, None if isinstance(lists, Lists) else lists,
        )  # fmt: skip


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
    """Audio budget, of full scale: 0.006, "-44.4 dBFS", or with --norm l2 "40 dB SNR"; or below what each clip masks: "masking threshold", "masking threshold by bands -6 dB"."""
    visual: str = "0"
    """Visual budget, of full scale: 2/255, 0.006, or "0.006 normalised" (the unit of the paper's code); or by what is seen: "0.1 texture", "2 delta E"."""
    norm: Literal["linf", "l2"] = "linf"
    """Norm of both budgets."""

    @property
    def asked(self) -> Threat:
        """The threat, of no budgets too."""
        return (Threat.linf if self.norm == "linf" else Threat.l2)(audio=self.audio, visual=self.visual)

    def threat(self) -> Threat:
        """The threat.  Raises `ValueError` if both budgets are 0."""
        found = self.asked
        if found.subset == "clean":
            raise ValueError("expected an audio or visual budget, got 0 for both. Give --audio, --visual or both.")
        return found
