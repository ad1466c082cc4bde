"""What is wrong with a study and can be known before any work is said then, not after hours of preparing clips."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from avrobust.media.decode import Clip
from avrobust.models.zoo import build
from avrobust.study.jobs import weights_of
from avrobust.study.plan import Study
from avrobust.training.loop import refuse_unknown_tracker
from avrobust.training.views import cut
from avrobust.types import AV, Signals


def check(study: Study, clips: Mapping[str, int], out: Path, *, data: Path, tracker: str | None = None) -> None:
    """Raise a ValueError or an OSError that says what to do.

    `clips` counts those of each split, as listed.  Networks that are not trained yet are built and asked about a blank
    clip: with image weights that cannot be had, or a view that they or the clips are too small for, none would be.
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
    for network in dict.fromkeys(c.spec(classes=2) for c in untrained):
        with torch.no_grad():
            build(network, seed=0).eval()(x)


def _blank(study: Study) -> Signals:
    """What the study's networks would get of a clip that is silent and dark."""
    spec = study.clip
    wave, frames = np.zeros(spec.samples, np.float32), np.zeros((spec.frames, spec.size, spec.size, 3), np.uint8)
    seen = cut(Clip(wave, frames, (0.0, 0.0, 1.0, 1.0), ()), spec, study.view)
    return AV(
        audio=torch.from_numpy(seen.audio)[None], visual=torch.from_numpy(seen.visual)[None].movedim(-1, -3).float()
    )
