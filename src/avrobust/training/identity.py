"""What makes two trainings the same: all that the resulting weights depend on, as plain data."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from avrobust.data.shards import content
from avrobust.models.network import AVNet, Loss
from avrobust.seeds import digest
from avrobust.sources import sources
from avrobust.training import checkpoint
from avrobust.training.recipe import Recipe
from avrobust.training.views import Clips, View


class TrainingError(ValueError):
    """Training cannot start or go on."""


def identity(net: AVNet, store: Clips, recipe: Recipe, view: View, seed: int, loss: Loss) -> dict[str, Any]:
    """A training, described so that it can be compared with what a file says."""
    clips = {
        split: [(id, store.label(id), _content(store, id)) for id in store.ids(split)] for split in ("train", "val")
    }
    asked = {
        **_described(net),
        "start": checkpoint.weights_sha256(net),
        "recipe": asdict(recipe),
        "clip": asdict(store.spec),
        "view": asdict(view),
        "seed": seed,
        # Where a function lies in memory is not a part of what it does.
        "loss": getattr(loss, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(loss)),
        "code": sources(loss, net.feature_defense),
        "classes": list(store.classes),
        "clips": {split: len(ids) for split, ids in clips.items()},
        "data": f"{digest(store.spec, clips):016x}",
    }
    plain: dict[str, Any] = json.loads(json.dumps(asked))
    return plain


def _described(net: AVNet) -> dict[str, Any]:
    """How to build the network again, said before it is trained: a defense that cannot travel would be lost then."""
    try:
        return checkpoint.description(net)
    except ValueError as error:
        raise TrainingError(str(error)) from error


def _content(store: Clips, id: str) -> str:
    """A number for what a clip sounds and looks like: a store's own, for it has counted already, or else from the clip."""
    known = getattr(store, "digest", None)
    return str(known(id)) if known is not None else content(store[id])


def refuse_another(path: Path, asked: Mapping[str, Any]) -> None:
    """Raise a TrainingError where a file of another training lies at `path`, and say in what it differs."""
    if not path.exists():
        return
    there, here = flat(checkpoint.read_meta(path)), flat(asked)
    wrong = [f"{name} {there.get(name)} there, {here[name]} asked" for name in here if there.get(name) != here[name]]
    if wrong:
        raise TrainingError(
            f"{path}: expected the training that is asked for, got another: {'; '.join(wrong)}. "
            "Give another folder, or remove this one."
        )


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """A mapping of mappings as one.

    >>> flat({"recipe": {"lr": {"audio": 0.1}}, "seed": 0})
    {'recipe.lr.audio': 0.1, 'seed': 0}
    """
    one: dict[str, Any] = {}
    for key, value in nested.items():
        one |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return one
