"""`avrobust train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from avrobust.allocator import keep_memory
from avrobust.cli.answer import Answer, note
from avrobust.cli.options import Clips, Device, Flag, Group, Json, Listing, Maybe, box, parse, prepared
from avrobust.cli.places import folder
from avrobust.devices import device
from avrobust.media import ClipSpec
from avrobust.models.hf import PairSpec
from avrobust.models.network import Spec
from avrobust.models.own import OwnSpec
from avrobust.models.zoo import NetSpec
from avrobust.names import unknown
from avrobust.papers.tian2021 import recipes
from avrobust.study.checks import rehearsed
from avrobust.training import View, train
from avrobust.training.loop import refuse_unknown_tracker
from avrobust.training.recipe import FINE_TUNE, OURS, PRETRAINED_VISUAL, usual
from avrobust.training.views import received

RECIPES = {recipe.name: recipe for recipe in (OURS, FINE_TUNE, PRETRAINED_VISUAL)} | recipes.RECIPES

ABOUT = """Train a model on your clips and keep the weights with the best validation accuracy. After a kill, the same command continues.

examples:
  avrobust train --data my_clips/ --out models/mine
  avrobust train --data my_clips/ --out models/audio --modality A --epochs 24
  avrobust train --data my_clips/ --out models/pair --audio-model MIT/ast-finetuned-audioset-10-10-0.4593 \\
      --visual-model google/vit-base-patch16-224-in21k --clip.rate 16000 --view.samples 16000 --clip.size 224 --view.size 224
  avrobust train --data my_clips/ --out models/own --net my_package:make_net
  avrobust evaluate models/own/net.safetensors --allow my_package --data my_clips/ --audio 0.006 --visual 2/255
  torchrun --nproc-per-node 4 -m avrobust train --data my_clips/ --out models/full --recipe published \\
      --visual-weights microsoft/resnet-18 --clip.seconds 10 --clip.fps 8 --clip.size 246 --view.samples 65535 --view.size 224
"""


@dataclass(frozen=True, kw_only=True)
class Output(Json):
    """What is written."""

    out: Path
    """Folder of the training: weights, curve, state."""
    tracker: Maybe[str] = None
    """Also send training curves to this tracker, for example tensorboard."""


@dataclass(frozen=True, kw_only=True)
class Options:
    output: Group[Output]
    modality: Literal["AV", "A", "V"] = "AV"
    """Modalities of the model: audio-visual, audio-only or visual-only."""
    audio_model: Maybe[str] = None
    """Pretrained audio encoder: a name on the model hub or a folder. With --visual-model, both are joined to one model."""
    visual_model: Maybe[str] = None
    """Pretrained image or video encoder: a name on the model hub or a folder."""
    frozen: Flag = False
    """Train only the fusion and the classifier of --audio-model and --visual-model."""
    net: Maybe[str] = None
    """Your own network: module:name of a function or class that makes it from the number of `classes`."""
    fusion: str = "concat"
    """Fusion of an audio-visual model: concat, sum, film, gated-sum or gated-concat."""
    visual_weights: Maybe[str] = None
    """Pretrained weights of the visual encoder: efficientnet-lite0 (the extra avrobust[imagenet]), a name on the model hub (microsoft/resnet-18) or a folder."""
    recipe: Maybe[str] = None
    """Training recipe: ours; fine-tune, the default for --audio-model and --visual-model (first the head, then all weights); pretrained-visual, for --visual-weights beside an audio encoder with random ones; or the recipes of the paper's code: published (MIT-MUSIC), published-30 (its other datasets), and for a second training of a trained model published-30-kinetics, published-30-ave."""
    epochs: Maybe[int] = None
    """Number of epochs, instead of the recipe's own."""
    seed: int = 0
    """Seed of weights, batches and augmentation."""
    device: Device = None
    """cpu, cuda, cuda:1, mps or xpu; default: a GPU if there is one. Under torchrun, each process has its own."""
    clips: Annotated[Group[Clips], box("data")] = field(default_factory=Clips)
    prepared: Maybe[Path] = None
    """Folder of prepared clips; default <out>-clips."""
    listing: Annotated[Group[Listing], box("listing of the clips")] = field(default_factory=Listing)
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What is kept of each file: length, rates, size."""
    view: View = field(default_factory=View)
    """The part of each clip that a model receives."""


def main(argv: Sequence[str]) -> Answer:
    """Parse, prepare, train; the answer is the result on the validation clips."""
    options = parse(Options, argv, "train", ABOUT)
    out = folder(options.output.out, "--out")
    clips = folder(options.prepared or out.with_name(out.name + "-clips"), "--prepared")
    keep_memory()
    where = None if options.device is None else device(options.device)
    source = options.clips.source(options.listing)
    if source is None:
        raise ValueError("expected clips, got no --data. Give a csv table of clips or a folder of <class>/<video>.mp4.")
    asked = _spec(options)
    recipe = usual(asked) if options.recipe is None else RECIPES.get(options.recipe)
    if recipe is None:
        raise ValueError(unknown("a recipe", str(options.recipe), RECIPES))
    if options.epochs is not None:
        recipe = recipe.for_epochs(options.epochs)
    refuse_unknown_tracker(options.output.tracker)
    manifest = source.manifest()
    # What cannot be had is said before clips are prepared.
    net = rehearsed(asked.for_clips(len(manifest.classes), options.clip.rate), options.seed, options.clip, options.view)
    if net.spec is None:
        raise ValueError(
            f"expected a network that its checkpoint can build again, got {asked.name}, of a type that no checkpoint may name. "
            "Train it in Python, and load the weights into it: avrobust.training.load(path, net)."
        )
    note(manifest.splits)
    note(f"model input: {received(options.clip, options.view)}")
    store = prepared(manifest, options.clip, clips)
    trained = train(
        net, store, recipe, view=options.view, out=out, seed=options.seed, tracker=options.output.tracker, device=where
    )
    best, count = trained.curve[trained.best_epoch - 1], store.counts("val")[0]
    lines = [
        f"{trained.path}: {best.val_accuracy:.1%} of {count} validation clips, epoch {best.epoch} of {len(trained.curve)}, {trained.seconds:.0f} s"
    ]
    if store.failures:
        lines.append(
            f"{len(store.failures)} of {len(store.table)} clips could not be read and were left out: avrobust show {store.path}"
        )
    told = {
        "checkpoint": trained.path, "val_accuracy": best.val_accuracy, "val_clips": count, "epoch": best.epoch,
        "epochs": len(trained.curve), "seconds": trained.seconds, "unreadable": len(store.failures),
    }  # fmt: skip
    return Answer("\n".join(lines), told, options.output.json)


def _spec(options: Options) -> Spec:
    """The network that is asked for: the package's own, a pair of pretrained encoders, or yours."""
    audio, visual = options.audio_model, options.visual_model
    if options.net is not None:
        _refuse(options, "--net", "audio_model", "visual_model", "frozen", "fusion", "visual_weights")
        return OwnSpec(options.net, modality=options.modality)
    if audio is not None and visual is not None:
        _refuse(options, "--audio-model and --visual-model", "modality", "visual_weights")
        return PairSpec(audio, visual, options.fusion, options.frozen)
    if audio is not None or visual is not None or options.frozen:
        raise ValueError(
            "expected --audio-model and --visual-model together, got one of them or --frozen alone. Give both, or leave them out."
        )
    if options.modality == "A":
        _refuse(options, "--modality A", "visual_weights")
    return NetSpec(None, options.modality, options.fusion, options.visual_weights)


def _refuse(options: Options, beside: str, *names: str) -> None:
    """Raise `ValueError` for options that would have no effect beside another."""
    default = {f.name: f.default for f in fields(Options)}
    if given := [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != default[name]]:
        raise ValueError(f"expected no {' or '.join(given)} beside {beside}, got both. Leave one of them out.")
