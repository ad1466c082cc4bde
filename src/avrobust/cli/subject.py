"""What verbs that attack a model on clips ask for, and the model and clips that this names."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import tyro

from avrobust.allocator import keep_memory
from avrobust.cli.options import Clips, Group, load, prepared, threat
from avrobust.data.kinetics_sounds import chosen, folder_name
from avrobust.data.manifest import Manifest, ManifestError
from avrobust.data.store import Store
from avrobust.evaluation.door import as_model, check_model
from avrobust.media import ClipSpec
from avrobust.papers.tian2021.weights import load_any
from avrobust.threat import Threat
from avrobust.training import View, batches, checkpoint
from avrobust.types import Batch, Model


class Opened(NamedTuple):
    """A model and its clips, on the device where the work is done."""

    model: Model
    clips: list[Batch]
    store: Store
    device: torch.device


class Trained(NamedTuple):
    """A model, the clips that it wants, and its classes if it knows them."""

    model: Model
    spec: ClipSpec
    view: View
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SubjectOptions:
    """A model, the clips it is attacked on, and what an attacker may do to them."""

    model: tyro.conf.Positional[str]
    """A checkpoint, a folder of the published code's, or module:name."""
    clips: Group[Clips] = field(default_factory=Clips)
    audio: str = "0"
    """The sound's budget: 0.006, "-44.4 dBFS", or with --norm l2 "40 dB SNR"."""
    visual: str = "0"
    """The picture's budget: 2/255, 0.006, or "0.006 normalised"."""
    norm: Literal["linf", "l2"] = "linf"
    on: Literal["train", "val", "test"] = "test"
    """Which split."""
    limit: int | None = None
    """At most so many clips."""
    batch: int = 64
    seed: int = 0
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What a model of your own is given is cut from this; a checkpoint knows its own."""
    view: View = field(default_factory=View)
    """What a model of your own is given; a checkpoint knows its own."""
    prepared: Path | None = None
    """Where prepared clips are kept; default: a folder in data/prepared for each form that models want."""

    def threat(self) -> Threat:
        """Both budgets."""
        return threat(self.audio, self.visual, self.norm)

    def open(self) -> Opened:
        """The model, and its clips as it wants them.  Raises `ValueError` if no clips were named."""
        if self.clips.data is None:
            raise ValueError("expected --data, a csv table of clips or a folder of <class>/<video>.mp4.")
        keep_memory()
        model, spec, view, classes = self._model()
        manifest = self._manifest(classes)
        store = prepared(manifest, spec, self.prepared or _folder(spec), (self.on,))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if isinstance(model, torch.nn.Module):
            model.to(device)
        clips = [b.to(device) for b in batches(store, self.on, view, self.batch, limit=self.limit)]
        origin = "the checkpoint's" if classes else "--classes" if self.clips.classes else "names of --data, sorted"
        print(f"outputs of the model ({origin}): {', '.join(f'{k} {name}' for k, name in enumerate(store.classes))}")
        if not classes:
            check_outputs(model, clips[0], store.classes)
        return Opened(model, clips, store, device)

    def _manifest(self, classes: tuple[str, ...]) -> Manifest:
        """The clips, their classes numbered as the model does; `classes` are those that it names itself."""
        asked = self.clips.classes
        source = (self.clips if classes or asked is None else replace(self.clips, classes=None)).source()
        assert source is not None
        if classes:  # the model's numbers, whichever of its classes these clips are of
            return replace(source.manifest(), classes=classes)
        return source.manifest() if asked is None else numbered(source.manifest(), asked)

    def _model(self) -> Trained:
        if ":" in self.model and not Path(self.model).exists():
            check_model(model := load(self.model))  # before any work
            return Trained(model, self.clip, self.view, ())
        return trained(self.model)


def trained(path: Path | str) -> Trained:
    """A checkpoint, or a folder of the published code's.  Raises `CheckpointError` if it does not say what it wants."""
    net, meta = load_any(path)
    if not {"clip", "view"} <= meta.keys():
        raise checkpoint.CheckpointError(
            f"{path}: expected a checkpoint that `avrobust train` wrote, got weights that do not say which "
            "clips they were trained on. Train it with `avrobust train`."
        )
    return Trained(net, ClipSpec(**meta["clip"]), View(**meta["view"]), tuple(meta.get("classes", ())))


def numbered(manifest: Manifest, asked: str) -> Manifest:
    """The clips of the asked classes, which keep the order in which they are named: that of a model's outputs.

    `asked` are names with commas between them, or a text file with a class per line.  A class may have no clips here.
    """
    file = Path(asked)
    names = tuple(filter(None, map(str.strip, file.read_text().splitlines()))) if file.is_file() else chosen(asked)
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
        ("clips left out, as --classes lacks them", [n for key, n in there.items() if key not in known]),
    ):
        if some:
            print(f"{what}: {', '.join(some)}")
    entries = tuple(
        replace(e, label=known[folder_name(e.label)]) for e in manifest.entries if folder_name(e.label) in known
    )
    return replace(manifest, entries=entries, classes=names)


def check_outputs(model: Model, batch: Batch, classes: tuple[str, ...]) -> None:
    """Refuse a model with more or fewer outputs than there are classes: which is which would be a guess."""
    one = batch.x.map(lambda s: s[:1])
    with torch.no_grad():
        outputs = as_model(model, one)(one).shape[1]
    if outputs != len(classes):
        raise ValueError(
            f"expected a class for each of the model's {outputs} outputs, got {len(classes)} "
            f"({', '.join(classes)}). Name them all in the model's order: --classes first,second,..."
        )


def _folder(spec: ClipSpec) -> Path:
    """Where clips of this form are kept: a folder holds clips of one form."""
    key = hashlib.sha256(json.dumps(asdict(spec)).encode()).hexdigest()[:8]
    return Path(f"data/prepared/evaluate-{key}")


def new(path: Path) -> Path:
    """The path of a file that is to be written, its folder made.  Raises `ValueError` if it is there already."""
    if path.exists():
        raise ValueError(f"{path}: expected a new file, got one that exists. Give another --out.")
    path.parent.mkdir(parents=True, exist_ok=True)  # now, rather than to fail when all the work is done
    return path
