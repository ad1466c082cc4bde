"""Checks of a study before any work: an error should not come after hours of preparing clips."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from avrobust.media.decode import Clip
from avrobust.models.network import Spec
from avrobust.models.own import OwnNet
from avrobust.study.jobs import weights_of
from avrobust.study.plan import ModelConfig, Study
from avrobust.training.loop import refuse_unknown_tracker
from avrobust.training.views import cut
from avrobust.types import AV, Signals


def check(study: Study, clips: Mapping[str, int], out: Path, *, data: Path, tracker: str | None = None) -> None:
    """Raise a `ValueError` or an `OSError` for a study that cannot run.

    `clips` are the numbers of listed clips by split.  Every network that is not trained yet is built and run on a blank
    clip, which finds unavailable image weights, a view that is too small, and a user's network of another form.
    """
    refuse_unknown_tracker(tracker)
    for folder in (out, data):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: expected a folder or nothing yet, got a file. Name another place.")
    trained = any(c.epochs != 0 for c in study.models)
    if lacking := [split for split in (*(["train", "val"] if trained else []), "test") if not clips.get(split)]:
        raise ValueError(
            f"expected clips in the split{'s' if len(lacking) > 1 else ''} {' and '.join(lacking)}, got none of "
            f"{sum(clips.values())}. A study trains on train, chooses epochs by val and attacks test: divide the clips."
        )
    x = _blank(study)
    untrained = [c for c in study.models for s in study.seeds if not weights_of(out, c.name, s).exists()]
    built: list[Spec] = []
    for c in untrained:
        if c.spec not in built:
            built.append(c.spec)
            _check_network(c, study.clip.rate, x)


@torch.no_grad()
def _check_network(config: ModelConfig, rate: int, x: Signals) -> None:
    """Raise where the network cannot be built or does not answer a blank clip with one number per class."""
    net = config.build(classes=2, rate=rate, seed=0).eval()
    logits = net(x)
    if logits.shape != (1, 2):
        raise ValueError(
            f"'{config.name}' should answer one clip of 2 classes with logits (1, 2), got {tuple(logits.shape)}. Use the "
            "argument `classes` for the size of its last layer."
        )
    if isinstance(net, OwnNet) and net.two_streams and not torch.allclose(logits, net.network(x), rtol=1e-3, atol=1e-5):
        raise ValueError(
            f"'{config.name}' should answer with decide(embed(x)), got other logits from calling it. Let forward be "
            "decide(embed(x)), or rename these two methods."
        )


def _blank(study: Study) -> Signals:
    """The view of a silent, black clip."""
    spec = study.clip
    wave, frames = np.zeros(spec.samples, np.float32), np.zeros((spec.frames, spec.size, spec.size, 3), np.uint8)
    seen = cut(Clip(wave, frames, (0.0, 0.0, 1.0, 1.0), ()), spec, study.view)
    return AV(
        audio=torch.from_numpy(seen.audio)[None], visual=torch.from_numpy(seen.visual)[None].movedim(-1, -3).float()
    )
