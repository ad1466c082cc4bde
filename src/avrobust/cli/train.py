"""`avrobust train`."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from avrobust.allocator import keep_memory
from avrobust.cli.options import Clips, Group, parse, prepared
from avrobust.media import ClipSpec
from avrobust.models.zoo import NetSpec, build
from avrobust.papers.tian2021 import recipes
from avrobust.training import Recipe, View, train
from avrobust.training.loop import refuse_unknown_tracker

RECIPES = {Recipe().name: Recipe()} | recipes.RECIPES

ABOUT = """Train a network on your clips; the best weights by validation are kept. The same command goes on after a kill.

examples:
  avrobust train --data my_clips/ --out models/mine
  avrobust train --data my_clips/ --out models/ears --modality A --epochs 24
  torchrun --nproc-per-node 4 -m avrobust train --data my_clips/ --out models/full --recipe published \\
      --visual-weights microsoft/resnet-18 --clip.seconds 10 --clip.fps 8 --clip.size 246 --view.samples 65535 --view.size 224
"""


@dataclass(frozen=True)
class Options:
    out: Path
    """The folder of the training: weights, curve, state."""
    clips: Group[Clips] = field(default_factory=Clips)
    modality: Literal["AV", "A", "V"] = "AV"
    """What the network perceives."""
    fusion: str = "concat"
    """How it integrates; one of concat, sum, film, gated-sum, gated-concat."""
    visual_weights: str | None = None
    """Pretrained image weights by name, for example microsoft/resnet-18, or the folder of some."""
    recipe: str = "ours"
    """How to train: ours, or as the paper's code: published (MIT-MUSIC), published-30 (the others), and for a second
    training of a finished network published-30-kinetics, published-30-ave."""
    epochs: int | None = None
    """Instead of the recipe's own number."""
    seed: int = 0
    clip: ClipSpec = field(default_factory=ClipSpec)
    """What is kept of each file: length, rates, size."""
    view: View = field(default_factory=View)
    """The part of each clip that a model receives."""
    prepared: Path | None = None
    """Where prepared clips are kept; default: <out>-clips."""
    tracker: str | None = None
    """Curves to this tracker as well, for example tensorboard."""


def main(argv: Sequence[str]) -> None:
    """Parse, prepare, train, print what came of it."""
    options = parse(Options, argv, "train", ABOUT)
    keep_memory()
    source = options.clips.source()
    if source is None:
        raise ValueError("expected --data, a csv table of clips or a folder of <class>/<video>.mp4.")
    if options.recipe not in RECIPES:
        raise ValueError(f"there is no recipe {options.recipe!r}; there are {', '.join(RECIPES)}.")
    recipe = RECIPES[options.recipe]
    if options.epochs is not None:
        recipe = recipe.lasting(options.epochs)
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
