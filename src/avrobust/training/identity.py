"""What makes two trainings the same: everything that the resulting weights depend on, as plain data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avrobust.config import brief, digest, to_plain
from avrobust.data.shards import content
from avrobust.models.network import Loss, Network
from avrobust.sources import sources
from avrobust.training import checkpoint
from avrobust.training.recipe import Recipe
from avrobust.training.views import Clips, View


class TrainingError(ValueError):
    """Training cannot start or go on."""


def identity(net: Network, store: Clips, recipe: Recipe, view: View, seed: int, loss: Loss) -> dict[str, Any]:
    """A training as plain data: two with the same data give the same weights.

    Raises `TrainingError` for a feature defense that a checkpoint could not carry: after training it would be lost.
    """
    clips = {
        split: [(id, store.label(id), _content(store, id)) for id in store.ids(split)] for split in ("train", "val")
    }
    try:
        network = checkpoint.description(net)
    except ValueError as error:
        raise TrainingError(str(error)) from error
    start = checkpoint.weights_sha256(net)
    if still := [name for name, p in net.named_parameters() if not p.requires_grad]:
        start += f", of which {len(still)} learn nothing ({digest(still)})"
    settings = {
        "start": start,
        "recipe": recipe,
        "clip": store.spec,
        "view": view,
        "seed": seed,
        "loss": loss,
        "code": sources(loss, net.feature_defense, {type(m) for m in net.modules()}),
        "classes": store.classes,
        "clips": {split: len(ids) for split, ids in clips.items()},
        "data": digest(store.spec, clips),
    }
    return {**network, **to_plain(settings)}


def _content(store: Clips, id: str) -> str:
    """A digest of a clip's samples and pixels: the store's own, if it knows one."""
    known = getattr(store, "digest", None)
    return str(known(id)) if known is not None else content(store[id])


def refuse_another(path: Path, asked: Mapping[str, Any]) -> None:
    """Raise a `TrainingError`, saying how the two differ, if `path` is a file of another training."""
    if not path.exists():
        return
    meta = checkpoint.read_meta(path)  # which says more: how the training went
    there, here = flat({name: meta.get(name) for name in asked}), flat(asked)
    wrong = [
        f"{name} {brief(there.get(name))} there, {brief(here.get(name))} asked"
        for name in here | there
        if there.get(name) != here.get(name)
    ]
    if wrong:
        raise TrainingError(
            f"{path}: expected the training that is asked for, got another: {brief('; '.join(wrong), 1000)}. "
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
