"""`avrobust evaluate`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from avrobust.allocator import keep_memory
from avrobust.attacks import ANYTHING, Swap, engine
from avrobust.cli import options as shared
from avrobust.cli.options import Clips, parse
from avrobust.data.prepare import prepare
from avrobust.evaluation.answers import tabulate
from avrobust.evaluation.flags import Evidence, Flag, flags
from avrobust.evaluation.probe import probe
from avrobust.evaluation.record import Rows
from avrobust.evaluation.run import Subject
from avrobust.media import ClipSpec
from avrobust.progress import bar
from avrobust.training import View, batches, checkpoint
from avrobust.training.published import load_any
from avrobust.types import Batch, Model

ABOUT = """Attack a model on your clips and say how often it is still right: on sound, on picture, on both.

The model is a checkpoint of this package, a folder that the paper's code wrote (sound_best.pth, frame_best.pth,
classifier_best.pth), or module:name of any callable that takes an AV of audio (b n) in [-1, 1] and visual
(b t 3 h w) in [0, 1] and returns logits; --clip and --view then say what it is given.

examples:
  avrobust evaluate models/mine/net.safetensors --data my_clips/ --audio 0.006 --visual 2/255
  avrobust evaluate my_package:model --data my_clips/ --attacks PGD-40x5 --audio "-44 dBFS" --out rows.parquet
"""


@dataclass(frozen=True)
class Options:
    model: tyro.conf.Positional[str]
    """A checkpoint, a folder of the published code's, or module:name."""
    clips: Annotated[Clips, tyro.conf.arg(name="")] = field(default_factory=Clips)
    audio: str = "0"
    """The sound's budget: 0.006, "-44.4 dBFS", or with --norm l2 "40 dB SNR"."""
    visual: str = "0"
    """The picture's budget: 2/255, 0.006, or "0.006 normalised"."""
    norm: Literal["linf", "l2"] = "linf"
    attacks: tuple[str, ...] = ("FGSM", "PGD-10", "MIM-10")
    """FGSM, PGD-40, PGD-40x5 (steps, restarts), MIM-10, APGD-50, Square-1000, AVAutoAttack, or module:name."""
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
    prepared: Path = Path("data/prepared/evaluate")
    """Where prepared clips are kept."""
    out: Path | None = None
    """Write a row per clip to this Parquet file."""


def main(argv: Sequence[str]) -> None:
    """Parse, attack, print the table and what raises doubt in it."""
    options = parse(Options, argv, "evaluate", ABOUT)
    keep_memory()
    source = options.clips.source()
    if source is None:
        raise ValueError("expected --data, a csv table of clips or a folder of <class>/<video>.mp4.")
    if options.out is not None and options.out.exists():
        raise ValueError(f"{options.out}: expected a new file, got one that exists. Give another --out.")
    threat = shared.threat(options.audio, options.visual, options.norm)
    attacks = [shared.attack(text) for text in options.attacks]
    model, spec, view, classes = model_of(options.model, options.clip, options.view)
    manifest = source.manifest()
    if classes:  # the model's numbers, whichever of its classes these clips are of
        manifest = replace(manifest, classes=classes)
    store = prepare(manifest, spec, options.prepared)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if isinstance(model, torch.nn.Module):
        model.to(device)
    clips = [b.to(device) for b in batches(store, options.on, view, options.batch, limit=options.limit)]
    subject = Subject(model, clips)
    cells = [subject.clean(options.seed)]
    todo = [(attack, t) for attack in attacks for t in threat.subsets()]
    with bar("attacking", len(todo)) as advance:
        for attack, t in todo:
            cells.append(subject.under(attack, t, options.seed))
            advance()
    rows = Rows.concat(cells)
    print(rows.table())
    for flag in raised(rows, subject, model, clips, len(store.classes), options.seed):
        print(f"{flag.level}: {flag.text}")
    readable, listed = store.counts(options.on)
    if readable < listed:
        print(
            f"{listed - readable} of {listed} clips could not be read and are not counted: avrobust show {options.prepared}"
        )
    if options.out is not None:
        rows.save(options.out)


def raised(rows: Rows, subject: Subject, model: Model, clips: list[Batch], classes: int, seed: int) -> tuple[Flag, ...]:
    """What raises doubt in these rows: see docs/flags.md."""
    swaps = [subject.under(Swap(clips), ANYTHING.only(m), seed) for m in ("A", "V")] if sum(map(len, clips)) > 1 else []
    seen = Evidence(
        tabulate(rows.data), classes, tabulate(Rows.concat(swaps).data), {"model": probe(engine.exact(model), clips[0])}
    )
    return flags(seen)


def model_of(text: str, clip: ClipSpec, view: View) -> tuple[Model, ClipSpec, View, tuple[str, ...]]:
    """A model from a checkpoint or from `module:name`, the clips that it wants, and its classes if it knows them."""
    if ":" in text and not Path(text).exists():
        return shared.load(text), clip, view, ()
    net, meta = load_any(text)
    if not {"clip", "view"} <= meta.keys():
        raise checkpoint.CheckpointError(
            f"{text}: expected a checkpoint that `avrobust train` wrote, got weights that do not say which clips they were trained on."
        )
    return net, ClipSpec(**meta["clip"]), View(**meta["view"]), tuple(meta.get("classes", ()))
