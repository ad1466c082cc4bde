"""`avrobust train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avrobust.allocator import keep_memory
from avrobust.cli.options import Clips, Group, Maybe, parse, prepared
from avrobust.media import ClipSpec
from avrobust.models.zoo import NetSpec, build
from avrobust.papers.tian2021 import recipes
from avrobust.training import Recipe, View, train
from avrobust.training.loop import refuse_unknown_tracker

RECIPES = {Recipe().name: Recipe()} | recipes.RECIPES

ABOUT = """Train a model on your clips and keep the weights with the best validation accuracy. After a kill, the same command continues.

examples:
  avrobust train --data my_clips/ --out models/mine
  avrobust train --data my_clips/ --out models/audio --modality A --epochs 24
  torchrun --nproc-per-node 4 -m avrobust train --data my_clips/ --out models/full --recipe published \\
      --visual-weights microsoft/resnet-18 --clip.seconds 10 --clip.fps 8 --clip.size 246 --view.samples 65535 --view.size 224
"""


@dataclass(frozen=True)
class Options:
    out: Path
    """Folder of the training: weights, curve, state."""
    clips: Group[Clips] = field(default_factory=Clips)
    modality: Literal["AV", "A", "V"] = "AV"
    """Modalities of the model: audio-visual, audio-only or visual-only."""
    fusion: str = "concat"
    """Fusion of an audio-visual model: concat, sum, film, gated-sum or gated-concat."""
    visual_weights: Maybe[str] = None
    """Pretrained weights of the visual encoder: a name on the model hub (microsoft/resnet-18) or a folder."""
    recipe: str = "ours"
    """Training recipe: ours, or the recipes of the paper's code: published (MIT-MUSIC), published-30 (its other datasets), and for a second training of a trained model published-30-kinetics, published-30-ave."""
    epochs: Maybe[int] = None
    """Number of epochs, instead of the recipe's own."""
    seed: int = 0
    """Seed of weights, batches and augmentation."""
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What is kept of each file: length, rates, size."""
    view: View = field(default_factory=View)
    """The part of each clip that a model receives."""
    prepared: Maybe[Path] = None
    """Folder of prepared clips; default <out>-clips."""
    tracker: Maybe[str] = None
    """Also send training curves to this tracker, for example tensorboard."""


def main(argv: Sequence[str]) -> None:
    """Parse, prepare, train, print the result."""
    options = parse(Options, argv, "train", ABOUT)
    keep_memory()
    source = options.clips.source()
    if source is None:
        raise ValueError("expected --data, a csv table of clips or a folder of <class>/<video>.mp4.")
    if options.recipe not in RECIPES:
        raise ValueError(f"there is no recipe {options.recipe!r}; there are {', '.join(RECIPES)}.")
    recipe = RECIPES[options.recipe]
    if options.epochs is not None:
        recipe = recipe.for_epochs(options.epochs)
    refuse_unknown_tracker(options.tracker)
    spec = NetSpec(2, options.modality, options.fusion, options.visual_weights)
    build(spec, options.seed)  # what cannot be had is said before clips are prepared
    store = prepared(
        source.manifest(), options.clip, options.prepared or options.out.with_name(options.out.name + "-clips")
    )
    net = build(replace(spec, classes=len(store.classes)), options.seed)
    trained = train(net, store, recipe, view=options.view, out=options.out, seed=options.seed, tracker=options.tracker)
    best = trained.curve[trained.best_epoch - 1]
    print(
        f"{trained.path}: {best.val_accuracy:.1%} of {store.counts('val')[0]} validation clips, epoch {best.epoch} of {len(trained.curve)}, {trained.seconds:.0f} s"
    )
    if store.failures:
        print(
            f"{len(store.failures)} of {len(store.table)} clips could not be read and were left out: avrobust show {store.path}"
        )
