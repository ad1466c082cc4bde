"""The model that a verb attacks and the clips it attacks, from the command line."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import torch
import tyro

from avrobust.allocator import keep_memory
from avrobust.cli.answer import note
from avrobust.cli.options import Budget, Clips, Device, Flag, Group, Json, Listing, Maybe, Packages, box, prepared
from avrobust.cli.places import folder
from avrobust.cli.task import TaskOptions
from avrobust.config import ConfigError, from_plain
from avrobust.data.entry import ManifestError
from avrobust.data.kinetics_sounds import folder_name, listed_classes
from avrobust.data.manifest import Manifest
from avrobust.devices import device, out_of_memory
from avrobust.evaluation.door import check_answer, check_model
from avrobust.evaluation.tasks import Classification, MultiLabel
from avrobust.hub import is_address
from avrobust.media import ClipSpec
from avrobust.models.own import imported
from avrobust.papers.tian2021.weights import load_any
from avrobust.study.given import Given
from avrobust.threat import Threat
from avrobust.training import CheckpointError, StoredBatches, View
from avrobust.training.views import received
from avrobust.types import Batch, Model

CLASSES = TaskOptions("classes")


class LoadedModel(NamedTuple):
    """A model on its device, the form of its clips, and its class names; a model of your own (module:name) has none."""

    model: Model
    spec: ClipSpec
    view: View
    classes: tuple[str, ...]


class Unprepared(NamedTuple):
    """A model and a dataset whose clips are not prepared yet; `on` is the split that is attacked, or "all"."""

    loaded: LoadedModel
    manifest: Manifest
    on: str


@dataclass(frozen=True)
class Attacked(Clips):
    """Your clips, and which of them are attacked."""

    on: Maybe[Literal["all", "train", "val", "test"]] = None
    """Clips to attack: a split, or all. Default: test; all for your own model (module:name) where --data names no splits."""
    limit: Maybe[int] = None
    """Attack at most this many clips."""


@dataclass(frozen=True)
class Resources:
    """How the work is done."""

    device: Device = None
    batch: int = 64
    """Clips per batch."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOutput(Json):
    """What is written, and how the command ends."""

    html: Maybe[Path] = None
    """Write the page to this HTML file."""
    strict: Flag = False
    """Exit with status 1 if a flag is an alarm, for continuous integration."""
    quiet: Flag = False
    """Show no progress."""


@dataclass(frozen=True)
class Advanced:
    """Rarely needed."""

    allow: Packages = ()
    """Packages that a checkpoint's own network and feature defense may be imported from, which runs their code."""
    prepared: Maybe[Path] = None
    """Folder of prepared clips; default: a folder in data/prepared for each form of clip."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """A model, the clips it is attacked on, and the budgets."""

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Checkpoint, hf://owner/name, folder of weights that the paper's code wrote, or module:name of your own model."""
    seed: int = 0
    """Seed of everything that is random in an attack."""
    budget: Group[Budget] = field(default_factory=Budget)
    clips: Annotated[Group[Attacked], box("data")] = field(default_factory=Attacked)
    resources: Group[Resources] = field(default_factory=Resources)
    output: Group[EvaluationOutput] = field(default_factory=EvaluationOutput)
    advanced: Group[Advanced] = field(default_factory=Advanced)
    listing: Annotated[Group[Listing], box("listing of the clips")] = field(default_factory=Listing)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """For module:name only: what is kept of each file. A checkpoint knows its own."""
    view: View = field(default_factory=View)
    """For module:name only: the part of each clip that the model receives. A checkpoint knows its own."""

    def load(self) -> Unprepared:
        """Load the model and read which clips there are.  Raises `ValueError` without --data."""
        if self.clips.data is None:
            raise ValueError(
                "expected --data, got none. Give a folder of <class>/<video>.mp4 or a csv table: --data my_clips/."
            )
        keep_memory()
        where = device(self.resources.device)
        loaded = load_model(self.model, self.clip, self.view, self.advanced.allow, where)
        manifest = self._manifest(loaded.classes)
        # `avrobust train` divided the same clips in the same way; to somebody else's model none of the parts means anything.
        on = self.clips.on or ("all" if manifest.divided and is_own(self.model) else "test")
        return Unprepared(loaded, manifest, on)

    def open(self, found: Unprepared, asked: TaskOptions = CLASSES) -> Given:
        """Prepare the clips.  Raises `ValueError` where the task does not fit them."""
        (model, spec, view, classes), manifest, on = found
        where = device(self.resources.device)
        if on == "all":
            on, manifest = "test", replace(manifest, entries=tuple(replace(e, split="test") for e in manifest.entries))
        task = asked.of(manifest)
        store = prepared(manifest, spec, folder(self.advanced.prepared or _folder(spec), "--prepared"), (on,))
        clips = StoredBatches(store, on, view, self.resources.batch, self.clips.limit, where)
        first = next(iter(clips))  # refuses a split without clips before anything is said
        if found.on != "all":
            few = "" if self.clips.limit is None else f", at most {self.clips.limit} of it"
            note(f"attacking {len(clips.ids)} of {len(manifest)} clips: the {on} split (--on){few}")
        order = "of the checkpoint" if classes else "of --classes" if self.clips.classes else "of --data, sorted"
        if isinstance(task, Classification | MultiLabel):  # one output per name
            note(f"model outputs (order {order}): {', '.join(f'{k} {name}' for k, name in enumerate(store.classes))}")
            if not classes:
                check_outputs(model, first, store.classes)
        note(f"model input: {received(spec, view)}")
        return Given(model, clips, manifest, store, view, on, where, task)

    def threat(self) -> Threat:
        """Both budgets."""
        return self.budget.threat()

    def _manifest(self, classes: tuple[str, ...]) -> Manifest:
        """The clips, with the class numbers of the model; `classes` are the names that its checkpoint holds."""
        asked = self.clips.classes
        source = (self.clips if classes or asked is None else replace(self.clips, classes=None)).source(self.listing)
        assert source is not None
        if classes:  # the model's numbers, even where these clips cover only some of its classes
            return replace(source.manifest(), classes=classes)
        return source.manifest() if asked is None else numbered(source.manifest(), asked)


def load_model(text: str, spec: ClipSpec, view: View, allow: Sequence[str], where: torch.device) -> LoadedModel:
    """The model that `text` names, on a device; `spec` and `view` are for models that cannot say what they take."""
    if is_own(text):
        check_model(model := imported(text))  # before any work
        if (spec, view) == (ClipSpec(), View()):
            note(
                f"warning: {text} receives the package's defaults, as neither --clip nor --view is given. Set what it was "
                "trained on: --clip.rate, --clip.seconds, --clip.size, --clip.fps, --view.samples, --view.frames, --view.size."
            )
        found = LoadedModel(model, spec, view, ())
    else:
        found = from_checkpoint(text, allow)
    return found._replace(model=moved(found.model, where))


def is_own(text: str) -> bool:
    """Whether `text` names a model of the user's own, as module:name."""
    return ":" in text and not Path(text).exists() and not is_address(text)


def moved(model: Model, where: torch.device) -> Model:
    """The model on a device; one without a method `to` stays where it is.

    Raises `ValueError` if it cannot be moved.
    """
    move = getattr(model, "to", None)
    if not callable(move):
        return model
    try:
        there: Model = move(where)
    except Exception as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"expected a model that can be moved to {where}, got {type(error).__name__}: {error}. Give the --device that it "
            "is on."
        ) from error
    return there


def from_checkpoint(path: Path | str, allow: Sequence[str] = ()) -> LoadedModel:
    """A checkpoint, or a folder of weights that the paper's code wrote.

    Raises `CheckpointError` if it does not say which clips its network takes.
    """
    net, meta = load_any(path, allow=allow)
    if not {"clip", "view"} <= meta.keys():
        raise CheckpointError(
            f"{path}: expected a checkpoint that `avrobust train` wrote, got weights that do not say which "
            "clips they were trained on. Train it with `avrobust train`."
        )
    try:
        clip, view = from_plain(meta["clip"], ClipSpec), from_plain(meta["view"], View)
    except ConfigError as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint of this version of the package, got another: {error}. Train it anew."
        ) from error
    return LoadedModel(net, clip, view, tuple(meta.get("classes", ())))


def numbered(manifest: Manifest, asked: str) -> Manifest:
    """The clips of the classes in `asked`, numbered in that order: the order of the model's outputs."""
    names = class_names(asked)
    known = {folder_name(name): name for name in names}
    if len(known) < len(names):
        raise ManifestError(
            f"--classes: expected each class once, got {', '.join(names)}. Name each output of the model."
        )
    there = {folder_name(label): label for label in manifest.classes}
    if not known.keys() & there.keys():
        raise ManifestError(
            f"--classes: expected classes of {manifest.root} ({', '.join(manifest.classes)}), got {', '.join(names)}. "
            "Spell them as the folders or the table's labels do."
        )
    for what, some in (
        ("no clips of", [n for key, n in known.items() if key not in there]),
        ("left out, because --classes does not name them", [n for key, n in there.items() if key not in known]),
    ):
        if some:
            note(f"{what}: {', '.join(some)}")
    renamed = {label: known[key] for key, label in there.items() if key in known}
    entries = tuple(kept for e in manifest.entries if (kept := e.kept(renamed)) is not None)
    return replace(manifest, entries=entries, classes=names)


def called(text: str) -> str:
    """What tables call the model that `text` names.

    >>> called("runs/quick/models/AV-0/net.safetensors"), called("my_package:model"), called("weights/")
    ('AV-0', 'my_package:model', 'weights')
    """
    path = Path(text)
    return path.parent.name if path.stem == "net" and path.parent.name else path.name


def class_names(asked: str) -> tuple[str, ...]:
    """The names of --classes: separated by commas, one per line of a text file, or a list of Kinetics-Sounds."""
    file = Path(asked)
    return (
        tuple(filter(None, map(str.strip, file.read_text().splitlines()))) if file.is_file() else listed_classes(asked)
    )


def check_outputs(model: Model, batch: Batch, classes: tuple[str, ...]) -> None:
    """Raise `ValueError` unless the model has one output per class: otherwise their order would be a guess."""
    one = batch.x.map(lambda s: s[:1])
    outputs = check_answer(model, one).shape[1]
    if outputs != len(classes):
        raise ValueError(
            f"expected one class for each of the model's {outputs} outputs, got {len(classes)} "
            f"({', '.join(classes)}). Name all classes in the order of the outputs: --classes first,second,..."
        )


def _folder(spec: ClipSpec) -> Path:
    """The folder for prepared clips of this form; each form has its own."""
    key = hashlib.sha256(json.dumps(asdict(spec)).encode()).hexdigest()[:8]
    return Path(f"data/prepared/evaluate-{key}")
