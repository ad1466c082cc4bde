"""Checks of a study before any work: an error should not come after hours of preparing clips."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from avrobust.extras import needs
from avrobust.media.decode import Clip
from avrobust.media.spec import ClipSpec
from avrobust.models.network import Network, Spec
from avrobust.models.own import OwnNet
from avrobust.study.jobs import weights_of
from avrobust.study.plan import Study
from avrobust.training.loop import refuse_unknown_tracker
from avrobust.training.views import View, cut
from avrobust.types import AV, Signals


def check(study: Study, clips: Mapping[str, int], out: Path, *, data: Path, tracker: str | None = None) -> None:
    """Raise a `ValueError` or an `OSError` for a study that cannot run.

    `clips` are the numbers of listed clips by split.  Every network that is not trained yet is built and run on a blank
    clip, which finds unavailable image weights, a view that is too small, and a user's network of another form.
    """
    refuse_unknown_tracker(tracker)
    with needs("report"):
        import avrobust.report.page  # noqa: F401, before any work: it is written at the end
    for folder in (out, data):
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder}: expected a folder or nothing yet, got a file. Name another place.")
    trained = any(c.epochs != 0 for c in study.models)
    if lacking := [split for split in (*(["train", "val"] if trained else []), "test") if not clips.get(split)]:
        raise ValueError(
            f"expected clips in the split{'s' if len(lacking) > 1 else ''} {' and '.join(lacking)}, got none of "
            f"{sum(clips.values())}. A study trains on train, chooses epochs by val and attacks test: divide the clips."
        )
    untrained = [c for c in study.models for s in study.seeds if not weights_of(out, c.name, s).exists()]
    built: list[Spec] = []
    for c in untrained:
        if c.spec not in built:
            built.append(c.spec)
            try:
                rehearsed(c.spec.for_clips(2, study.clip.rate), 0, study.clip, study.view)
            except (ValueError, OSError) as error:
                raise type(error)(f"'{c.name}': {error}") from error


@torch.no_grad()
def rehearsed(spec: Spec, seed: int, clip: ClipSpec, view: View) -> Network:
    """The network of a spec, once it is known that it answers a blank clip with one number per class.

    Raises `ValueError` where it does not, and `OSError` where its weights cannot be fetched.
    """
    net, x = spec.build(seed), _blank(clip, view)
    net.refuse_other_rate(clip.rate)
    training = net.training
    net.eval()
    try:
        logits = net(x)
        whole = net.network(x) if isinstance(net, OwnNet) and net.two_streams else logits
    except Exception as error:  # a user's code may fail in any way
        raise ValueError(
            f"expected a network that answers a clip of {view}, got {type(error).__name__}: {error} Change the view of the "
            "clips, or what the network takes."
        ) from error
    if not isinstance(logits, torch.Tensor) or logits.shape != (1, spec.classes):
        raise ValueError(
            f"expected logits (1, {spec.classes}) for one clip of {spec.classes} classes, got "
            f"{tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__}. Use the argument "
            "`classes` for the size of its last layer."
        )
    if not torch.allclose(logits, whole, rtol=1e-3, atol=1e-5):
        raise ValueError(
            "expected a network that answers with decide(embed(x)), got other logits from calling it. Let forward be "
            "decide(embed(x)), or rename these two methods."
        )
    return net.train(training)


def _blank(spec: ClipSpec, view: View) -> Signals:
    """The view of a silent, black clip."""
    wave, frames = np.zeros(spec.samples, np.float32), np.zeros((spec.frames, spec.size, spec.size, 3), np.uint8)
    seen = cut(Clip(wave, frames, (0.0, 0.0, 1.0, 1.0), ()), spec, view)
    return AV(
        audio=torch.from_numpy(seen.audio)[None], visual=torch.from_numpy(seen.visual)[None].movedim(-1, -3).float()
    )
